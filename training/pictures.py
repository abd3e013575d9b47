"""The pictures of ``evaluate`` and ``robustness``, as a paper would print them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.bootstrap import drawn_weights
from training.figures import CALIBRATION_BINS, VolumeAnswers, area_under_roc, dice, slices_of

# colours that the colour-blind can tell apart (after Okabe and Ito)
TRUTH, ANSWER = "#1fd1a5", "#e69f00"
COLOURS = ("#0072b2", "#d55e00", "#cc79a7", "#56b4e9")
QUIET = "#8a8a8a"
DPI = 200

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw as a paper's figure."""
    with plt.rc_context(STYLE):
        yield


def save(figure: Figure, out: Path) -> Path:
    """Write a figure and forget it."""
    figure.savefig(out, dpi=DPI)
    plt.close(figure)
    return out


def _by_data(volumes: Sequence[VolumeAnswers]) -> dict[str, list[VolumeAnswers]]:
    names = dict.fromkeys(volume.data for volume in volumes)
    return {name: [volume for volume in volumes if volume.data == name] for name in names}


def _rates(
    volumes: Sequence[VolumeAnswers], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give false positive rate and sensitivity, (draws, 1 + slices), from the highest probability down."""
    truth, probability, volume = slices_of(volumes)
    order = np.argsort(-probability, kind="stable")
    own = weights[:, volume[order]]
    rates = []
    for kind in (~truth[order], truth[order]):
        passed = np.cumsum(own * kind, axis=1)
        rates.append(np.pad(passed / np.maximum(passed[:, -1:], 1e-9), ((0, 0), (1, 0))))
    last_of_ties = np.append(np.diff(probability[order]) != 0, True)
    kept = np.concatenate([[True], last_of_ties])
    return rates[0][:, kept], rates[1][:, kept]


def roc_curve(volumes: Sequence[VolumeAnswers], threshold: float, out: Path) -> Path | None:
    """Draw a curve and its band of 95 % for each data set with both kinds of slices."""
    sets = {}
    for name, own in _by_data(volumes).items():
        truth, _, _ = slices_of(own)
        if truth.any() and not truth.all():
            sets[name] = own
    if not sets:
        return None
    with style():
        figure, axes = plt.subplots(figsize=(3.3, 3.3), layout="constrained")
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.6, linestyle=":")
        for (name, own), colour in zip(sets.items(), COLOURS, strict=False):
            _one_roc(axes, own, threshold, colour, name if len(sets) > 1 else "")
        axes.set(
            xlabel="1 \N{MINUS SIGN} specificity, slices",
            ylabel="sensitivity, slices",
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            aspect="equal",
        )
        axes.legend(loc="lower right")
        return save(figure, out)


def _one_roc(axes: Axes, volumes: Sequence[VolumeAnswers], threshold: float, colour: str, name: str) -> None:
    weights = drawn_weights(volumes)
    false, hits = _rates(volumes, weights)
    grid = np.linspace(0, 1, 201)
    defined = (false[:, -1] > 0) & (hits[:, -1] > 0)
    # where a curve rises without a false positive, its highest point counts
    raised = [
        np.interp(grid, f + np.arange(len(f)) * 1e-12, h)
        for f, h in zip(false[defined], hits[defined], strict=True)
    ]
    low, high = np.percentile(raised[1:], [2.5, 97.5], axis=0)
    axes.fill_between(grid, low, high, color=colour, alpha=0.15, linewidth=0)
    area = area_under_roc(volumes, weights)
    ends = np.nanpercentile(area[1:], [2.5, 97.5])
    label = f"{name} AUC {area[0]:.3f} ({ends[0]:.3f} to {ends[1]:.3f})".strip()
    axes.plot(false[0], hits[0], color=colour, linewidth=1.2, label=label)
    truth, probability, _ = slices_of(volumes)
    positive = probability >= threshold
    axes.plot(
        (positive & ~truth).sum() / (~truth).sum(),
        (positive & truth).sum() / truth.sum(),
        "o",
        color=colour,
        markersize=4,
        label=f"threshold {threshold:.2f}",
    )


def reliability_diagram(volumes: Sequence[VolumeAnswers], error: float, out: Path) -> Path:
    """Draw how often slices of a probability show tumour, with bars of 95 %, over how many there are."""
    truth, probability, volume = slices_of(volumes)
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    weights = drawn_weights(volumes)[:, volume]
    with style():
        figure, (upper, lower) = plt.subplots(
            2, 1, figsize=(3.3, 4), height_ratios=(3, 1), sharex=True, layout="constrained"
        )
        upper.plot([0, 1], [0, 1], color=QUIET, linewidth=0.6, linestyle=":")
        means, rates, bars = [], [], []
        for index in np.unique(bins):
            own = bins == index
            drawn = weights[:, own].sum(axis=1)
            rate = (weights[:, own] @ truth[own])[drawn > 0] / drawn[drawn > 0]
            means.append(probability[own].mean())
            rates.append(rate[0])
            bars.append(np.percentile(rate[1:], [2.5, 97.5]))
        spread = np.abs(np.transpose(bars) - rates)
        upper.errorbar(
            means,
            rates,
            yerr=spread,
            color=COLOURS[0],
            fmt="o",
            markersize=3.5,
            elinewidth=0.8,
        )
        upper.set(ylabel="fraction with tumour", xlim=(-0.01, 1.01), ylim=(-0.02, 1.02))
        upper.set_title(f"expected calibration error {error:.3f}")
        edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
        lower.hist(
            [probability[~truth], probability[truth]],
            edges,
            stacked=True,
            color=["#c4c4c4", COLOURS[0]],
            label=["no tumour", "tumour"],
        )
        lower.set(xlabel="probability of the detector", ylabel="slices")
        lower.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return save(figure, out)


def _heat_map(axes: Axes, counts: NDArray[np.float64], title: str) -> None:
    """Draw [[true positive, false negative], [false positive, true negative]]; shades are parts of a row."""
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), part in np.ndenumerate(share):
        percent = f"{100 * part:.1f} %" if total[row, 0] else "-"
        axes.text(
            column,
            row,
            f"{counts[row, column]:,.0f}\n{percent}".replace(",", " "),
            ha="center",
            va="center",
            color="white" if part > 0.6 else "black",
        )
    axes.set(title=title, xlabel="answer", ylabel="truth")
    axes.set_xticks([0, 1], ["tumour", "none"])
    axes.set_yticks([0, 1], ["tumour", "none"], rotation=90, va="center")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def confusion_matrices(metrics: dict[str, Any], out: Path) -> Path:
    """Draw the counts of slices (detector) and of pixels (segmenter) of a table of figures."""
    slices, pixels = metrics["detector"]["confusion"], metrics["segmenter"]["pixels"]
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(5.4, 2.8), layout="constrained")
        of_slices = [
            [slices["true_positive"], slices["false_negative"]],
            [slices["false_positive"], slices["true_negative"]],
        ]
        of_pixels = [
            [pixels["overlap"], pixels["only_truth"]],
            [pixels["only_answer"], pixels["neither"]],
        ]
        _heat_map(left, np.array(of_slices, float), "detector: slices (% of the row)")
        _heat_map(right, np.array(of_pixels, float), "segmenter: pixels (% of the row)")
        return save(figure, out)


def _strip(axes: Axes, groups: dict[str, NDArray[np.float64]], colours: dict[str, str], title: str) -> None:
    """Draw a box over every value of each group."""
    random = np.random.default_rng(0)
    for position, (name, values) in enumerate(groups.items()):
        axes.boxplot(
            values,
            positions=[position],
            orientation="horizontal",
            widths=0.5,
            showfliers=False,
            medianprops={"color": "black"},
            boxprops={"linewidth": 0.7},
            whiskerprops={"linewidth": 0.7},
            capprops={"linewidth": 0.7},
        )
        spread = random.uniform(-0.18, 0.18, len(values))
        size = 12 if len(values) < 60 else 5
        axes.scatter(values, position + spread, s=size, color=colours[name], alpha=0.6, linewidths=0)
    labels = [f"{name}\nn = {len(values)}".strip() for name, values in groups.items()]
    axes.set_yticks(range(len(groups)), labels)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(groups) - 0.5, -0.5), title=title)


def dice_distribution(volumes: Sequence[VolumeAnswers], out: Path) -> Path | None:
    """Draw the Dice of every series and of every tumour slice, by data set and disease."""
    patients: dict[str, list[float]] = {}
    slices: dict[str, list[float]] = {}
    several = len(_by_data(volumes)) > 1
    for volume in volumes:
        group = " ".join(([volume.data] if several else []) + ([volume.disease] if volume.disease else []))
        if volume.is_series:
            patients.setdefault(group, []).append(float(dice(volume.pixels.sum(axis=0))))
        slices.setdefault(group, []).extend(dice(volume.pixels)[volume.truth])
    panels = []
    for title, found in (("each series", patients), ("each slice with tumour", slices)):
        arrays = {name: np.array(values) for name, values in found.items()}
        filled = {name: values[~np.isnan(values)] for name, values in arrays.items()}
        filled = {name: values for name, values in filled.items() if values.size}
        if filled:
            panels.append((title, filled))
    if not panels:
        return None
    with style():
        heights = [len(groups) for _, groups in panels]
        colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(slices)}
        figure, column = plt.subplots(
            len(panels),
            1,
            figsize=(4.4, 0.5 * len(panels) + 0.65 * sum(heights)),
            height_ratios=heights,
            sharex=True,
            layout="constrained",
            squeeze=False,
        )
        for axes, (title, groups) in zip(column[:, 0], panels, strict=True):
            _strip(axes, groups, colours, title)
        axes.set(xlabel="Dice")
        return save(figure, out)


def changes(table: dict[str, Any], out: Path) -> Path:
    """Draw how pooled Dice and the detector's AUC (recall where it is not defined) change by perturbation."""
    names = [name for name in table if name != "unperturbed"]
    score, title = ("recall", "recall") if table["unperturbed"]["auc"] is None else ("auc", "AUC")
    with style():
        figure, line = plt.subplots(
            1, 2, figsize=(6.6, 0.8 + 0.2 * len(names)), sharey=True, layout="constrained"
        )
        for axes, key, heading in zip(
            line, ("dice_pooled", score), ("segmenter: pooled Dice", f"detector: {title}"), strict=True
        ):
            axes.axvline(0, color=QUIET, linewidth=0.6)
            for position, name in enumerate(names):
                low, high = table[name]["change"][f"{key}_ci95"]
                axes.plot([low, high], [position, position], color=COLOURS[0], linewidth=1)
                axes.plot(table[name]["change"][key], position, "o", color=COLOURS[0], markersize=3.5)
            axes.set(title=heading, xlabel=f"change from {table['unperturbed'][key]:.3f}")
        line[0].set_yticks(range(len(names)), [table[name]["text"] for name in names])
        line[0].invert_yaxis()
        return save(figure, out)
