"""One training, from a recipe to a run folder; it can be stopped at any time and goes on from there.

A run folder holds ``recipe.json``, ``log.csv`` (a row an epoch), ``last.keras`` (with the
optimiser, replaced after each epoch), ``best.keras`` (the best validation score) and ``curves.png``.
What a training is at follows from these files alone.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import keras
import structlog

from dicom_node.errors import ConfigurationError
from training.batches import EpochBatches, ValidationBatches
from training.losses import PooledDice, dice_and_cross_entropy_loss, dice_loss
from training.networks import build
from training.networks.localisation import with_localisation, without_localisation
from training.networks.transfer import take_over, take_over_imagenet
from training.plots import loss_curves
from training.recipe import Recipe
from training.slices import SliceSet

LAST, BEST, LOG, RECIPE, CURVES = "last.keras", "best.keras", "log.csv", "recipe.json", "curves.png"

LOSSES: dict[str, Any] = {
    "dice": dice_loss,
    "dice_and_cross_entropy": dice_and_cross_entropy_loss,
    "cross_entropy": "binary_crossentropy",
}
SCORES = {"detector": "val_auc", "segmenter": "val_dice"}

Row = dict[str, float]

log = structlog.get_logger(__name__)


def _read_log(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _append(path: Path, row: Row) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _learning_rate(recipe: Recipe, epoch: int) -> float:
    """Fall along a half cosine, from the recipe's rate to a hundredth of it."""
    done = epoch / recipe.fit.epochs
    return recipe.fit.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def _is_over(recipe: Recipe, scores: list[float], until: int | None) -> bool:
    """Whether all epochs are done that are wanted, or the best score is ``patience`` epochs old."""
    waited = len(scores) - 1 - scores.index(max(scores)) if scores else 0
    wanted = recipe.fit.epochs if until is None else min(until, recipe.fit.epochs)
    return len(scores) >= wanted or waited >= recipe.fit.patience


def _started(recipe: Recipe) -> keras.Model:
    """Build the network, with the weights of an earlier one where the recipe names it."""
    model = build(recipe.network, recipe.data)
    if recipe.network.start is None:
        return model
    if recipe.network.start == "imagenet":
        log.info("started", weights="imagenet", layers=take_over_imagenet(model))
        return model
    path = Path(recipe.network.start)
    if not path.is_file():
        raise ConfigurationError(f"network.start: there is no {path}; train it first")
    count = take_over(keras.saving.load_model(path, compile=False), model)
    if not count:
        raise ConfigurationError(f"network.start: no layer of {path} fits {recipe.network.name}")
    log.info("started", weights=str(path), layers=count)
    return model


def _new_model(recipe: Recipe) -> keras.Model:
    model = _started(recipe)
    metric = keras.metrics.AUC(name="auc") if recipe.task == "detector" else PooledDice(name="dice")
    optimiser = keras.optimizers.Adam(recipe.fit.learning_rate)
    loss = LOSSES[recipe.fit.loss]
    if recipe.fit.localisation == 0:
        model.compile(optimizer=optimiser, loss=loss, metrics=[metric])
        return model
    model = with_localisation(model)
    model.compile(
        optimizer=optimiser,
        loss={"probability": loss, "coverage": "binary_crossentropy"},
        loss_weights={"probability": 1.0, "coverage": recipe.fit.localisation},
        metrics={"probability": [metric]},
    )
    return model


def _begin(recipe: Recipe, folder: Path) -> None:
    """Store the recipe, or make sure that a resumed run has the same."""
    folder.mkdir(parents=True, exist_ok=True)
    path, text = folder / RECIPE, recipe.model_dump_json(indent=2) + "\n"
    if path.exists() and Recipe.model_validate_json(path.read_text(encoding="utf-8")) != recipe:
        raise ConfigurationError(
            f"{folder} holds a run of another recipe; name another folder, or remove that one"
        )
    path.write_text(text, encoding="utf-8")


def train(
    recipe: Recipe,
    folder: Path,
    patients: SliceSet,
    phantoms: SliceSet | None,
    validation: SliceSet,
    until: int | None = None,
) -> keras.Model:
    """Train, or go on with, the run in ``folder`` and return the best network of it.

    Parameters
    ----------
    recipe : Recipe
    folder : new, or of an earlier run of the same recipe
    patients, phantoms, validation : SliceSet
        Without phantoms None.
    until : stop when this many epochs are done in all; the learning rate still falls towards the
        recipe's last epoch

    Raises
    ------
    ConfigurationError
        When the folder holds a run of another recipe.
    """
    _begin(recipe, folder)
    keras.utils.set_random_seed(recipe.fit.seed)
    rows = _read_log(folder / LOG)
    if rows:
        log.info("resumed", run=str(folder), epochs_done=len(rows))
    model = keras.saving.load_model(folder / LAST) if rows else _new_model(recipe)
    judge = ValidationBatches(validation, recipe)
    score = SCORES[recipe.task]
    scores = [row[score] for row in rows]
    while not _is_over(recipe, scores, until):
        epoch = len(scores)
        rate = _learning_rate(recipe, epoch)
        model.optimizer.learning_rate = rate
        # one call of fit an epoch: Keras may fetch the next epoch's batches before this one ends
        batches = EpochBatches(patients, phantoms, recipe, epoch)
        history = model.fit(batches, validation_data=judge, shuffle=False, verbose=0).history
        row = {"epoch": epoch, "learning_rate": rate} | {
            name.replace("probability_auc", "auc"): last for name, (last,) in history.items()
        }
        if not scores or row[score] > max(scores):
            (without_localisation(model) if recipe.fit.localisation else model).save(folder / BEST)
        model.save(folder / LAST)
        _append(folder / LOG, row)  # last: an epoch is only done once its network is stored
        scores.append(row[score])
        log.info("epoch", **{name: round(value, 5) for name, value in row.items()})
    loss_curves(folder / LOG, folder / CURVES, score)
    return keras.saving.load_model(folder / BEST, compile=False)
