"""The command ``robustness``: a bundle on the same volumes, perturbed, beside the unperturbed ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dicom_node.analysis.bundle import Bundle, load_bundle
from training import contact_sheet, pictures
from training.bootstrap import drawn_weights, summary
from training.card import put_into_card
from training.contact_sheet import Example
from training.evaluation import judge, origin_of
from training.figures import Figures, VolumeAnswers, detector_figures, segmenter_figures
from training.perturbations import PERTURBATIONS, middle, perturbed
from training.report import robustness_markdown
from training.tables import counts
from training.volumes import Volume, folders_of, read_volumes

UNPERTURBED = "unperturbed"
SEGMENTER = ("dice_pooled", "dice_patient_mean", "dice_slice_mean")
DETECTOR = ("auc", "recall", "precision")

Answers = dict[str, list[VolumeAnswers]]


def _figures(volumes: Sequence[VolumeAnswers], threshold: float) -> Figures:
    """Judge with the same draws for every perturbation, so that differences are of the same patients."""
    weights = drawn_weights(volumes)
    pixels, slices = segmenter_figures(volumes, weights), detector_figures(volumes, weights, threshold)
    return {name: pixels[name] for name in SEGMENTER} | {name: slices[name] for name in DETECTOR}


def _table(answers: Answers, threshold: float) -> dict[str, Any]:
    """Give the figures of each perturbation and, as ``change``, what became of them on the same slices."""
    judged = partial(_figures, threshold=threshold)
    unperturbed = judged(answers[UNPERTURBED])
    table: dict[str, Any] = {UNPERTURBED: {**counts(answers[UNPERTURBED]), **summary(unperturbed)}}
    for name, perturbation in PERTURBATIONS.items():
        if not answers[name]:
            continue
        own, before = judged(answers[name]), unperturbed
        if perturbation.missing:
            left = [
                v.part(middle(len(v.truth), perturbation.missing))
                for v in answers[UNPERTURBED]
                if v.is_series
            ]
            before = judged(left)
        change = {key: own[key] - before[key] for key in own}
        table[name] = {"text": perturbation.text, **summary(own), "change": summary(change)}
    return table


def _judge_all(bundle: Bundle, volumes: Iterable[Volume]) -> tuple[Answers, dict[str, Example]]:
    """Give all answers by perturbation, and how the first volume with a tumour looks, by title."""
    answers: Answers = {UNPERTURBED: [], **{name: [] for name in PERTURBATIONS}}
    examples: dict[str, Example] = {}
    for volume in volumes:
        own = judge(bundle, volume)
        answers[UNPERTURBED].append(own.answers)
        shown = {} if examples or own.example is None else {UNPERTURBED: own.example}
        for name, perturbation in PERTURBATIONS.items():
            if perturbation.missing and not volume.is_series:
                continue
            changed = judge(bundle, perturbed(volume, name))
            answers[name].append(changed.answers)
            if shown and changed.example and not perturbation.missing:
                shown[perturbation.text] = changed.example
        examples |= shown
    return answers, examples


def run_robustness(
    bundle_folder: Path,
    data: Sequence[Path] | None,
    split: str,
    out: Path,
    every: int = 1,
    *,
    record: bool = False,
) -> dict[str, Any]:
    """Write ``robustness.json``, ``robustness.md`` and pictures of each data set into ``out``.

    The parameters are those of :func:`training.evaluation.run_evaluation`; ``record`` writes into the card.
    """
    bundle = load_bundle(bundle_folder, "cpu")
    out.mkdir(parents=True, exist_ok=True)
    tables, drawn = {}, []
    for folder in folders_of(data):
        answers, examples = _judge_all(bundle, read_volumes([folder], split, every))
        name = folder.resolve().name
        tables[name] = _table(answers, bundle.detector.threshold)
        drawn.append(pictures.changes(tables[name], out / f"robustness-{name}.png"))
        if examples:
            drawn.append(contact_sheet.draw_titled(examples, out / f"perturbed-{name}.png"))
    result = {"bundle": origin_of(bundle), "split": split, "every": every, "by_data": tables}
    text = json.dumps(result, indent=2, allow_nan=False)
    (out / "robustness.json").write_text(text + "\n", encoding="utf-8")
    report = robustness_markdown(result, [picture.name for picture in drawn])
    (out / "robustness.md").write_text(report, encoding="utf-8")
    if record:
        put_into_card(bundle_folder, "robustness", report)
    return result
