"""Losses and scores of segmenters, in Keras operations only."""

from __future__ import annotations

import keras
from keras import KerasTensor, ops

SMOOTH = 1.0  # pixels; keeps an empty slice without answer from dividing 0 by 0


@keras.saving.register_keras_serializable(package="training")  # type: ignore[untyped-decorator]
def dice_loss(truth: KerasTensor, probability: KerasTensor) -> KerasTensor:
    """1 - Dice over the batch as a whole, with probabilities instead of a mask.

    Over the batch and not slice by slice: an empty slice has no Dice of its own, and its false
    positives count here all the same.
    """
    truth = ops.cast(truth, probability.dtype)
    overlap = ops.sum(truth * probability)
    return 1.0 - (2.0 * overlap + SMOOTH) / (ops.sum(truth) + ops.sum(probability) + SMOOTH)


@keras.saving.register_keras_serializable(package="training")  # type: ignore[untyped-decorator]
def dice_and_cross_entropy_loss(truth: KerasTensor, probability: KerasTensor) -> KerasTensor:
    """Dice loss plus the mean binary cross-entropy, which has a gradient where Dice alone stalls."""
    return dice_loss(truth, probability) + ops.mean(keras.losses.binary_crossentropy(truth, probability))


@keras.saving.register_keras_serializable(package="training")
class PooledDice(keras.metrics.Metric):  # type: ignore[misc]
    """Dice over all pixels of all slices together, at a probability of 0.5."""

    def __init__(self, name: str = "dice", dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self._overlap = self.add_weight(name="overlap", initializer="zeros")
        self._marked = self.add_weight(name="marked", initializer="zeros")

    def update_state(self, y_true: KerasTensor, y_pred: KerasTensor, sample_weight: None = None) -> None:
        """Add a batch; weights of samples are not supported and ignored."""
        del sample_weight
        truth = ops.cast(y_true, "float32")
        answer = ops.cast(y_pred >= 0.5, "float32")
        self._overlap.assign_add(ops.sum(truth * answer))
        self._marked.assign_add(ops.sum(truth) + ops.sum(answer))

    def result(self) -> KerasTensor:
        """1 when nothing is marked by either."""
        return (2.0 * self._overlap + 1e-6) / (self._marked + 1e-6)
