"""The commands ``train`` and ``average``: prepare, train or average, calibrate, choose the threshold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import structlog
from numpy.typing import NDArray

from dicom_node.analysis.slice_model import calibrated
from dicom_node.errors import ConfigurationError
from training.average import average_of, recipe_of
from training.batches import ValidationBatches
from training.cases import Case, data_folder, read_cases
from training.loop import BEST, train
from training.recipe import Recipe, SourceRecipe, read_recipe
from training.slices import SliceSet, grid_of, phantom_cases, prepare
from training.thresholds import (
    DETECTOR_RULE,
    SEGMENTER_RULE,
    detector_threshold,
    fit_calibration,
    segmenter_threshold,
)

RESULT = "threshold.json"
SENSITIVITY = 0.95

log = structlog.get_logger(__name__)


def _parts(source: SourceRecipe, folder: Path) -> tuple[Iterable[Case], list[Case]]:
    """Give the volumes of a source to train on, read when they are wanted, and those to validate on."""
    if not source.validation:
        return read_cases(folder, "train"), list(read_cases(folder, "val"))
    cases = list(read_cases(folder, "train"))
    absent = set(source.validation) - {case.patient for case in cases}
    if absent:
        raise ConfigurationError(f"{folder} has no patient {min(absent)!r} in its split 'train'")
    kept = [case for case in cases if case.patient not in source.validation]
    return kept, [case for case in cases if case.patient in source.validation]


def _threshold(model: keras.Model, recipe: Recipe, cases: list[Case], slices: SliceSet) -> dict[str, Any]:
    """Choose calibration and threshold; ``slices`` are the prepared ``cases``."""
    batches = ValidationBatches(slices, recipe)
    answer = np.asarray(model.predict(batches, verbose=0))
    truth = slices.tumour if recipe.task == "detector" else slices.masks.astype(bool)
    calibration = fit_calibration(truth.ravel(), answer.ravel())
    answer = calibrated(answer, calibration)
    found: dict[str, Any] = {"calibration": calibration.model_dump()}
    if recipe.data.context:
        found["channels"] = "neighbours"
    return found | _choice(recipe, cases, slices, answer)


def _choice(
    recipe: Recipe, cases: list[Case], slices: SliceSet, answer: NDArray[np.float32]
) -> dict[str, float | str]:
    if recipe.task == "detector":
        value = detector_threshold(slices.tumour, answer[:, 0], SENSITIVITY)
        return {"threshold": value, "threshold_rule": DETECTOR_RULE.format(sensitivity=SENSITIVITY)}
    pairs, start = [], 0
    for case in cases:
        grid = grid_of(case, recipe.data.size)
        squares = answer[start : start + len(case.mask), :, :, 0]
        pairs.append((case.mask, np.stack([grid.to_source(square) for square in squares])))
        start += len(case.mask)
    value, dice = segmenter_threshold(pairs)
    return {"threshold": value, "threshold_rule": SEGMENTER_RULE, "validation_dice_pooled": dice}


def _read(recipe: Recipe, data: Path | None) -> tuple[list[Iterable[Case]], list[Case]]:
    """Give the volumes to train on, by source, and those to validate on."""
    parts = [_parts(source, data or data_folder() / source.folder) for source in recipe.data.sources]
    return [training for training, _ in parts], [case for _, judged in parts for case in judged]


def _finish(model: keras.Model, recipe: Recipe, cases: list[Case], slices: SliceSet, folder: Path) -> None:
    result = _threshold(model, recipe, cases, slices)
    (folder / RESULT).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    log.info("trained", run=str(folder), **result)


def run_training(recipe_file: Path, folder: Path, data: Path | None, until: int | None = None) -> None:
    """Train by a recipe into a run folder; see :mod:`training.loop` for what it will hold."""
    cv2.setNumThreads(1)  # the cores belong to the network
    recipe = read_recipe(recipe_file)
    size, rule = recipe.data.size, recipe.data.normalisation
    sources, cases = _read(recipe, data)
    patients, validation = prepare(sources, size, rule), prepare([cases], size, rule)
    wants_phantoms = recipe.data.phantom.heads > 0 and recipe.data.phantom.share > 0
    phantoms = prepare([phantom_cases(recipe.data.phantom)], size, rule) if wants_phantoms else None
    log.info("prepared", training=len(patients), validation=len(validation), phantoms=len(phantoms or ()))
    model = train(recipe, folder, patients, phantoms, validation, until)
    _finish(model, recipe, cases, validation, folder)


def run_average(runs: Sequence[Path], folder: Path, data: Path | None) -> None:
    """Average the best networks of runs; ``folder`` gets ``best.keras`` and ``threshold.json``."""
    recipe = recipe_of(runs)
    model = average_of(runs)
    _, cases = _read(recipe, data)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / BEST)
    slices = prepare([cases], recipe.data.size, recipe.data.normalisation)
    _finish(model, recipe, cases, slices, folder)
