"""Every figure of a set of answers with its interval, ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from training.bootstrap import with_intervals
from training.figures import (
    PIXELS,
    VolumeAnswers,
    detector_figures,
    segmenter_figures,
    series_figures,
    slices_of,
)

Table = dict[str, Any]


def counts(volumes: Sequence[VolumeAnswers]) -> Table:
    """Count what was measured on."""
    truth, _, _ = slices_of(volumes)
    return {
        "patients": len({(volume.data, volume.unit) for volume in volumes if volume.is_series}),
        "exams": sum(volume.is_series for volume in volumes),
        "blocks": len({(volume.data, volume.unit) for volume in volumes if not volume.is_series}),
        "slices": len(truth),
        "tumour_slices": int(truth.sum()),
    }


def confusion(volumes: Sequence[VolumeAnswers], threshold: float) -> dict[str, int]:
    """Count slices."""
    truth, probability, _ = slices_of(volumes)
    positive = probability >= threshold
    return {
        "true_positive": int((positive & truth).sum()),
        "false_positive": int((positive & ~truth).sum()),
        "false_negative": int((~positive & truth).sum()),
        "true_negative": int((~positive & ~truth).sum()),
    }


def detector_table(volumes: Sequence[VolumeAnswers], threshold: float) -> Table:
    """Judge slices."""
    return {
        **with_intervals(volumes, partial(detector_figures, threshold=threshold)),
        "threshold": threshold,
        "n": sum(len(volume.truth) for volume in volumes),
        "confusion": confusion(volumes, threshold),
    }


def _segmenter_table(volumes: Sequence[VolumeAnswers], threshold: float) -> Table:
    pixels = sum(volume.pixels.sum(axis=0) for volume in volumes)
    return {
        **with_intervals(volumes, segmenter_figures),
        "threshold": threshold,
        "n_slices": sum(len(volume.truth) for volume in volumes),
        "pixels": {name: int(count) for name, count in zip(PIXELS, pixels, strict=True)},
    }


def _by_disease(volumes: Sequence[VolumeAnswers]) -> Table:
    """Judge the pixels of each disease; nothing where the index names none."""
    table = {}
    for disease in sorted({volume.disease for volume in volumes} - {""}):
        own = [volume for volume in volumes if volume.disease == disease]
        table[disease] = {
            **with_intervals(own, segmenter_figures),
            "n_slices": sum(len(volume.truth) for volume in own),
        }
    return table


def all_figures(
    volumes: Sequence[VolumeAnswers], detector_threshold: float, segmenter_threshold: float
) -> Table:
    """Judge slices, pixels and series of all volumes together, and the pixels of each disease."""
    return {
        **counts(volumes),
        "detector": detector_table(volumes, detector_threshold),
        "segmenter": _segmenter_table(volumes, segmenter_threshold),
        "series": with_intervals(volumes, partial(series_figures, threshold=detector_threshold)),
        "by_disease": _by_disease(volumes),
    }
