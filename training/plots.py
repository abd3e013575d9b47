"""Figures for people: how a training went, and what a network can tell apart."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from numpy.typing import NDArray


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


def detector_curves(truth: NDArray[np.bool_], probability: NDArray[np.floating], out: Path) -> None:
    """Draw the ROC curve and the calibration (10 equal bins) of slice probabilities, both (n,)."""
    order = np.argsort(-probability)
    hits = truth[order]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
    left.plot(np.cumsum(~hits) / max(1, (~hits).sum()), np.cumsum(hits) / max(1, hits.sum()))
    left.plot([0, 1], [0, 1], color="grey", linewidth=0.7)
    left.set(xlabel="false positive rate", ylabel="sensitivity")
    bins = np.minimum((probability * 10).astype(int), 9)
    filled = [index for index in range(10) if (bins == index).any()]
    right.plot(
        [probability[bins == index].mean() for index in filled],
        [truth[bins == index].mean() for index in filled],
        marker="o",
    )
    right.plot([0, 1], [0, 1], color="grey", linewidth=0.7)
    right.set(xlabel="probability", ylabel="fraction with tumour")
    figure.savefig(out, dpi=110)
    plt.close(figure)
