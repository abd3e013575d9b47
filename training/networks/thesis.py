"""The networks of the first work: a CNN that detects and a U-Net of four levels."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from training.networks.blocks import MOMENTUM, double_convolution


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


def thesis_unet(size: int = 128, channels: int = 1, base: int = 16) -> keras.Model:
    """Answer per pixel: (n, size, size, channels) to (n, size, size, 1).

    4 encoder blocks of two convolutions, a bridge, 4 decoder blocks with skips, sigmoid. The
    filters double from ``base`` at each level; with 16 it has 1.95 million parameters. ``size``
    must be a multiple of 16.
    """
    inputs = x = keras.Input((size, size, channels), name="image")
    skips = []
    for level in range(4):
        x = double_convolution(x, base << level)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = double_convolution(x, base << 4)
    for level in reversed(range(4)):
        x = layers.Conv2DTranspose(base << level, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, skips[level]])
        x = double_convolution(x, base << level)
    outputs = layers.Conv2D(1, 1, activation="sigmoid", name="probability")(x)
    return keras.Model(inputs, outputs, name="thesis_unet")
