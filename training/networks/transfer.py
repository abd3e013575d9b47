"""Weights to start from: of an earlier run, or of ImageNet."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from training.networks.imagenet import efficientnet_lite0


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
