"""What is deleted, when, and what is kept.

The book is written as the node writes it. Not covered: what comes while or after something is deleted
(test_retention_meanwhile.py), a whole node (test_housekeeping.py).
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.settings import Retention as Rules
from dicom_node.workflow.ledger import Sent, State
from dicom_node.workflow.retention import Holding, What
from tests.workflow.shelf import BOTH, LATER, NOW, UID, Shelf, write_object


def test_without_rules_nothing_is_ever_deleted(shelf: Callable[..., Shelf]) -> None:
    node = shelf()
    node.receive(1, 2)
    node.enter(State.DONE, Sent.DONE)
    assert node.due() == []


def test_images_and_results_go_after_their_days_and_not_before(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    node.receive(1, 2)
    node.receive(2, seed=1)  # a conflict
    node.enter(State.DONE, Sent.DONE)
    assert node.due(NOW + timedelta(days=6.9)) == []
    assert node.due(NOW + timedelta(days=7.1)) == [What.IMAGES]
    (images,) = node.retention.clean(NOW + timedelta(days=7.1))
    assert len(images.paths) == 3
    assert not list((node.settings.folder / "spool/series").iterdir())
    assert node.due(NOW + timedelta(days=29.9)) == []
    (results,) = node.retention.clean(NOW + timedelta(days=30.1))
    assert results.what is What.RESULTS
    assert node.retention.clean(LATER) == []


@pytest.mark.parametrize(
    ("state", "sent", "expected"),
    [
        (State.WAITING, None, []),
        (State.ANALYSING, None, []),
        (State.SENDING, Sent.RETRYING, []),
        (State.SENDING, Sent.ASKED, []),
        (State.UNDELIVERED, Sent.FAILED, []),
        (State.FAILED, None, []),
        (State.SKIPPED, None, [What.IMAGES]),
        (State.DONE, None, [What.IMAGES]),
        (State.DONE, Sent.DONE, [What.IMAGES, What.RESULTS]),
        (State.DONE, Sent.COMMITTED, [What.IMAGES, What.RESULTS]),
    ],
)
def test_only_what_nobody_needs_goes(
    shelf: Callable[..., Shelf], state: State, sent: Sent | None, expected: list[What]
) -> None:
    node = shelf(**BOTH, maximum_gb=1e-9)
    node.receive(1, 2)
    node.enter(state, sent)
    assert sorted(node.due()) == expected


def test_images_that_no_job_knows_of_are_never_deleted(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH, maximum_gb=1e-9)
    node.receive(1, 2)
    assert node.due() == []
    node.enter(State.DONE, Sent.DONE)
    node.receive(3)  # late: its version was not analysed yet
    assert What.IMAGES not in node.due()


def test_results_without_a_destination_are_the_only_ones_and_stay(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    node.receive(1)
    job_id = node.enter(State.DONE)
    folder = node.settings.folder / "results" / UID / job_id.removeprefix(f"{UID}-")
    folder.mkdir(parents=True)
    write_object(folder / "sr.dcm", "sr")
    assert node.due() == [What.IMAGES]


def test_where_commitment_is_required_sent_is_not_enough(shelf: Callable[..., Shelf]) -> None:
    for sent, expected in ((Sent.DONE, [What.IMAGES]), (Sent.COMMITTED, [What.IMAGES, What.RESULTS])):
        node = shelf(commitment="required", **BOTH)
        node.receive(1)
        node.enter(State.DONE, sent)
        assert sorted(node.due()) == expected


def test_beyond_the_maximum_the_oldest_go_first_and_no_more_than_needed(shelf: Callable[..., Shelf]) -> None:
    node = shelf(maximum_gb=1.0)
    for number, days in ((1, 30), (2, 40), (3, 20)):
        uid = f"{UID}.{number}"
        node.receive(1, 2, uid=uid, size=256)
        node.enter(State.SKIPPED, uid=uid)
        for path in node.spool.instances(uid):
            os.utime(path, (time.time() - days * 86400,) * 2)
    # The book's times are now: only the order of the files' times can differ from it
    held = sum(p.stat().st_size for p in (node.settings.folder / "spool/series").rglob("*.dcm"))
    object.__setattr__(node.settings.retention, "maximum_gb", held * 0.6 / (1 << 30))
    due = node.retention.due(LATER)
    assert [holding.name for holding in due] == [f"{UID}.1", f"{UID}.2"]
    object.__setattr__(node.settings.retention, "maximum_gb", held * 1.1 / (1 << 30))
    assert node.retention.due(LATER) == []


def test_what_stays_is_not_kept_in_memory_while_the_rest_is_looked_for(
    shelf: Callable[..., Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shelf(images_days=7)
    for number in range(5):
        here.receive(1, uid=f"{UID}.{number}")
        here.enter(State.SKIPPED, uid=f"{UID}.{number}")
    holdings, at_once = here.retention._holdings, []
    gc.collect()  # what tests before this one left

    def counted(now: datetime) -> Iterator[Holding]:
        for holding in holdings(now):
            yield holding
            at_once.append(sum(isinstance(each, Holding) for each in gc.get_objects()))

    monkeypatch.setattr(here.retention, "_holdings", counted)
    assert here.retention.due(NOW) == []
    assert len(at_once) == 5
    assert at_once[-1] == at_once[0] > 0
    assert len(here.retention.due(LATER)) == 5


def test_what_still_may_be_arriving_stays_whatever_the_size(shelf: Callable[..., Shelf]) -> None:
    node = shelf(maximum_gb=1e-9)
    before = datetime.now(UTC)
    node.receive(1)
    node.enter(State.SKIPPED)
    assert node.due(before + timedelta(seconds=59)) == []
    assert node.due(datetime.now(UTC) + timedelta(seconds=61)) == [What.IMAGES]


def test_rules_that_would_forget_a_result_before_its_images_are_refused() -> None:
    with pytest.raises(ValueError, match="results_days must not be less than images_days"):
        Rules(images_days=30, results_days=7)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_deletes_stays_the_nodes_own(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    for path in (folder, folder / "spool", folder / "results"):
        path.mkdir()
        os.chown(path, 65534, 65534)
    node = Shelf(folder, BOTH)
    node.receive(1)
    node.enter(State.DONE, Sent.DONE)
    (made,) = (folder / "results").glob("*/*")
    os.chown(made, 65534, 65534)
    node.retention.clean(LATER)
    node.ledger.close()
    written = [*(folder / "spool/deleted").iterdir(), *made.rglob("*")]
    assert {path.name for path in written} == {".lock", UID, "deleted", "seg.dcm", "sc.dcm", "sr.dcm"}
    assert {path.stat().st_uid for path in [folder / "spool/deleted", *written]} == {65534}
