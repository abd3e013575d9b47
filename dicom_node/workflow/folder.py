"""The same analysis on a folder of files, without network or durable work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.errors import NodeError
from dicom_node.series.find import find_series
from dicom_node.series.selection import Outcome
from dicom_node.workflow.stations import Stations, Task
from dicom_node.workflow.worked import Worked


@dataclass(frozen=True)
class Analysed:
    """What became of one series of a folder.

    Attributes
    ----------
    worked : None when it was skipped, or no report could be made
    detail : what was found, why it was skipped, or the cause of the failure
    """

    series_instance_uid: str
    outcome: Outcome
    folder: Path
    detail: str
    worked: Worked | None = None

    @property
    def failed(self) -> bool:
        """Whether it fits a pipeline and could not be analysed."""
        return self.outcome is not Outcome.SKIPPED and (self.worked is None or self.worked.findings is None)


def analyse_folder(stations: Stations, folder: Path, out: Path) -> Iterator[Analysed]:
    """Analyse every series below a folder, each into ``out/SERIES_INSTANCE_UID``.

    Files that are no DICOM images are passed over.
    """
    for uid, paths in find_series(folder).items():
        target = out / uid
        selected = stations.select(paths)
        selection = selected.selection
        if selection.outcome is Outcome.SKIPPED:
            yield Analysed(uid, Outcome.SKIPPED, target, selection.reason)
            continue
        try:
            worked = stations.work(selected, Task(target, datetime.now(UTC).replace(microsecond=0)))
            yield Analysed(uid, selection.outcome, target, worked.detail, worked)
        except NodeError as error:
            yield Analysed(uid, selection.outcome, target, f"no report could be made: {error}")
