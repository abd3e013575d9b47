"""What the demonstration prints."""

from __future__ import annotations

import threading
from contextlib import suppress

from rich.console import Console
from rich.table import Table

from dicom_node.trial.demo import Demonstration


def show(console: Console, shown: Demonstration) -> None:
    """Print what was found, where the files are, and where the time went."""
    summary = shown.summary
    bundle = summary["bundle"]
    console.print(f"\n{summary['outcome']}: {summary['detail']}", style="bold", markup=False)
    console.print(f"by {bundle['name']} {bundle['version']} on {bundle['device']}; {summary['notice']}\n")

    if summary.get("lesions"):
        table = Table("lesion", "volume ml", "axes mm", "probability", "slices")
        for lesion in summary["lesions"]:
            table.add_row(
                str(lesion["number"]),
                f"{lesion['volume_ml']:.1f}",
                f"{lesion['long_axis_mm']:.1f} x {lesion['perpendicular_axis_mm']:.1f}",
                f"{lesion['mean_probability']:.2f}, at most {lesion['maximum_probability']:.2f}",
                f"{lesion['first_slice']} to {lesion['last_slice']}",
            )
        console.print(table)
    if "slices" in summary:
        positive = sum(s["positive"] for s in summary["slices"])
        console.print(f"detector: {positive} of {len(summary['slices'])} slices positive\n")

    table = Table("station", "seconds")
    for station, seconds in shown.timings_s.items():
        table.add_row(station, f"{seconds:.2f}")
    console.print(table)
    console.print("in the archive, same patient and study, proven:")
    for item, path in zip(summary["objects"], shown.archived, strict=True):
        console.print(f"  {item['kind']:3} {path}", markup=False)
    console.print(f"picture: {shown.picture}", markup=False)


def show_page(console: Console, shown: Demonstration, address: str) -> None:
    """Print the same and where the page is, and wait for Ctrl-C."""
    show(console, shown)
    console.print(f"\n[bold]The page: {address}[/bold]\nCtrl-C ends it.")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
