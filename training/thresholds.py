"""Calibration and threshold of a network: chosen on validation patients, never on test patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from dicom_node.analysis.manifest import Calibration

DETECTOR_RULE = "highest F1 of validation slices with a sensitivity of at least {sensitivity:.2f}"
SEGMENTER_COST = 0.005  # a higher threshold outlines less beside the tumour
SEGMENTER_RULE = (
    "the highest at which pooled Dice of validation slices on the source grid is within "
    f"{SEGMENTER_COST} of its best"
)

CERTAIN = 1e-6  # nearer to 0 and 1 a float32 has no logit
MOST = 500_000  # pixels; more change nothing


def fit_calibration(truth: NDArray[np.bool_], probability: NDArray[np.floating]) -> Calibration:
    """Fit Platt's scaling to answers, (n,), by maximum likelihood; of very many, a fixed random part."""
    if len(truth) > MOST:
        chosen = np.random.default_rng(0).choice(len(truth), MOST, replace=False)
        truth, probability = truth[chosen], probability[chosen]
    raw = logit(np.clip(probability.astype(np.float64), CERTAIN, 1 - CERTAIN))
    fit = LogisticRegression(C=np.inf).fit(raw[:, None], truth)
    slope, offset = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    if slope <= 0:  # the network knows nothing; a calibration would turn it round
        return Calibration()
    return Calibration(slope=round(slope, 4), offset=round(offset, 4))


def detector_threshold(
    truth: NDArray[np.bool_], probability: NDArray[np.floating], sensitivity: float = 0.95
) -> float:
    """Choose among the midpoints between neighbouring probabilities, (n,), by :data:`DETECTOR_RULE`."""
    values = np.unique(probability.astype(np.float64))
    candidates = np.concatenate([[values[0] / 2], (values[1:] + values[:-1]) / 2])
    positive = probability[None, :] >= candidates[:, None]
    hits = (positive & truth).sum(axis=1)
    f1 = 2 * hits / (positive.sum(axis=1) + truth.sum())
    allowed = hits >= sensitivity * truth.sum()  # the lowest candidate always is
    return float(candidates[np.argmax(np.where(allowed, f1, -1.0))])


def segmenter_threshold(
    pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.floating]]],
) -> tuple[float, float]:
    """Choose a multiple of 0.05 by :data:`SEGMENTER_RULE`.

    Parameters
    ----------
    pairs : (mask, probability) of each slice or volume

    Returns
    -------
    threshold, and the pooled Dice at it
    """
    candidates = np.round(np.arange(0.1, 0.96, 0.05), 2)
    overlap, marked = np.zeros(len(candidates)), np.zeros(len(candidates))
    for mask, probability in pairs:
        for index, candidate in enumerate(candidates):
            answer = probability >= candidate
            overlap[index] += np.count_nonzero(answer & mask)
            marked[index] += np.count_nonzero(answer) + np.count_nonzero(mask)
    dice = 2 * overlap / np.maximum(marked, 1)
    chosen = int(np.flatnonzero(dice >= dice.max() - SEGMENTER_COST)[-1])
    return float(candidates[chosen]), float(dice[chosen])
