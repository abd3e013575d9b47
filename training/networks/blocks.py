"""What the networks are made of."""

from __future__ import annotations

from keras import KerasTensor, layers

MOMENTUM = 0.9  # of batch normalisation; Keras' 0.99 lags behind in trainings as short as these


def double_convolution(x: KerasTensor, filters: int) -> KerasTensor:
    """Apply 2 x [Conv 3 x 3, BatchNorm, ReLU]."""
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=MOMENTUM)(x)
        x = layers.Activation("relu")(x)
    return x
