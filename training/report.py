"""Tables of figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from training.volumes import BLOCK

Metrics = dict[str, Any]

TITLES = {
    "detector": "Detector, by slice",
    "segmenter": "Segmenter, by pixel, all slices, on the source grid",
    "series": "Series",
}

# as their authors give them
ORIGINS: dict[str, dict[str, float]] = {
    "CNN of the first origin work": {"accuracy": 0.970, "recall": 0.994, "auc": 0.967},
    "ResNet50 U-Net of the second origin work": {
        "dice_pooled": 0.794,
        "iou_pooled": 0.707,
        "recall": 0.853,
        "precision": 0.786,
        "pixel_accuracy": 0.9943,
    },
}
ORIGINS_NOTE = (
    "The figures of the two works that this project goes on from are of other images and another split; "
    "they show the order of magnitude and rank nothing. A dash: not given."
)
AUC_NOTE = (
    "AUC compares slices of the same data set only, as telling the data sets apart is no merit; the other "
    "figures of all data sets together follow their mixture."
)
FEW = 10  # patients or blocks

DETECTOR_COLUMNS = ("accuracy", "precision", "recall", "f1", "auc")
SEGMENTER_COLUMNS = ("dice_pooled", "iou_pooled", "recall", "precision", "pixel_accuracy")
DISEASE_COLUMNS = ("dice_pooled", "dice_slice_mean", "dice_slice_median", "recall", "precision", "n_slices")
ROBUSTNESS_COLUMNS = ("dice_pooled", "dice_patient_mean", "dice_slice_mean", "auc", "recall")


def cell(table: Metrics, name: str) -> str:
    """Give the text of a figure and its interval; a dash where the table has no such figure."""
    if name not in table:
        return "-"
    value, interval = table[name], table.get(f"{name}_ci95")
    if value is None:
        return "not defined"
    if isinstance(value, int):
        return str(value)
    digits = 4 if name == "pixel_accuracy" else 3  # it differs in the third digit or not at all
    text = f"{value:.{digits}f}"
    return f"{text} ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})" if interval else text


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Give the lines of a table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def rows_of(tables: dict[str, Metrics], columns: Sequence[str]) -> list[str]:
    """Give a table with a row for each of ``tables``."""
    rows = [[name, *(cell(table, column) for column in columns)] for name, table in tables.items()]
    return grid(["", *columns], rows)


def _part(columns: dict[str, Metrics], part: str) -> list[str]:
    """Give a table with a row for each figure and a column for each set of volumes."""
    tables = {name: metrics[part] for name, metrics in columns.items()}
    first = next(iter(tables.values()))
    names = [name for name, value in first.items() if not (name.endswith("_ci95") or isinstance(value, dict))]
    rows = [[name, *(cell(table, name) for table in tables.values())] for name in names]
    header = ["figure", *(tables if len(tables) > 1 else ["value (95 % interval)"])]
    return grid(header, rows)


def _counted(metrics: Metrics) -> str:
    """Say what was measured on."""
    parts = []
    if metrics["patients"]:
        exams = f" ({metrics['exams']} exams)" if metrics["exams"] != metrics["patients"] else ""
        parts.append(f"{metrics['patients']} patients{exams}")
    if metrics["blocks"]:
        parts.append(f"{metrics['blocks']} blocks of up to {BLOCK} neighbouring slices")
    return (
        f"{' and '.join(parts)}, {metrics['slices']} slices, {metrics['tumour_slices']} of them with tumour"
    )


def _cautions(name: str, metrics: Metrics) -> Iterator[str]:
    if metrics["blocks"]:
        yield (
            f"{name}: block split. The patients of the slices are not known; training, validation and test "
            "are contiguous blocks of the index with gaps between them, and the bootstrap draws blocks. "
            "Every slice is a volume of its own, so nothing is said of patients or series."
        )
    if metrics["slices"] == metrics["tumour_slices"]:
        yield (
            f"{name}: every slice has tumour. AUC and specificity are not defined, precision is 1 and "
            "accuracy is recall by construction."
        )
    units = metrics["patients"] + metrics["blocks"]
    if units < FEW:
        yield f"{name}: with no more than {units} to draw from, the intervals say little."


def _beside(metrics: Metrics, classifiers: Metrics, others: Sequence[Metrics]) -> Iterator[str]:
    """Compare with other bundles, the baselines and the origin works."""
    bundles = {f"{own['bundle']['name']} {own['bundle']['version']}": own for own in (metrics, *others)}
    cnn, resnet = ORIGINS.items()
    slices, pixels = (
        {name: own[part] for name, own in bundles.items()} for part in ("detector", "segmenter")
    )
    yield from ("", "## Beside other methods", "", "Slices:", "")
    yield from rows_of({**slices, **classifiers, cnn[0]: cnn[1]}, DETECTOR_COLUMNS)
    yield from ("", "Pixels:", "")
    yield from rows_of({**pixels, resnet[0]: resnet[1]}, SEGMENTER_COLUMNS)
    yield from ("", ORIGINS_NOTE)
    yield from ("", "## Time, in ms per slice on a CPU", "")
    rows = [[name, *(f"{ms:.1f}" for ms in own["speed"].values())] for name, own in bundles.items()]
    yield from grid(["", *(key.replace("_", " ") for key in metrics["speed"])], rows)


def _confusion(metrics: Metrics) -> list[str]:
    counts = metrics["detector"]["confusion"]
    rows = [
        ["positive", str(counts["true_positive"]), str(counts["false_positive"])],
        ["negative", str(counts["false_negative"]), str(counts["true_negative"])],
    ]
    return grid(["", "tumour", "no tumour"], rows)


def markdown(
    metrics: Metrics, classifiers: Metrics, others: Sequence[Metrics], pictures: Sequence[str]
) -> str:
    """Write the figures of :func:`training.evaluation.run_evaluation` for people.

    Parameters
    ----------
    metrics : as in ``metrics.json``
    classifiers : by name, as in ``baselines.json``
    others : as ``metrics``, of other bundles
    pictures : names of files beside the report
    """
    bundle, by_data = metrics["bundle"], metrics.get("by_data", {})
    name = " + ".join(metrics["data"])
    digest = bundle["weights_sha256"][:12]
    lines = [f"# {bundle['name']} {bundle['version']} on {name}, split {metrics['split']}", ""]
    lines += [
        f"{_counted(metrics)}; weights {digest}.",
        "Intervals: 95 %, bootstrap over patients or blocks.",
    ]
    if metrics["every"] > 1:
        lines += ["", f"Of {metrics['every']} patients or blocks one was taken."]
    if by_data:
        lines += ["", *(f"- {data}: {_counted(own)}." for data, own in by_data.items())]
        lines += ["", AUC_NOTE]
    for data, own in (by_data or {name: metrics}).items():
        for caution in _cautions(data, own):
            lines += ["", caution]
    columns = {"together": metrics, **by_data}
    for part, title in TITLES.items():
        lines += ["", f"## {title}", "", *_part(columns, part)]
    if metrics["by_disease"]:
        lines += ["", "## Pixels by disease", "", *rows_of(metrics["by_disease"], DISEASE_COLUMNS)]
    lines += _beside(metrics, classifiers, others)
    lines += ["", "## Slices, counted", "", *_confusion(metrics)]
    lines += ["", *(f"![{picture.removesuffix('.png')}]({picture})" for picture in pictures)]
    return "\n".join(lines) + "\n"


def baselines_markdown(table: Metrics) -> str:
    """Write one row a classifier."""
    heading = f"# Classical classifiers of slices on {' + '.join(table['data'])}, split {table['split']}"
    return "\n".join([heading, "", *rows_of(table["classifiers"], DETECTOR_COLUMNS)]) + "\n"


def _changed(table: Metrics, name: str) -> str:
    """Give a figure and its change; a star where the change's interval leaves out zero."""
    value = table[name]
    if value is None:
        return "not defined"
    change, interval = table["change"][name], table["change"][f"{name}_ci95"]
    star = "\\*" if interval and (interval[0] > 0 or interval[1] < 0) else ""
    return f"{value:.3f} ({change:+.3f}{star})"


