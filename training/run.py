"""The command ``train``: read, prepare, train, choose the threshold, write what was found."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import keras
import numpy as np
import structlog

from training.batches import ValidationBatches
from training.cases import Case, data_folder, read_cases
from training.loop import train
from training.recipe import Recipe, read_recipe
from training.slices import SliceSet, grid_of, phantom_cases, prepare
from training.thresholds import DETECTOR_RULE, SEGMENTER_RULE, detector_threshold, segmenter_threshold

RESULT = "threshold.json"
SENSITIVITY = 0.95

log = structlog.get_logger(__name__)


def _threshold(
    model: keras.Model, recipe: Recipe, cases: list[Case], slices: SliceSet
) -> dict[str, float | str]:
    """Choose the threshold; ``slices`` are the prepared ``cases``."""
    batches = ValidationBatches(slices, recipe)
    answer = np.asarray(model.predict(batches, verbose=0))
    if recipe.task == "detector":
        value = detector_threshold(slices.tumour, answer[:, 0], SENSITIVITY)
        return {"threshold": value, "threshold_rule": DETECTOR_RULE.format(sensitivity=SENSITIVITY)}
    pairs, start = [], 0
    for case in cases:
        grid = grid_of(case.voxels.shape, recipe.data.size)
        squares = answer[start : start + len(case.mask), :, :, 0]
        pairs.append((case.mask, np.stack([grid.to_source(square) for square in squares])))
        start += len(case.mask)
    value, dice = segmenter_threshold(pairs)
    return {"threshold": value, "threshold_rule": SEGMENTER_RULE, "validation_dice_pooled": dice}


def run_training(recipe_file: Path, folder: Path, data: Path | None, until: int | None = None) -> None:
    """Train by a recipe into a run folder; see :mod:`training.loop` for what it will hold."""
    cv2.setNumThreads(1)  # the cores belong to the network
    recipe = read_recipe(recipe_file)
    folders = [data or data_folder() / source.folder for source in recipe.data.sources]
    size, rule = recipe.data.size, recipe.data.normalisation
    patients = prepare([read_cases(folder, "train") for folder in folders], size, rule)
    cases = [case for folder in folders for case in read_cases(folder, "val")]
    validation = prepare([cases], size, rule)
    wants_phantoms = recipe.data.phantom.heads > 0 and recipe.data.phantom.share > 0
    phantoms = prepare([phantom_cases(recipe.data.phantom)], size, rule) if wants_phantoms else None
    log.info("prepared", training=len(patients), validation=len(validation), phantoms=len(phantoms or ()))
    model = train(recipe, folder, patients, phantoms, validation, until)
    result = _threshold(model, recipe, cases, validation)
    (folder / RESULT).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    log.info("trained", run=str(folder), **result)
