"""Figures for people: how a training went."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import pandas as pd
from matplotlib import pyplot as plt


def loss_curves(log: Path, out: Path, score: str) -> None:
    """Draw the losses and the validation score of a training's CSV log."""
    table = pd.read_csv(log)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.plot(table["epoch"] + 1, table["loss"], label="training")
    left.plot(table["epoch"] + 1, table["val_loss"], label="validation")
    left.set(xlabel="epoch", ylabel="loss")
    left.legend()
    right.plot(table["epoch"] + 1, table[score.removeprefix("val_")], label="training")
    right.plot(table["epoch"] + 1, table[score], label="validation")
    right.set(xlabel="epoch", ylabel=score.removeprefix("val_"))
    right.legend()
    figure.savefig(out, dpi=110)
    plt.close(figure)
