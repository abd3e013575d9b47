"""What is tried out: one picture or one series, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from dicom_node.series.selection import Verdict
from dicom_node.web.shown import Judged, Shown


class Doing(StrEnum):
    """Where it is."""

    WAITING = "waiting"
    READING = "reading"
    DETECTING = "detecting"
    DETECTED = "detected"
    OUTLINING = "outlining"
    OUTLINED = "outlined"
    REFUSED = "not analysed"


RUNNING = (Doing.WAITING, Doing.READING, Doing.DETECTING, Doing.OUTLINING)


@dataclass
class Item:
    """One picture, or one series; only the trial's thread writes.

    Attributes
    ----------
    title : to be shown; a name that was sent, or a description from a header
    paths : one picture, or the images of a series
    folder : of its result
    bundle : that is or was used; empty until that is known
    finding : what is looked for, in words
    threshold : of the detector
    outcome : in a sentence
    done, total : slices of what runs
    shown : of a picture; a series is read when it is looked at
    """

    number: int
    title: str
    is_picture: bool
    paths: tuple[Path, ...]
    folder: Path
    doing: Doing = Doing.WAITING
    bundle: str = ""
    version: str = ""
    finding: str = "tumour"
    threshold: float = 0.5
    detail: str = ""
    outcome: str = ""
    judged: tuple[Judged, ...] = ()
    trace: tuple[Verdict, ...] = ()
    shown: Shown | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    done: int = 0
    total: int = 0

    @property
    def is_running(self) -> bool:
        """Whether something is still to come."""
        return self.doing in RUNNING

    @property
    def probability(self) -> float | None:
        """The detector's highest."""
        return max((each.probability for each in self.judged), default=None)

    @property
    def top_slice(self) -> int:
        """Number of the slice with the highest probability."""
        return 1 + max(range(len(self.judged)), key=lambda k: self.judged[k].probability, default=0)

    @property
    def is_positive(self) -> bool:
        """Whether a tumour is found, on any slice."""
        return any(each.positive for each in self.judged)
