"""The command ``evaluate``: a bundle's own files, through the node's own code, on labelled volumes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from converters.manifest_text import write_manifest
from dicom_node.analysis.bundle import Bundle, load_bundle
from dicom_node.series.normalisation import normalise
from training.cases import Case, data_folder, read_cases
from training.figures import (
    PatientAnswers,
    detector_figures,
    segmenter_figures,
    series_figures,
    with_intervals,
)
from training.plots import detector_curves
from training.report import markdown
from training.timing import speed

HEADLINES = {
    "slice_auc": ("detector", "auc"),
    "slice_recall": ("detector", "recall"),
    "slice_precision": ("detector", "precision"),
    "dice_pooled": ("segmenter", "dice_pooled"),
    "dice_patient_mean": ("segmenter", "dice_patient_mean"),
    "series_sensitivity": ("series", "sensitivity"),
    "false_slices_per_series": ("series", "false_slices_per_series"),
}

Metrics = dict[str, Any]


def answers(bundle: Bundle, cases: Iterator[Case]) -> Iterator[PatientAnswers]:
    """Run every slice of every case through both networks; pixels are taken to be square."""
    for case in cases:
        normalised = normalise(case.voxels, bundle.manifest.input)
        probability = bundle.detector.probabilities(normalised, 1.0, 1.0)
        marked = bundle.segmenter.probabilities(normalised, 1.0, 1.0) >= bundle.segmenter.threshold
        yield PatientAnswers(
            patient=case.patient,
            truth=case.has_tumour,
            probability=probability,
            overlap=int(np.count_nonzero(marked & case.mask)),
            only_answer=int(np.count_nonzero(marked & ~case.mask)),
            only_truth=int(np.count_nonzero(~marked & case.mask)),
            neither=int(np.count_nonzero(~marked & ~case.mask)),
        )


def measure(bundle: Bundle, patients: list[PatientAnswers]) -> Metrics:
    """Make the table of figures with their intervals."""
    limit = bundle.detector.threshold
    slices = sum(len(patient.truth) for patient in patients)
    detector = with_intervals(patients, lambda drawn: detector_figures(drawn, limit))
    return {
        "bundle": {
            "name": bundle.manifest.name,
            "version": bundle.manifest.version,
            "weights_sha256": bundle.weights_sha256,
        },
        "patients": len(patients),
        "detector": {**detector, "threshold": limit, "n": slices, "confusion": _confusion(patients, limit)},
        "segmenter": {
            **with_intervals(patients, segmenter_figures),
            "threshold": bundle.segmenter.threshold,
            "n_slices": slices,
        },
        "series": with_intervals(patients, lambda drawn: series_figures(drawn, limit)),
    }


def _confusion(patients: list[PatientAnswers], limit: float) -> dict[str, int]:
    truth = np.concatenate([patient.truth for patient in patients])
    positive = np.concatenate([patient.probability for patient in patients]) >= limit
    return {
        "true_positive": int((positive & truth).sum()),
        "false_positive": int((positive & ~truth).sum()),
        "false_negative": int((~positive & truth).sum()),
        "true_negative": int((~positive & ~truth).sum()),
    }


def _headlines(metrics: Metrics) -> Iterator[tuple[str, float | None]]:
    for name, (part, key) in HEADLINES.items():
        yield name, metrics[part][key]


def run_evaluation(bundle_folder: Path, data: Path | None, split: str, out: Path, *, record: bool) -> Metrics:
    """Write ``metrics.json``, ``report.md`` and ``detector.png`` into ``out``.

    Parameters
    ----------
    bundle_folder : loaded and proven as the node does, on the CPU
    data : folder with an ``index.csv``; by default ``lgg_flair`` in the folder of the data sets
    split : of the index
    record : also put the headline figures into the bundle's manifest
    """
    bundle = load_bundle(bundle_folder, "cpu")
    source = data or data_folder() / "lgg_flair"
    patients = list(answers(bundle, read_cases(source, split)))
    metrics: Metrics = {"data": source.resolve().name, "split": split, **measure(bundle, patients)}
    metrics["speed"] = speed(bundle_folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    (out / "report.md").write_text(markdown(metrics), encoding="utf-8")
    detector_curves(
        np.concatenate([patient.truth for patient in patients]),
        np.concatenate([patient.probability for patient in patients]),
        out / "detector.png",
    )
    if record:
        figures = {name: round(value, 4) for name, value in _headlines(metrics) if value is not None}
        write_manifest(bundle.manifest.model_copy(update={"figures": figures}), bundle_folder)
    return metrics
