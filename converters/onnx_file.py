"""Read a network that is ONNX already, whoever exported it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from converters.errors import ConversionError
from converters.images import squares_to_compare
from converters.network import BATCH_NAME, Original, Request, read_answers, read_input
from dicom_node.analysis.channels import in_channels

OLDEST_OPSET = 7  # ONNX Runtime reads no older one


def read_onnx(request: Request) -> Original:
    """Read the file, let it answer the images one by one, and make its batch dynamic.

    Raises
    ------
    ConversionError
        When it is no ONNX file, ONNX Runtime cannot run it, or it does not fit the node.
    """
    path = request.source
    try:
        graph = onnx.load(str(path))
    except Exception as error:  # protobuf's parser and missing external weights share no base
        raise ConversionError(f"{path} is no ONNX file: {error}") from error
    _check_opset(request, graph)
    shape = _input_shape(path, graph)
    first = len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)
    taken = read_input(request, shape, "NCHW" if first else "NHWC")
    images = in_channels(squares_to_compare(request.images, taken.size), taken.channels, taken.layout)
    session = _session(path)
    (name,) = [value.name for value in session.get_inputs()]
    answers = [session.run(None, {name: image[None]})[0] for image in images]
    role, squeezed = read_answers(request, np.concatenate(answers), taken)
    _free_batch(graph)
    reader = f"ONNX Runtime {ort.__version__}"
    return Original(graph, taken, role, images, squeezed, reader, ("onnx",))


def opset_of(graph: onnx.ModelProto) -> int:
    """Return the version of the standard operator set."""
    return int(max((o.version for o in graph.opset_import if o.domain in ("", "ai.onnx")), default=0))


def inputs_of(graph: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that must be fed; graphs of old exporters list their weights among them."""
    weights = {tensor.name for tensor in graph.graph.initializer}
    return [value for value in graph.graph.input if value.name not in weights]


def _check_opset(request: Request, graph: onnx.ModelProto) -> None:
    opset = opset_of(graph)
    if opset < OLDEST_OPSET:
        raise ConversionError(
            f"{request.source} is no ONNX network that can be run: operator set {opset}; "
            f"{OLDEST_OPSET} is the oldest"
        )
    if request.opset not in (None, opset):
        raise ConversionError(
            f"--opset {request.opset}: {request.source} is ONNX already and keeps its operator set {opset}"
        )


def _input_shape(path: Path, graph: onnx.ModelProto) -> tuple[int | None, ...]:
    inputs = inputs_of(graph)
    if len(inputs) != 1 or len(graph.graph.output) != 1:
        raise ConversionError(
            f"{path} has {len(inputs)} inputs and {len(graph.graph.output)} outputs; "
            "the node needs one of each"
        )
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise ConversionError(f"{path} takes {kind}; the node feeds FLOAT (32 bits)")
    return tuple(side.dim_value or None for side in tensor.shape.dim)


def _session(path: Path) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes share no nearer base
        raise ConversionError(f"ONNX Runtime {ort.__version__} cannot run {path}: {error}") from error


def _free_batch(graph: onnx.ModelProto) -> None:
    """Let the first dimension of input and output be any; shapes between are inferred anew."""
    for value in (*inputs_of(graph), *graph.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = BATCH_NAME
    graph.graph.ClearField("value_info")
