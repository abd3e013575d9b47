"""The networks, by name.

All take NHWC float32 squares in 0..1 with one channel and answer probabilities. They are plain
Keras 3 and train on any of its backends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import KerasTensor, layers

from training.recipe import NetworkRecipe

CELL_PIXELS = {"thesis_detector": 16, "unet_detector": 4}  # side of a cell of their layer "cells"
MOMENTUM = 0.9  # of batch normalisation; Keras' 0.99 lags behind in trainings as short as these


def thesis_detector(
    size: int = 256,
    filters: Sequence[int] = (16, 32, 64, 64),
    dense: Sequence[int] = (128, 64, 32),
    dropout: float = 0.3,
) -> keras.Model:
    """Answer whether a slice shows tumour: (n, size, size, 1) to (n, 1).

    4 x [Conv, BatchNorm, MaxPool], Flatten, 3 x [Dense, Dropout], sigmoid. With the defaults it
    has 2.2 million parameters, nearly all of them in the first dense layer.
    """
    inputs = x = keras.Input((size, size, 1), name="image")
    for number, count in enumerate(filters, start=1):
        x = layers.Conv2D(count, 3, padding="same", activation="relu")(x)
        x = layers.BatchNormalization(momentum=MOMENTUM)(x)
        x = layers.MaxPooling2D(name="cells" if number == len(filters) else f"pool_{number}")(x)
    x = layers.Flatten()(x)
    for units in dense:
        x = layers.Dense(units, activation="relu")(x)
        x = layers.Dropout(dropout)(x)
    outputs = layers.Dense(1, activation="sigmoid", name="probability")(x)
    return keras.Model(inputs, outputs, name="thesis_detector")


def with_localisation(detector: keras.Model) -> keras.Model:
    """Give a detector, for its training, a second answer: the tumour's part of each of its ``cells``.

    Both answers are named, ``probability`` and ``coverage``; :func:`without_localisation` undoes it.
    """
    cells = detector.get_layer("cells").output
    coverage = layers.Conv2D(1, 1, activation="sigmoid", name="coverage")(cells)
    answers = {"probability": detector.output, "coverage": coverage}
    return keras.Model(detector.input, answers, name=detector.name)


def without_localisation(model: keras.Model) -> keras.Model:
    """Cut the second answer off; the layers are shared, not copied."""
    return keras.Model(model.input, model.get_layer("probability").output, name=model.name)


def _double_convolution(x: KerasTensor, filters: int) -> KerasTensor:
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=MOMENTUM)(x)
        x = layers.Activation("relu")(x)
    return x


def _encoder(x: KerasTensor, base: int) -> tuple[KerasTensor, list[KerasTensor]]:
    """Give the bridge of a U-Net, and the four skips on the way to it."""
    skips = []
    for level in range(4):
        x = _double_convolution(x, base << level)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    return _double_convolution(x, base << 4), skips


def _decoder(x: KerasTensor, skips: list[KerasTensor], base: int, blocks: int = 4) -> KerasTensor:
    """Go ``blocks`` levels up again."""
    for level in range(3, 3 - blocks, -1):
        x = layers.Conv2DTranspose(base << level, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, skips[level]])
        x = _double_convolution(x, base << level)
    return x


def thesis_unet(size: int = 128, base: int = 16) -> keras.Model:
    """Answer per pixel: (n, size, size, 1) to (n, size, size, 1).

    4 encoder blocks of two convolutions, a bridge, 4 decoder blocks with skips, sigmoid. The
    filters double from ``base`` at each level; with 16 it has 1.95 million parameters. ``size``
    must be a multiple of 16.
    """
    inputs = keras.Input((size, size, 1), name="image")
    x = _decoder(*_encoder(inputs, base), base)
    outputs = layers.Conv2D(1, 1, activation="sigmoid", name="probability")(x)
    return keras.Model(inputs, outputs, name="thesis_unet")


def unet_detector(size: int = 128, base: int = 16, dense: int = 32, dropout: float = 0.3) -> keras.Model:
    """Answer whether a slice shows tumour: (n, size, size, 1) to (n, 1).

    :func:`thesis_unet` up to its second decoder block, a quarter of the input's resolution; then
    the largest and the mean value of each feature, Dense, Dropout, sigmoid. It is meant to start
    from a trained U-Net, which knows already what tumour looks like. With the defaults it has 1.9
    million parameters and takes about two thirds of the time of that U-Net.
    """
    inputs = keras.Input((size, size, 1), name="image")
    x = _decoder(*_encoder(inputs, base), base, blocks=2)
    x = layers.Activation("linear", name="cells")(x)
    x = layers.Concatenate()([layers.GlobalMaxPooling2D()(x), layers.GlobalAveragePooling2D()(x)])
    x = layers.Dense(dense, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    outputs = layers.Dense(1, activation="sigmoid", name="probability")(x)
    return keras.Model(inputs, outputs, name="unet_detector")


def resnet50_unet(size: int = 128, decoder: Sequence[int] = (512, 256, 128, 64)) -> keras.Model:
    """Answer per pixel with a ResNet50 encoder: (n, size, size, 1) to (n, size, size, 1).

    The first four stages of ``keras.applications.ResNet50`` with random weights, a decoder of
    Conv2DTranspose with skips from the end of each stage and from the input, sigmoid. With the
    defaults it has 20.7 million parameters. ``size`` must be a multiple of 16.
    """
    encoder = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(size, size, 1))
    ends = ("conv1_relu", "conv2_block3_out", "conv3_block4_out")
    skips = [encoder.input, *(encoder.get_layer(name).output for name in ends)]
    x = encoder.get_layer("conv4_block6_out").output
    for filters, skip in zip(decoder, reversed(skips), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, skip])
        x = _double_convolution(x, filters)
    outputs = layers.Conv2D(1, 1, activation="sigmoid", name="probability")(x)
    return keras.Model(encoder.input, outputs, name="resnet50_unet")


CONSTRUCTORS: dict[str, Callable[..., keras.Model]] = {
    "thesis_detector": thesis_detector,
    "unet_detector": unet_detector,
    "thesis_unet": thesis_unet,
    "resnet50_unet": resnet50_unet,
}


def take_over(source: keras.Model, target: keras.Model) -> int:
    """Give the layers of ``target``, from its input on, the weights of those of ``source``.

    It ends at the first pair of layers whose weights differ in shape. A fully convolutional network
    thus carries over to another size, and a U-Net's encoder to a detector.

    Returns
    -------
    how many layers got weights
    """
    own = [layer for layer in target.layers if layer.weights]
    count = 0
    for layer, given in zip(own, (layer for layer in source.layers if layer.weights), strict=False):
        if [weight.shape for weight in layer.weights] != [weight.shape for weight in given.weights]:
            break
        layer.set_weights(given.get_weights())
        count += 1
    return count


def build(recipe: NetworkRecipe, size: int) -> keras.Model:
    """Make the network that a recipe names."""
    arguments: dict[str, Any] = dict(recipe.arguments)
    return CONSTRUCTORS[recipe.name](size=size, **arguments)
