"""The shipped networks: a segmenter and a detector with EfficientNet-Lite0 as encoder."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import KerasTensor, layers

from training.networks.blocks import MOMENTUM, double_convolution

DROPOUT = 0.3  # of the detector's dense layer
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


def _encoder(image: KerasTensor) -> tuple[KerasTensor, list[KerasTensor]]:
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


def _decoder(x: KerasTensor, skips: list[KerasTensor], filters: Sequence[int]) -> KerasTensor:
    """Go up one level for each number of filters."""
    for count, skip in zip(filters, reversed(skips), strict=False):
        x = layers.Conv2DTranspose(count, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, skip])
        x = double_convolution(x, count)
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
    x = _decoder(*_encoder(inputs), decoder)
    outputs = layers.Conv2D(1, 1, activation="sigmoid", name="probability")(x)
    return keras.Model(inputs, outputs, name="efficientnet_unet")


def efficientnet_detector(
    size: int = 192, channels: int = 1, decoder: Sequence[int] = (96, 64), dense: int = 0
) -> keras.Model:
    """Answer whether a slice shows tumour: (n, size, size, channels) to (n, 1).

    :func:`efficientnet_unet` up to an eighth of the input's resolution, where each cell is asked how much
    of it is tumour. With ``dense`` 0 the answer knows only the largest (over 2 x 2 cells) and the mean of
    that: it can only be yes where some place looks like tumour, whatever scanner or data set a slice comes
    from. Otherwise a layer of ``dense`` units also sees the largest and the mean value of each feature: it
    finds more, where slices with and without tumour come from the same source.
    """
    inputs = keras.Input((size, size, channels), name="image")
    features = _decoder(*_encoder(inputs), decoder)
    cells = layers.Conv2D(1, 1, name="cells")(features)
    seen = [
        layers.GlobalMaxPooling2D()(layers.AveragePooling2D(2, strides=1)(cells)),
        layers.GlobalAveragePooling2D()(layers.Activation("sigmoid")(cells)),
    ]
    if dense:
        seen += [layers.GlobalMaxPooling2D()(features), layers.GlobalAveragePooling2D()(features)]
    x = layers.Concatenate()(seen)
    if dense:
        x = layers.Dropout(DROPOUT)(layers.Dense(dense, activation="relu")(x))
    outputs = layers.Dense(1, activation="sigmoid", name="probability")(x)
    return keras.Model(inputs, outputs, name="efficientnet_detector")
