"""What the log says of a series that comes: that it begins, or that all of it was there already.

Covered: one line for each series and association. Not covered: the lines of the stations, which are theirs.
"""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from dicom_node.events import AssociationClosed, InstanceStored, SeriesComplete
from dicom_node.operate.journal import Journal


def stored(association: int, series: str, *, is_new: bool, is_conflict: bool = False) -> InstanceStored:
    return InstanceStored(association, series, "1.2.3", "DICOM_NODE", Path("1.dcm"), 1, is_new, is_conflict)


def told(*events: object) -> list[tuple[str, str, int | None]]:
    journal = Journal()
    with capture_logs() as lines:
        for event in events:
            journal.take(event)
    return [(line["event"], line["series"], line.get("instances")) for line in lines]


def test_a_series_that_begins_is_told_once() -> None:
    new = stored(1, "1.2", is_new=True)
    assert told(new, new, AssociationClosed(1, released=True)) == [("series_arriving", "1.2", None)]


def test_a_series_that_comes_again_unchanged_is_told_at_the_end_of_its_association() -> None:
    known, other = stored(2, "1.2", is_new=False), stored(2, "1.3", is_new=True)
    lines = told(
        stored(1, "1.2", is_new=True),
        AssociationClosed(1, released=True),
        SeriesComplete("job", "1.2", 1),
        *(known, known, other),
        AssociationClosed(2, released=True),
        AssociationClosed(2, released=True),
    )
    assert lines[1:] == [("series_arriving", "1.3", None), ("series_unchanged", "1.2", 2)]


def test_an_image_that_a_sender_repeats_while_its_series_comes_is_not_told() -> None:
    again = stored(1, "1.2", is_new=False)
    assert [
        event for event, *_ in told(stored(1, "1.2", is_new=True), again, AssociationClosed(1, released=True))
    ] == ["series_arriving"]


def test_other_content_is_not_called_unchanged() -> None:
    conflict = stored(1, "1.2", is_new=False, is_conflict=True)
    assert told(conflict, AssociationClosed(1, released=True)) == []
