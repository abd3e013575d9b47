"""The stations of a series with their times: from the images' files, the book and the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dicom_node.workflow.entry import ENDED, Entry, Happened, State


@dataclass(frozen=True, slots=True)
class Station:
    """One part of the way.

    Attributes
    ----------
    at : when it began
    seconds : None while it runs, or where that is not known
    """

    name: str
    at: datetime
    seconds: float | None
    detail: str = ""


def stations_of(
    entry: Entry, happened: Sequence[Happened], paths: Sequence[Path], summary: Mapping[str, Any]
) -> Iterator[Station]:
    """Tell the way of a series so far, the first station first."""
    times = sorted(filter(None, map(_stored_at, paths)))
    first_run = entry.version == 1 and times and times[-1] <= entry.created_at
    if first_run:
        images = f"{len(times)} images"
        yield Station("received", times[0], (times[-1] - times[0]).total_seconds(), images)
        quiet_s = (entry.created_at - times[-1]).total_seconds()
        yield Station("quiet until complete", times[-1], quiet_s)
    own: list[Happened] = []
    for each in happened:
        said = (each.state, each.detail)
        if not each.destination and (not own or said != (own[-1].state, own[-1].detail)):
            own.append(each)
    inside = summary.get("timings_s", {})
    for here, after in zip(own, [*own[1:], None], strict=True):
        if here.state in ENDED:
            yield Station(here.state, here.at, None, here.detail)
            continue
        seconds = (after.at - here.at).total_seconds() if after else None
        detail = here.detail
        if here.state == State.ANALYSING and inside:
            parts = (("reading", "series"), ("models", "analysis"), ("objects and proof", "results"))
            detail = ", ".join(f"{name} {inside[key]:.1f} s" for name, key in parts if key in inside)
        yield Station(here.state, here.at, seconds, detail)


def _stored_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:  # deleted meanwhile
        return None
