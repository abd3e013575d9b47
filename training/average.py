"""One network of several: the mean of their weights.

It pays where the runs go on from one another, and costs nothing at inference (Wortsman et al., "Model
soups", ICML 2022; the statistics of batch normalisation are averaged as well).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from dicom_node.errors import ConfigurationError
from training.loop import BEST, RECIPE
from training.recipe import Recipe


def recipe_of(runs: Sequence[Path]) -> Recipe:
    """Return the recipe of the last of these runs, by which their average is judged.

    Raises
    ------
    ConfigurationError
        A folder is no run, or its network sees other squares or answers another question.
    """
    recipes = [_stored(run) for run in runs]
    last = recipes[-1]
    for run, recipe in zip(runs, recipes, strict=True):
        if _kind(recipe) != _kind(last):
            raise ConfigurationError(
                f"{run} and {runs[-1]} differ in task, size, context or normalisation: they have no average"
            )
    return last


def average_of(runs: Sequence[Path]) -> keras.Model:
    """Average the best network of each run, weight by weight.

    Raises
    ------
    ConfigurationError
        A run has no network, or one of another shape.
    """
    model = _best(runs[0])
    weights = [model.get_weights()]
    for run in runs[1:]:
        others = _best(run).get_weights()
        if [own.shape for own in weights[0]] != [other.shape for other in others]:
            raise ConfigurationError(f"{run} has another network than {runs[0]}: they have no average")
        weights.append(others)
    model.set_weights([np.mean(same, axis=0) for same in zip(*weights, strict=True)])
    return model


def _kind(recipe: Recipe) -> tuple[object, ...]:
    return recipe.task, recipe.data.size, recipe.data.context, recipe.data.normalisation


def _stored(run: Path) -> Recipe:
    try:
        return Recipe.model_validate_json((run / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigurationError(f"{run} is no run: it has no {RECIPE} that can be read") from None


def _best(run: Path) -> keras.Model:
    if not (run / BEST).is_file():
        raise ConfigurationError(f"{run} has no {BEST}; train it first")
    return keras.saving.load_model(run / BEST, compile=False)
