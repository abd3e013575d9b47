"""Write a Keras network as ONNX and prove that it still says the same."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime as ort

from converters.errors import ConversionError
from converters.keras_file import side

OPSET = 17  # tf2onnx refuses 19 and later
INPUT_NAME, OUTPUT_NAME, BATCH_NAME = "image", "probability", "n"
TOLERANCE = 1e-5  # float32 to float32; 2e-7 is usual


def export(model: keras.Model, path: Path, tolerance: float = TOLERANCE) -> float:
    """Convert a network and write it, unless its answers differ.

    Parameters
    ----------
    model : (n, size, size, 1) to (n, 1) or (n, size, size, 1)
    path : the ``.onnx`` to write; its input is called ``image``, its output ``probability``
    tolerance : largest permitted difference of any answer

    Returns
    -------
    The largest difference between Keras and ONNX Runtime that was seen.

    Raises
    ------
    ConversionError
        When the conversion fails, or an answer differs by more than the tolerance; nothing is written.
    """
    graph = to_onnx(model)
    difference = parity(model, graph)
    if not difference <= tolerance:
        raise ConversionError(
            f"the converted network differs from Keras by {difference:.2g}, more than {tolerance:.2g}; "
            f"{path} was not written"
        )
    onnx.save(graph, str(path))
    return difference


def to_onnx(model: keras.Model) -> onnx.ModelProto:
    """Convert by tracing the network in inference mode, and check the graph."""
    if keras.backend.backend() != "tensorflow":
        raise ConversionError("the conversion traces TensorFlow: set KERAS_BACKEND=tensorflow")
    import tensorflow as tf
    import tf2onnx

    size = side(model)
    signature = [tf.TensorSpec((None, size, size, 1), tf.float32, name=INPUT_NAME)]
    # from_keras fails on Sequential models; a function works for all
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    try:
        graph: onnx.ModelProto = tf2onnx.convert.from_function(
            function, input_signature=signature, opset=OPSET
        )[0]
    except Exception as error:  # an operator without ONNX counterpart may surface as anything
        raise ConversionError(f"tf2onnx cannot convert {model.name!r}: {error}") from error
    _name_tensors(graph.graph)
    onnx.checker.check_model(graph, full_check=True)
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


def parity(model: keras.Model, graph: onnx.ModelProto, slices: int = 3, seed: int = 0) -> float:
    """Return the largest difference of Keras and ONNX Runtime (CPU) on random squares in 0..1.

    Noise and smooth images are both used: noise alone leaves a network in one corner of its range.
    """
    size = side(model)
    random = np.random.default_rng(seed)
    noise = random.random((slices, size, size, 1), dtype=np.float32)
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    smooth = (ramp[:, None] * ramp[None, :])[None, :, :, None] * random.random(
        (slices, 1, 1, 1), dtype=np.float32
    )
    images = np.concatenate([noise, smooth]).astype(np.float32)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run([OUTPUT_NAME], {INPUT_NAME: images})
    expected = np.asarray(keras.ops.convert_to_numpy(model(images, training=False)))
    if answer.shape != expected.shape:
        raise ConversionError(
            f"the converted network answers {answer.shape} where Keras answers {expected.shape}"
        )
    return float(np.abs(answer - expected).max())
