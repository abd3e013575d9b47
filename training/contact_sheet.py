"""A sheet of the best, the middle and the worst volumes: what their Dice looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from training.pictures import ANSWER, TRUTH, save, style

COLUMNS = 4


@dataclass(frozen=True)
class Example:
    """A slice to show.

    Attributes
    ----------
    name, data : of its volume
    dice : of the whole volume
    image : uint8, (rows, columns)
    truth, answer : bool, same shape
    """

    name: str
    data: str
    dice: float
    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    answer: NDArray[np.bool_]


def choose(examples: Sequence[Example], columns: int = COLUMNS) -> dict[str, list[Example]]:
    """Choose the best, the middle and the worst, no example twice; each row is sorted, best first."""
    ranked = sorted(examples, key=lambda example: -example.dice)
    count = min(columns, len(ranked) // 3)
    if not count:
        return {"all": ranked} if ranked else {}
    start = (len(ranked) - count) // 2
    return {"best": ranked[:count], "middle": ranked[start : start + count], "worst": ranked[-count:]}


def _outline(axes: Axes, mask: NDArray[np.bool_], colour: str) -> None:
    # a border of empty pixels closes outlines at the image's edge
    padded = np.pad(mask.astype(np.float32), 1)
    axes.contour(
        np.arange(-1, mask.shape[1] + 1),
        np.arange(-1, mask.shape[0] + 1),
        padded,
        levels=[0.5],
        colors=colour,
        linewidths=0.9,
    )


def _show(axes: Axes, example: Example, title: str) -> None:
    axes.imshow(example.image, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    for mask, colour in ((example.truth, TRUTH), (example.answer, ANSWER)):
        if mask.any():
            _outline(axes, mask, colour)
    axes.set_title(f"{title}\nDice {example.dice:.2f}", fontsize=7)


def _sheet(rows: Sequence[Sequence[tuple[str, Example]]], names: Sequence[str], out: Path) -> Path:
    """Draw rows of titled examples; ``names`` stand before the rows."""
    columns = max(len(row) for row in rows)
    with style():
        figure, grid = plt.subplots(
            len(rows),
            columns,
            figsize=(1.7 * columns + 0.3, 2.05 * len(rows) + 0.3),
            layout="constrained",
            squeeze=False,
        )
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for line, row in zip(grid, rows, strict=True):
            for axes, (title, example) in zip(line, row, strict=False):
                _show(axes, example, title)
        for line, name in zip(grid, names, strict=False):
            line[0].set_ylabel(name, fontsize=9)
        lines = [Line2D([], [], color=TRUTH, label="experts"), Line2D([], [], color=ANSWER, label="network")]
        figure.legend(handles=lines, loc="outside lower center", ncols=2)
        return save(figure, out)


def draw(examples: Sequence[Example], out: Path) -> Path | None:
    """Draw the best, the middle and the worst; None where no volume has a tumour."""
    chosen = choose(examples)
    if not chosen:
        return None
    rows = [[(example.name, example) for example in row] for row in chosen.values()]
    return _sheet(rows, list(chosen) if len(chosen) > 1 else [], out)


def draw_titled(examples: dict[str, Example], out: Path) -> Path:
    """Draw examples under their titles."""
    titled = list(examples.items())
    return _sheet([titled[start : start + COLUMNS] for start in range(0, len(titled), COLUMNS)], [], out)
