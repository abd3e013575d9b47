"""Write a float32 graph in float16 or int8; input and output stay float32."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from converters.errors import ConversionError
from converters.network import Precision
from converters.onnx_file import inputs_of, opset_of

# largest permitted difference of a probability; float32 usually differs by 2e-7
TOLERANCE: dict[Precision, float] = {"float32": 1e-5, "float16": 1e-2, "int8": 1e-2}
INT8_OPSET = 13  # the first with one scale per channel


def in_precision(
    graph: onnx.ModelProto, precision: Precision, images: NDArray[np.float32]
) -> onnx.ModelProto:
    """Return the graph in another precision; ``images``, as it is fed, calibrate int8.

    Raises
    ------
    ConversionError
        When the graph is too old for int8.
    """
    if precision == "float16":
        return _float16(graph)
    if precision == "int8":
        return _int8(graph, images)
    return graph


def _float16(graph: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    with warnings.catch_warnings():
        # weights below 6e-8 become 0 and each is told; the comparison with the original judges them
        warnings.simplefilter("ignore", UserWarning)
        converted: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    OnnxModel.graph_topological_sort(converted.graph)  # its casts of the input come last
    return converted


class _Squares(CalibrationDataReader):  # type: ignore[misc]
    """Feeds the images one by one."""

    def __init__(self, name: str, images: NDArray[np.float32]) -> None:
        self._feeds = iter([{name: image[None]} for image in images])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


def _int8(graph: onnx.ModelProto, images: NDArray[np.float32]) -> onnx.ModelProto:
    if opset_of(graph) < INT8_OPSET:
        raise ConversionError(
            f"int8 needs operator set {INT8_OPSET} or later; the file has {opset_of(graph)}: export it anew"
        )
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, out = (Path(folder) / f"{part}.onnx" for part in ("source", "prepared", "out"))
        onnx.save(graph, str(source))
        level = logging.root.level
        logging.root.setLevel(logging.ERROR)  # it advises what is done here anyway
        try:
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                out,
                _Squares(inputs_of(graph)[0].name, images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                nodes_to_exclude=_last_layers(onnx.load(str(prepared)).graph),
            )
        finally:
            logging.root.setLevel(level)
        return onnx.load(str(out))


def _last_layers(graph: onnx.GraphProto) -> list[str]:
    """Name the nodes from the last weighted layer on: in int8 a probability would have 256 steps."""
    makers = {output: node for node in graph.node for output in node.output}
    names: list[str] = []
    tensor = graph.output[0].name
    while tensor in makers:
        node = makers[tensor]
        names.append(node.name)
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            break
        tensor = node.input[0]
    return names
