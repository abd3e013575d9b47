"""Small networks of each kind for the tests of the conversion."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import onnx
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from converters.conversion import Converted, convert
from converters.network import Request


def small_unet(size: int | None = 32) -> keras.Model:
    inputs = keras.Input((size, size, 1))
    x = skip = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D()(layers.BatchNormalization()(x))
    x = layers.Conv2DTranspose(4, 2, strides=2)(x)
    x = layers.Concatenate()([x, skip])
    return keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x))


def small_detector() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def converted(source: Path, out: Path, precision: str = "float32", **request: object) -> Converted:
    return convert(Request(source, **request), out, precision)


def write_onnx(
    path: Path,
    shape: tuple[int | str, ...],
    *,
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
    inputs: tuple[str, ...] = ("pixels",),
    batch: int | None = None,
) -> Path:
    """Write a segmenter as another framework exports it: sigmoid(conv(pixels)), channels first.

    ``batch`` writes a Reshape to that batch, which then cannot be any other.
    """
    kernel = np.random.default_rng(0).normal(size=(1, 1, 3, 3))
    weights = numpy_helper.from_array(kernel.astype(helper.tensor_dtype_to_np_dtype(kind)), "kernel")
    nodes = [
        helper.make_node("Conv", [inputs[0], "kernel"], ["logits"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["logits"], ["mask"]),
    ]
    initializers = [weights]
    if batch is not None:
        nodes[1].output[0] = "flat"
        nodes.append(helper.make_node("Reshape", ["flat", "shape"], ["mask"]))
        sides = np.array([batch, 1, 32, 32], np.int64)
        initializers.append(numpy_helper.from_array(sides, "shape"))
    graph = helper.make_graph(
        nodes,
        "segmenter",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info("mask", kind, shape)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path
