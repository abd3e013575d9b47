"""Figures of merit of many weighted samples of volumes at once.

Weights are (draws, volumes): how often each volume counts in each draw (:mod:`training.bootstrap`).
A figure is an array (draws,), not a number where there is nothing to divide by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CALIBRATION_BINS = 10
PIXELS = ("overlap", "only_answer", "only_truth", "neither")

Weights = NDArray[np.float64]
Values = NDArray[np.float64]
Figures = dict[str, Values]


@dataclass(frozen=True)
class VolumeAnswers:
    """What the networks said of one volume.

    Attributes
    ----------
    name, data, unit, disease, is_series : as in :class:`training.volumes.Volume`
    truth : bool, (slices,); whether the mask has any pixel
    probability : float, (slices,); of the detector
    pixels : int, (slices, 4); how many pixels are in the segmenter's mask and the true one, only in the
        first, only in the second, in neither
    """

    name: str
    truth: NDArray[np.bool_]
    probability: NDArray[np.float32]
    pixels: NDArray[np.int64]
    data: str = ""
    unit: str = ""
    disease: str = ""
    is_series: bool = True

    def part(self, slices: slice) -> VolumeAnswers:
        """Keep some of its slices."""
        return replace(
            self,
            truth=self.truth[slices],
            probability=self.probability[slices],
            pixels=self.pixels[slices],
        )


def _ratio(part: Values, whole: Values) -> Values:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole != 0))


def dice(pixels: NDArray[np.integer | np.floating]) -> Values:
    """Give the Dice of counts as in ``VolumeAnswers.pixels``, (..., 4); not a number where both are empty."""
    overlap, extra, missed = np.moveaxis(np.asarray(pixels, np.float64), -1, 0)[:3]
    return _ratio(2.0 * overlap, 2.0 * overlap + extra + missed)


def slices_of(
    volumes: Sequence[VolumeAnswers],
) -> tuple[NDArray[np.bool_], Values, NDArray[np.int64]]:
    """Join the slices of volumes: truth, probability and the number of the volume, all (slices,)."""
    truth = np.concatenate([volume.truth for volume in volumes])
    probability = np.concatenate([volume.probability for volume in volumes]).astype(np.float64)
    return truth, probability, np.repeat(np.arange(len(volumes)), [len(v.truth) for v in volumes])


def _per_volume(values: NDArray[np.generic], volume: NDArray[np.int64], count: int) -> Values:
    """Add up slices, (slices,), by volume, (count,)."""
    return np.bincount(volume, weights=values.astype(np.float64), minlength=count).astype(np.float64)


def _ordered_pairs(truth: NDArray[np.bool_], probability: Values, weights: Weights) -> tuple[Values, Values]:
    """Count pairs of a positive and a negative slice, and those in the right order; ties count half.

    ``weights`` are those of the slices, (draws, slices).
    """
    order = np.argsort(probability, kind="stable")
    levels = np.flatnonzero(np.diff(probability[order], prepend=-1.0))  # where a new probability begins
    positive = np.add.reduceat(weights[:, order] * truth[order], levels, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~truth[order], levels, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return (positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1)


def area_under_roc(volumes: Sequence[VolumeAnswers], weights: Weights) -> Values:
    """Chance that a positive slice has a higher probability than a negative one of the same data set."""
    right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for data in {volume.data for volume in volumes}:
        own = [index for index, volume in enumerate(volumes) if volume.data == data]
        truth, probability, volume = slices_of([volumes[index] for index in own])
        more_right, more = _ordered_pairs(truth, probability, weights[:, own][:, volume])
        right, pairs = right + more_right, pairs + more
    return _ratio(right, pairs)


def calibration_error(volumes: Sequence[VolumeAnswers], weights: Weights) -> Values:
    """Expected calibration error over ten equal bins: mean gap of probability and frequency."""
    truth, probability, volume = slices_of(volumes)
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gap = np.zeros((len(volumes), CALIBRATION_BINS))
    np.add.at(gap, (volume, bins), probability - truth)
    count = np.array([len(volume.truth) for volume in volumes])
    return np.asarray(np.abs(weights @ gap).sum(axis=1) / (weights @ count))


def detector_figures(volumes: Sequence[VolumeAnswers], weights: Weights, threshold: float) -> Figures:
    """Judge slices: a slice at or above the threshold is positive.

    ``recall_ends`` is that of tumour slices with a neighbour that has none, or with only one neighbour;
    volumes of a single slice have none of these.
    """
    truth, probability, volume = slices_of(volumes)
    ends = truth & ~np.concatenate([ndimage.binary_erosion(v.truth) for v in volumes])
    ends &= np.array([len(v.truth) > 1 for v in volumes])[volume]
    positive = probability >= threshold

    def total(chosen: NDArray[np.bool_]) -> Values:
        return np.asarray(weights @ _per_volume(chosen, volume, len(volumes)))

    hits, false, missed = total(positive & truth), total(positive & ~truth), total(~positive & truth)
    rest = total(~positive & ~truth)
    return {
        "accuracy": _ratio(hits + rest, hits + false + missed + rest),
        "precision": _ratio(hits, hits + false),
        "recall": _ratio(hits, hits + missed),
        "recall_ends": _ratio(total(positive & ends), total(ends)),
        "specificity": _ratio(rest, rest + false),
        "f1": _ratio(2 * hits, 2 * hits + false + missed),
        "auc": area_under_roc(volumes, weights),
        "ece": calibration_error(volumes, weights),
    }


def weighted_median(values: Values, weights: Weights) -> Values:
    """Give the median of values, (n,), each taken as often as its weight says, (draws, n)."""
    if not values.size:
        return np.full(len(weights), np.nan)
    order = np.argsort(values)
    upto = np.cumsum(weights[:, order], axis=1)
    count = upto[:, -1:]
    low = (upto > (count - 1) // 2).argmax(axis=1)
    high = (upto > count // 2).argmax(axis=1)
    median = (values[order][low] + values[order][high]) / 2
    return np.where(count[:, 0] > 0, median, np.nan)


def _spread(values: Values, weights: Weights) -> tuple[Values, Values]:
    """Give weighted mean and median of the values that are defined."""
    defined = ~np.isnan(values)
    chosen, own = values[defined], weights[:, defined]
    return _ratio(own @ chosen, own.sum(axis=1)), weighted_median(chosen, own)


def segmenter_figures(volumes: Sequence[VolumeAnswers], weights: Weights) -> Figures:
    """Judge pixels of all slices, pooled, and Dice by patient and by slice.

    ``dice_patient`` is that of each series (a patient's exam); volumes that are single slices have none.
    A series whose mask and answer are both empty has no Dice of its own and is left out of mean and
    median. ``dice_slice`` is that of slices with tumour. False positives on empty slices count in every
    figure but this.
    """
    whole = np.stack([volume.pixels.sum(axis=0) for volume in volumes]).astype(np.float64)
    overlap, extra, missed, rest = (weights @ whole).T
    by_volume = np.where([volume.is_series for volume in volumes], dice(whole), np.nan)
    truth, _, volume = slices_of(volumes)
    by_slice = np.where(truth, dice(np.concatenate([v.pixels for v in volumes])), np.nan)
    patient_mean, patient_median = _spread(by_volume, weights)
    slice_mean, slice_median = _spread(by_slice, weights[:, volume])
    return {
        "dice_pooled": _ratio(2 * overlap, 2 * overlap + extra + missed),
        "dice_patient_mean": patient_mean,
        "dice_patient_median": patient_median,
        "dice_slice_mean": slice_mean,
        "dice_slice_median": slice_median,
        "iou_pooled": _ratio(overlap, overlap + extra + missed),
        "recall": _ratio(overlap, overlap + missed),
        "precision": _ratio(overlap, overlap + extra),
        "pixel_accuracy": _ratio(overlap + rest, overlap + extra + missed + rest),
    }


def series_figures(volumes: Sequence[VolumeAnswers], weights: Weights, threshold: float) -> Figures:
    """Judge whole series; volumes that are single slices do not count.

    ``sensitivity`` is the fraction of series with tumour in which at least one tumour slice is
    positive, ``false_slices_per_series`` the mean number of positive slices without tumour.
    """
    ill = np.array([v.is_series and v.truth.any() for v in volumes], np.float64)
    found = np.array([v.is_series and (v.truth & (v.probability >= threshold)).any() for v in volumes])
    false = [v.is_series * np.count_nonzero(~v.truth & (v.probability >= threshold)) for v in volumes]
    series = np.array([v.is_series for v in volumes], np.float64)
    return {
        "sensitivity": _ratio(weights @ found.astype(np.float64), weights @ ill),
        "false_slices_per_series": _ratio(weights @ np.array(false, np.float64), weights @ series),
    }
