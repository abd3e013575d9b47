"""The command ``evaluate``: a bundle's own files, through the node's own code, on labelled volumes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.manifest_text import write_manifest
from dicom_node.analysis.bundle import Bundle, load_bundle
from dicom_node.errors import ConfigurationError
from dicom_node.series.normalisation import normalise
from training import contact_sheet, pictures
from training.card import put_into_card
from training.contact_sheet import Example
from training.figures import VolumeAnswers, dice
from training.report import markdown
from training.tables import all_figures
from training.timing import speed
from training.volumes import Volume, folders_of, read_volumes

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


@dataclass(frozen=True)
class Judged:
    """A volume's answers; ``example`` is its slice with the largest tumour, None where it has none."""

    answers: VolumeAnswers
    example: Example | None


def _example(
    answers: VolumeAnswers, normalised: NDArray[Any], mask: NDArray[Any], marked: NDArray[Any]
) -> Example | None:
    number = int(mask.sum(axis=(1, 2)).argmax())
    if not mask[number].any():
        return None
    image = (normalised[number] * 255).astype(np.uint8)
    whole = float(dice(answers.pixels.sum(axis=0)))
    return Example(answers.name, answers.data, whole, image, mask[number], marked[number])


def judge(bundle: Bundle, volume: Volume) -> Judged:
    """Run every slice through both networks."""
    case = volume.case
    normalised = normalise(case.voxels, bundle.manifest.input)
    probability = bundle.detector.probabilities(normalised, *case.pixel_mm)
    marked = bundle.segmenter.probabilities(normalised, *case.pixel_mm) >= bundle.segmenter.threshold
    parts = (marked & case.mask, marked & ~case.mask, ~marked & case.mask, ~marked & ~case.mask)
    answers = VolumeAnswers(
        name=volume.name,
        truth=case.has_tumour,
        probability=probability,
        pixels=np.stack([np.count_nonzero(part, axis=(1, 2)) for part in parts], axis=1),
        data=volume.data,
        unit=volume.unit,
        disease=volume.disease,
        is_series=volume.is_series,
    )
    return Judged(answers, _example(answers, normalised, case.mask, marked))


def origin_of(bundle: Bundle) -> dict[str, str]:
    """Name a bundle and its weights."""
    return {
        "name": bundle.manifest.name,
        "version": bundle.manifest.version,
        "weights_sha256": bundle.weights_sha256,
    }


def measure(bundle: Bundle, volumes: Sequence[VolumeAnswers]) -> Metrics:
    """Make the tables of all volumes together and, where there are several data sets, of each."""
    limits = bundle.detector.threshold, bundle.segmenter.threshold
    metrics = all_figures(volumes, *limits)
    names = list(dict.fromkeys(volume.data for volume in volumes))
    if len(names) > 1:
        metrics["by_data"] = {
            name: all_figures([volume for volume in volumes if volume.data == name], *limits)
            for name in names
        }
    return metrics


def _draw(bundle: Bundle, judged: Sequence[Judged], metrics: Metrics, out: Path) -> list[Path]:
    """Draw every picture that the data allow, in the order of the report."""
    volumes = [one.answers for one in judged]
    drawn = [
        pictures.roc_curve(volumes, bundle.detector.threshold, out / "roc.png"),
        pictures.reliability_diagram(volumes, metrics["detector"]["ece"], out / "calibration.png"),
        pictures.confusion_matrices(metrics, out / "confusion.png"),
        pictures.dice_distribution(volumes, out / "dice.png"),
    ]
    for data in metrics["data"]:
        examples = [one.example for one in judged if one.example and one.example.data == data]
        name = "examples.png" if len(metrics["data"]) == 1 else f"examples-{data}.png"
        drawn.append(contact_sheet.draw(examples, out / name))
    return [picture for picture in drawn if picture]


def read_measured(file: Path, data: Sequence[str], split: str) -> Metrics:
    """Read what ``baselines`` or ``evaluate`` wrote.

    Raises
    ------
    ConfigurationError
        When it cannot be read or was made on other data.
    """
    try:
        table: Metrics = json.loads(file.read_text(encoding="utf-8"))
        found = table["data"], table["split"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"{file} is no file that 'baselines' (baselines.json) or 'evaluate' (metrics.json) wrote"
        ) from None
    if found != (list(data), split):
        raise ConfigurationError(
            f"{file} was made on {' + '.join(found[0])}, split {found[1]}, "
            f"not on {' + '.join(data)}, split {split}; measure on these"
        )
    return table


def run_evaluation(
    bundle_folder: Path,
    data: Sequence[Path] | None,
    split: str,
    out: Path,
    *,
    record: bool = False,
    every: int = 1,
    baselines: Path | None = None,
    beside: Sequence[Path] = (),
) -> Metrics:
    """Write ``metrics.json``, ``report.md`` and pictures into ``out``.

    Parameters
    ----------
    bundle_folder : loaded and proven as the node does, on the CPU
    data : folders with an ``index.csv``; by default ``lgg_flair`` in the folder of the data sets
    split : of the indices
    record : also put the headline figures into the bundle's manifest and the tables into its card
    every : take only every n-th patient
    baselines : a ``baselines.json`` of the same data, for the report
    beside : ``metrics.json`` of other bundles on the same data, for the report
    """
    if record and every > 1:
        raise ConfigurationError("figures of a part of the patients are not recorded; leave out --every")
    bundle = load_bundle(bundle_folder, "cpu")
    folders = folders_of(data)
    names = [folder.resolve().name for folder in folders]
    classifiers = read_measured(baselines, names, split)["classifiers"] if baselines else {}
    others = [read_measured(file, names, split) for file in beside]
    judged = [judge(bundle, volume) for volume in read_volumes(folders, split, every)]
    metrics: Metrics = {"bundle": origin_of(bundle), "data": names, "split": split, "every": every}
    metrics |= measure(bundle, [one.answers for one in judged])
    metrics["speed"] = speed(bundle_folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    drawn = [picture.name for picture in _draw(bundle, judged, metrics, out)]
    report = markdown(metrics, classifiers, others, drawn)
    (out / "report.md").write_text(report, encoding="utf-8")
    if record:
        figures = {name: round(value, 4) for name, value in _headlines(metrics) if value is not None}
        write_manifest(bundle.manifest.model_copy(update={"figures": figures}), bundle_folder)
        put_into_card(bundle_folder, "figures", report)
    return metrics


def _headlines(metrics: Metrics) -> Iterator[tuple[str, float | None]]:
    """Give the figures of the one data set, or of each by its name."""
    for data, own in metrics.get("by_data", {"": metrics}).items():
        for name, (part, key) in HEADLINES.items():
            if key == "precision" and own["detector"]["specificity"] is None:
                continue  # without a slice that has no tumour it is 1 whatever the detector says
            yield f"{data}_{name}".lstrip("_"), own[part][key]