def robustness_markdown(result: Metrics, pictures: Sequence[str]) -> str:
    """Write the tables of :func:`training.robustness.run_robustness` for people."""
    bundle = result["bundle"]
    lines = [f"# {bundle['name']} {bundle['version']}, perturbed, split {result['split']}", ""]
    lines += [
        "Each volume was changed before the node's own normalisation, by a fixed seed, and its mask with it.",
        "In brackets the change from the unperturbed slices; a star where its 95 % interval (bootstrap over",
        "the same patients or blocks) leaves out zero.",
    ]
    if result["every"] > 1:
        lines += ["", f"Of {result['every']} patients or blocks one was taken."]
    for data, table in result["by_data"].items():
        unperturbed = table["unperturbed"]
        rows = [["unperturbed", *(cell(unperturbed, name) for name in ROBUSTNESS_COLUMNS)]]
        rows += [
            [own["text"], *(_changed(own, key) for key in ROBUSTNESS_COLUMNS)]
            for name, own in table.items()
            if name != "unperturbed"
        ]
        lines += ["", f"## {data}", "", f"{_counted(unperturbed)}."]
        for caution in _cautions(data, unperturbed):
            lines += ["", caution]
        lines += ["", *grid(["", *ROBUSTNESS_COLUMNS], rows)]
    lines += ["", *(f"![{picture.removesuffix('.png')}]({picture})" for picture in pictures)]
    return "\n".join(lines) + "\n"
