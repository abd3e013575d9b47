"""A network that TensorFlow can call becomes an ONNX graph, with its answers to compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.images import squares_to_compare
from converters.network import (
    BATCH_NAME,
    INPUT_NAME,
    OUTPUT_NAME,
    Input,
    Original,
    Request,
    read_answers,
    read_input,
    wanted_opset,
)
from dicom_node.analysis.channels import OFFSETS, in_channels

BATCH = 8  # images; enough for speed, small enough for the memory of a large U-Net


@dataclass(frozen=True)
class TracedNetwork:
    """A network in TensorFlow.

    Attributes
    ----------
    shape : of its input, None where it takes any
    call : (n, size, size, channels) float32 to its answer, in inference mode
    """

    shape: tuple[int | None, ...]
    call: Callable[[Any], Any]


def original_of(network: TracedNetwork, request: Request, reader: str, packages: tuple[str, ...]) -> Original:
    """Answer the images in TensorFlow, then convert.

    Raises
    ------
    ConversionError
        When the network does not fit the node, or tf2onnx cannot convert it.
    """
    opset = wanted_opset(request)
    taken = read_input(request, network.shape, "NHWC")
    images = in_channels(squares_to_compare(request.images, taken.size), taken.channels, "NHWC")
    role, answers = read_answers(request, _answers(network, request, images), taken)
    graph = _to_onnx(network, request, taken, opset)
    return Original(graph, taken, role, images, answers, reader, packages)


def _answers(network: TracedNetwork, request: Request, images: NDArray[np.float32]) -> NDArray[np.float32]:
    answers = []
    for start in range(0, len(images), BATCH):
        outputs = tf.nest.flatten(network.call(tf.constant(images[start : start + BATCH])))
        if len(outputs) != 1:
            raise ConversionError(f"{request.source} has {len(outputs)} outputs; the node reads one")
        answers.append(outputs[0].numpy())
    return np.concatenate(answers).astype(np.float32)


def _to_onnx(network: TracedNetwork, request: Request, taken: Input, opset: int) -> onnx.ModelProto:
    count = len(OFFSETS[taken.channels])
    signature = [tf.TensorSpec((None, taken.size, taken.size, count), tf.float32, name=INPUT_NAME)]

    def answer(image: Any) -> Any:  # noqa: ANN401 - tensors of TensorFlow, which has no types
        return tf.nest.flatten(network.call(image))[0]

    # from_keras fails on Sequential models; a function works for all
    function = tf.function(answer, input_signature=signature)
    try:
        graph: onnx.ModelProto = tf2onnx.convert.from_function(
            function, input_signature=signature, opset=opset
        )[0]
    except Exception as error:  # an operator without ONNX counterpart may surface as anything
        raise ConversionError(f"tf2onnx cannot convert {request.source}: {error}") from error
    _name_tensors(graph.graph)
    return graph


def _name_tensors(graph: onnx.GraphProto) -> None:
    """Give input, output and the batch dimension names that do not depend on the traced layers."""
    new = {graph.input[0].name: INPUT_NAME, graph.output[0].name: OUTPUT_NAME}
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = new.get(name, name)
    for value in (graph.input[0], graph.output[0]):
        value.name = new[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = BATCH_NAME
