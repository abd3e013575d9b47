"""The network of the second work: a U-Net whose encoder is ResNet50."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from training.networks.blocks import MOMENTUM, double_convolution


def resnet50_unet(
    size: int = 128, channels: int = 1, decoder: Sequence[int] = (512, 256, 128, 64)
) -> keras.Model:
    """Answer per pixel with a ResNet50 encoder: (n, size, size, channels) to (n, size, size, 1).

    The first four stages of ``keras.applications.ResNet50`` with random weights, a decoder of
    Conv2DTranspose with skips from the end of each stage and from the input, sigmoid. With the
    defaults it has 20.7 million parameters. ``size`` must be a multiple of 16.
    """
    encoder = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(size, size, channels))
    for layer in encoder.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = MOMENTUM
    ends = ("conv1_relu", "conv2_block3_out", "conv3_block4_out")
    skips = [encoder.input, *(encoder.get_layer(name).output for name in ends)]
    x = encoder.get_layer("conv4_block6_out").output
    for filters, skip in zip(decoder, reversed(skips), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, skip])
        x = double_convolution(x, filters)
    outputs = layers.Conv2D(1, 1, activation="sigmoid", name="probability")(x)
    return keras.Model(encoder.input, outputs, name="resnet50_unet")
