"""Figures of merit, and how sure they are: everything is resampled by patient.

Slices of one patient resemble each other, so an interval over slices would be too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class PatientAnswers:
    """What the networks said of one patient.

    Attributes
    ----------
    patient : the name in the index
    truth : bool, (slices,); whether the mask has any pixel
    probability : float, (slices,); of the detector
    overlap, only_answer, only_truth, neither : pixels of the whole volume, by the segmenter's mask
        and the true one
    """

    patient: str
    truth: NDArray[np.bool_]
    probability: NDArray[np.float32]
    overlap: int = 0
    only_answer: int = 0
    only_truth: int = 0
    neither: int = 0


Figures = dict[str, float]
Table = dict[str, float | list[float] | None]


def _ratio(part: float, whole: float) -> float:
    """Divide; not a number when there is nothing to divide by."""
    return float(part / whole) if whole else float("nan")


def area_under_roc(truth: NDArray[np.bool_], probability: NDArray[np.floating]) -> float:
    """Chance that a positive has a higher probability than a negative; ties count half."""
    positive = int(truth.sum())
    ranks = rankdata(probability)
    above = float(ranks[truth].sum()) - positive * (positive + 1) / 2
    return _ratio(above, positive * (len(truth) - positive))


def calibration_error(truth: NDArray[np.bool_], probability: NDArray[np.floating]) -> float:
    """Expected calibration error over ten equal bins: mean gap of probability and frequency."""
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gap = np.bincount(bins, weights=probability - truth, minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / len(truth))


def detector_figures(patients: Sequence[PatientAnswers], threshold: float) -> Figures:
    """Judge slices: a slice at or above the threshold is positive.

    ``recall_ends`` is that of tumour slices with a neighbour that has none, or with only one neighbour.
    """
    truth = np.concatenate([patient.truth for patient in patients])
    probability = np.concatenate([patient.probability for patient in patients]).astype(np.float64)
    ends = truth & ~np.concatenate([ndimage.binary_erosion(patient.truth) for patient in patients])
    positive = probability >= threshold
    hits = int((positive & truth).sum())
    return {
        "accuracy": float((positive == truth).mean()),
        "precision": _ratio(hits, positive.sum()),
        "recall": _ratio(hits, truth.sum()),
        "recall_ends": _ratio((positive & ends).sum(), ends.sum()),
        "f1": _ratio(2 * hits, positive.sum() + truth.sum()),
        "auc": area_under_roc(truth, probability),
        "ece": calibration_error(truth, probability),
    }


def segmenter_figures(patients: Sequence[PatientAnswers]) -> Figures:
    """Judge pixels of all slices, pooled, and Dice by patient.

    A patient whose mask and answer are both empty has no Dice of its own and is left out of mean
    and median; false positives on empty slices count in every figure.
    """
    overlap, extra, missed, rest = (
        sum(getattr(patient, name) for patient in patients)
        for name in ("overlap", "only_answer", "only_truth", "neither")
    )
    own = [_ratio(2 * p.overlap, 2 * p.overlap + p.only_answer + p.only_truth) for p in patients]
    defined = [dice for dice in own if not np.isnan(dice)] or [float("nan")]
    return {
        "dice_pooled": _ratio(2 * overlap, 2 * overlap + extra + missed),
        "dice_patient_mean": float(np.mean(defined)),
        "dice_patient_median": float(np.median(defined)),
        "iou_pooled": _ratio(overlap, overlap + extra + missed),
        "recall": _ratio(overlap, overlap + missed),
        "precision": _ratio(overlap, overlap + extra),
        "pixel_accuracy": _ratio(overlap + rest, overlap + extra + missed + rest),
    }


def series_figures(patients: Sequence[PatientAnswers], threshold: float) -> Figures:
    """Judge whole series.

    ``sensitivity`` is the fraction of series with tumour in which at least one tumour slice is
    positive, ``false_slices_per_series`` the mean number of positive slices without tumour.
    """
    ill = [patient for patient in patients if patient.truth.any()]
    found = sum(bool((p.truth & (p.probability >= threshold)).any()) for p in ill)
    false = sum(int((~p.truth & (p.probability >= threshold)).sum()) for p in patients)
    return {
        "sensitivity": _ratio(found, len(ill)),
        "false_slices_per_series": _ratio(false, len(patients)),
    }


def with_intervals(
    patients: Sequence[PatientAnswers],
    judge: Callable[[Sequence[PatientAnswers]], Figures],
    repeats: int = 1000,
    seed: int = 0,
) -> Table:
    """Give each figure and, as ``NAME_ci95``, its 95 % interval by a percentile bootstrap over patients.

    What is not defined, such as the precision where nothing was called positive, is None.
    """
    random = np.random.default_rng(seed)
    draws = [
        judge([patients[index] for index in random.integers(0, len(patients), len(patients))])
        for _ in range(repeats)
    ]
    table: Table = {}
    for name, value in judge(patients).items():
        # a draw may leave a figure undefined: no positives among the patients drawn
        values = [draw[name] for draw in draws if not np.isnan(draw[name])]
        table[name] = None if np.isnan(value) else value
        table[f"{name}_ci95"] = [float(end) for end in np.percentile(values, [2.5, 97.5])] if values else None
    return table
