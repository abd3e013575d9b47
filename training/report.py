"""Tables of figures as Markdown."""

from __future__ import annotations

from typing import Any

TITLES = {
    "detector": "Detector, by slice",
    "segmenter": "Segmenter, by pixel, all slices, on the source grid",
    "series": "Series",
    "speed": "Time, in ms per slice on a CPU",
}


def _cell(table: dict[str, Any], name: str) -> tuple[str, str]:
    """Give the texts of a figure and of its interval."""
    value, interval = table[name], table.get(f"{name}_ci95")
    text = "not defined" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
    return text, f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""


def _rows(table: dict[str, Any]) -> list[str]:
    rows = ["| figure | value | 95 % interval |", "|---|---|---|"]
    for name, value in table.items():
        if name.endswith("_ci95") or isinstance(value, dict):
            continue
        rows.append(f"| {name} | {' | '.join(_cell(table, name))} |")
    return rows


def markdown(metrics: dict[str, Any]) -> str:
    """Write the figures of :func:`training.evaluation.measure` for people."""
    bundle = metrics["bundle"]
    digest = bundle["weights_sha256"][:12]
    lines = [
        f"# {bundle['name']} {bundle['version']} on {metrics['data']}, split {metrics['split']}",
        "",
        f"{metrics['patients']} patients, {metrics['detector']['n']} slices; weights {digest}.",
        "Intervals: bootstrap over patients.",
    ]
    for part, title in TITLES.items():
        lines += ["", f"## {title}", "", *_rows(metrics[part])]
    confusion = metrics["detector"]["confusion"]
    lines += [
        "",
        "## Slices, counted",
        "",
        "| | tumour | no tumour |",
        "|---|---|---|",
        f"| positive | {confusion['true_positive']} | {confusion['false_positive']} |",
        f"| negative | {confusion['false_negative']} | {confusion['true_negative']} |",
        "",
        "![ROC curve and calibration](detector.png)",
    ]
    return "\n".join(lines) + "\n"


def baselines_markdown(table: dict[str, dict[str, Any]], heading: str) -> str:
    """Write one row a classifier."""
    names = ("accuracy", "precision", "recall", "f1", "auc")
    lines = [f"# {heading}", "", f"| classifier | {' | '.join(names)} |", "|---" * 6 + "|"]
    for classifier, figures in table.items():
        cells = [_cell(figures, name) for name in names]
        row = " | ".join(f"{text} ({interval})" if interval else text for text, interval in cells)
        lines.append(f"| {classifier} | {row} |")
    return "\n".join(lines) + "\n"
