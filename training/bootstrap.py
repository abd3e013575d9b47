"""How sure a figure is: a percentile bootstrap over patients, all draws at once.

Slices of one patient resemble each other, so an interval over slices would be too narrow. Patients
(or blocks, see :mod:`training.volumes`) are drawn with replacement within each data set. A figure is
computed from weights (draws, volumes), which say how often each volume counts in each draw; the
first draw has every volume once and gives the figure itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from training.figures import Figures, VolumeAnswers, Weights

REPEATS = 1000

Judge = Callable[[Sequence[VolumeAnswers], Weights], Figures]
Table = dict[str, float | list[float] | None]


def drawn_weights(volumes: Sequence[VolumeAnswers], repeats: int = REPEATS, seed: int = 0) -> Weights:
    """Give the weights of the sample itself and of ``repeats`` draws, (1 + repeats, volumes)."""
    random = np.random.default_rng(seed)
    weights = np.ones((1 + repeats, len(volumes)))
    for data in dict.fromkeys(volume.data for volume in volumes):
        columns = np.array([index for index, volume in enumerate(volumes) if volume.data == data])
        names = [volumes[index].unit for index in columns]
        number = {unit: index for index, unit in enumerate(dict.fromkeys(names))}
        drawn = random.integers(0, len(number), (repeats, len(number)))
        counts = (drawn[:, :, None] == np.arange(len(number))).sum(axis=1)
        weights[1:, columns] = counts[:, [number[unit] for unit in names]]
    return weights


def interval(draws: NDArray[np.float64]) -> list[float] | None:
    """Give the 95 % interval; draws that leave the figure undefined (no positives drawn) are left out."""
    defined = draws[~np.isnan(draws)]
    return [float(end) for end in np.percentile(defined, [2.5, 97.5])] if defined.size else None


def summary(figures: Figures) -> Table:
    """Give each figure and, as ``NAME_ci95``, its interval; None where it is not defined."""
    table: Table = {}
    for name, values in figures.items():
        undefined = bool(np.isnan(values[0]))
        table[name] = None if undefined else float(values[0])
        table[f"{name}_ci95"] = None if undefined else interval(values[1:])
    return table


def with_intervals(
    volumes: Sequence[VolumeAnswers], judge: Judge, repeats: int = REPEATS, seed: int = 0
) -> Table:
    """Judge the volumes and draws of them."""
    return summary(judge(volumes, drawn_weights(volumes, repeats, seed)))
