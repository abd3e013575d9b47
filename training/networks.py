"""The networks, by name.

All take NHWC float32 squares in 0..1 and answer probabilities. One channel is the slice itself; more
are the slice between its neighbours. They are plain Keras 3 and train on any of its backends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers

from training.imagenet import efficientnet_lite0
from training.recipe import DataRecipe, NetworkRecipe

# of EfficientNet-Lite0's stages: kernel, strides, expansion, filters, repeats
LITE0 = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
# side of a cell of their layer "cells"
CELL_PIXELS = {"thesis_detector": 16, "unet_detector": 4, "efficientnet_detector": 8}
MOMENTUM = 0.9  # of batch normalisation; Keras' 0.99 lags behind in trainings as short as these


def thesis_detector(
    size: int = 256,
    channels: int = 1,
    filters: Sequence[int] = (16, 32, 64, 64),
    dense: Sequence[int] = (128, 64, 32),
    dropout: float = 0.3,
) -> keras.Model:
    """Answer whether a slice shows tumour: (n, size, size, 1) to (n, 1).

    4 x [Conv, BatchNorm, MaxPool], Flatten, 3 x [Dense, Dropout], sigmoid. With the defaults it
    has 2.2 million parameters, nearly all of them in the first dense layer.
    """
    inputs = x = keras.Input((size, size, channels), name="image")
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
    if isinstance(detector.get_layer("cells"), layers.Conv2D):
        coverage = layers.Activation("sigmoid", name="coverage")(cells)
    else:
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


def thesis_unet(size: int = 128, channels: int = 1, base: int = 16) -> keras.Model:
    """Answer per pixel: (n, size, size, 1) to (n, size, size, 1).

    4 encoder blocks of two convolutions, a bridge, 4 decoder blocks with skips, sigmoid. The
    filters double from ``base`` at each level; with 16 it has 1.95 million parameters. ``size``
    must be a multiple of 16.
    """
    inputs = keras.Input((size, size, channels), name="image")
    x = _decoder(*_encoder(inputs, base), base)
    outputs = layers.Conv2D(1, 1, activation="sigmoid", name="probability")(x)
    return keras.Model(inputs, outputs, name="thesis_unet")


def unet_detector(
    size: int = 128, channels: int = 1, base: int = 16, dense: int = 32, dropout: float = 0.3
) -> keras.Model:
    """Answer whether a slice shows tumour: (n, size, size, 1) to (n, 1).

    :func:`thesis_unet` up to its second decoder block, a quarter of the input's resolution; then
    the largest and the mean value of each feature, Dense, Dropout, sigmoid. It is meant to start
    from a trained U-Net, which knows already what tumour looks like. With the defaults it has 1.9
    million parameters and takes about two thirds of the time of that U-Net.
    """
    inputs = keras.Input((size, size, channels), name="image")
    x = _decoder(*_encoder(inputs, base), base, blocks=2)
    x = layers.Activation("linear", name="cells")(x)
    x = layers.Concatenate()([layers.GlobalMaxPooling2D()(x), layers.GlobalAveragePooling2D()(x)])
    x = layers.Dense(dense, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    outputs = layers.Dense(1, activation="sigmoid", name="probability")(x)
    return keras.Model(inputs, outputs, name="unet_detector")


def resnet50_unet(
    size: int = 128, channels: int = 1, decoder: Sequence[int] = (512, 256, 128, 64)
) -> keras.Model:
    """Answer per pixel with a ResNet50 encoder: (n, size, size, 1) to (n, size, size, 1).

    The first four stages of ``keras.applications.ResNet50`` with random weights, a decoder of
    Conv2DTranspose with skips from the end of each stage and from the input, sigmoid. With the
    defaults it has 20.7 million parameters. ``size`` must be a multiple of 16.
    """
    encoder = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(size, size, channels))
    ends = ("conv1_relu", "conv2_block3_out", "conv3_block4_out")
    skips = [encoder.input, *(encoder.get_layer(name).output for name in ends)]
    x = encoder.get_layer("conv4_block6_out").output
    for filters, skip in zip(decoder, reversed(skips), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, skip])
        x = _double_convolution(x, filters)
    outputs = layers.Conv2D(1, 1, activation="sigmoid", name="probability")(x)
    return keras.Model(encoder.input, outputs, name="resnet50_unet")


def _lite0_encoder(image: KerasTensor) -> tuple[KerasTensor, list[KerasTensor]]:
    """Give the last features of EfficientNet-Lite0 at a 32nd of the resolution, and five skips."""

    def normalised(x: KerasTensor) -> KerasTensor:
        return layers.BatchNormalization(momentum=MOMENTUM)(x)

    def expanded(x: KerasTensor, filters: int) -> KerasTensor:
        return layers.ReLU(6)(normalised(layers.Conv2D(filters, 1, use_bias=False)(x)))

    skips = [image]
    x = layers.Rescaling(2.0, -1.0)(image)
    x = layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU(6)(normalised(x))
    for kernel, strides, expansion, filters, repeats in LITE0:
        for number in range(repeats):
            step = strides if number == 0 else 1
            if step == 2:
                skips.append(x)
            y = expanded(x, x.shape[-1] * expansion) if expansion > 1 else x
            y = layers.DepthwiseConv2D(kernel, strides=step, padding="same", use_bias=False)(y)
            y = layers.ReLU(6)(normalised(y))
            y = normalised(layers.Conv2D(filters, 1, use_bias=False)(y))
            x = layers.Add()([x, y]) if step == 1 and x.shape[-1] == filters else y
    return x, skips


def _lite0_decoder(x: KerasTensor, skips: list[KerasTensor], filters: Sequence[int]) -> KerasTensor:
    """Go up one level for each number of filters."""
    for count, skip in zip(filters, reversed(skips), strict=False):
        x = layers.Conv2DTranspose(count, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, skip])
        x = _double_convolution(x, count)
    return x


def efficientnet_unet(
    size: int = 192, channels: int = 1, decoder: Sequence[int] = (96, 64, 48, 32, 16)
) -> keras.Model:
    """Answer per pixel with an EfficientNet-Lite0 encoder: (n, size, size, channels) to (n, size, size, 1).

    The encoder without its classifier, whose ImageNet weights ``start = "imagenet"`` loads; a decoder of
    Conv2DTranspose with skips from the end of each resolution and from the input, sigmoid. With the
    defaults it has 3.6 million parameters. ``size`` must be a multiple of 32.
    """
    inputs = keras.Input((size, size, channels), name="image")
    x = _lite0_decoder(*_lite0_encoder(inputs), decoder)
    outputs = layers.Conv2D(1, 1, activation="sigmoid", name="probability")(x)
    return keras.Model(inputs, outputs, name="efficientnet_unet")


def efficientnet_detector(
    size: int = 192, channels: int = 1, decoder: Sequence[int] = (96, 64)
) -> keras.Model:
    """Answer whether a slice shows tumour: (n, size, size, channels) to (n, 1).

    :func:`efficientnet_unet` up to an eighth of the input's resolution, where each cell is asked how much
    of it is tumour. The answer knows only the largest (over 2 x 2 cells) and the mean of that: it can
    only be yes where some place looks like tumour, whatever scanner or data set a slice comes from.
    """
    inputs = keras.Input((size, size, channels), name="image")
    x = _lite0_decoder(*_lite0_encoder(inputs), decoder)
    cells = layers.Conv2D(1, 1, name="cells")(x)
    largest = layers.GlobalMaxPooling2D()(layers.AveragePooling2D(2, strides=1)(cells))
    mean = layers.GlobalAveragePooling2D()(layers.Activation("sigmoid")(cells))
    x = layers.Concatenate()([largest, mean])
    outputs = layers.Dense(1, activation="sigmoid", name="probability")(x)
    return keras.Model(inputs, outputs, name="efficientnet_detector")


CONSTRUCTORS: dict[str, Callable[..., keras.Model]] = {
    "thesis_detector": thesis_detector,
    "unet_detector": unet_detector,
    "thesis_unet": thesis_unet,
    "resnet50_unet": resnet50_unet,
    "efficientnet_unet": efficientnet_unet,
    "efficientnet_detector": efficientnet_detector,
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


def take_over_imagenet(target: keras.Model) -> int:
    """Give the encoder of a network with EfficientNet-Lite0 its ImageNet weights.

    The first convolution, made for three colours, is spread over the channels so that equal channels
    mean what an equal red, green and blue meant.

    Returns
    -------
    how many layers got weights
    """
    given = iter(efficientnet_lite0().items())
    count = 0
    for layer in target.layers:
        if isinstance(layer, layers.Conv2DTranspose):
            break  # here the decoder begins
        if not layer.weights:
            continue
        if isinstance(layer, layers.BatchNormalization):
            values = [next(given)[1] for _ in range(5)][:4]  # the fifth counts batches
        else:
            axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
            values = [next(given)[1].transpose(axes)]
            if count == 0:
                channels = target.input_shape[-1]
                values = [np.repeat(values[0].sum(axis=2, keepdims=True) / channels, channels, axis=2)]
        layer.set_weights(values)
        count += 1
    return count


def build(recipe: NetworkRecipe, data: DataRecipe) -> keras.Model:
    """Make the network that a recipe names."""
    arguments: dict[str, Any] = dict(recipe.arguments)
    return CONSTRUCTORS[recipe.name](size=data.size, channels=2 * data.context + 1, **arguments)
