"""Deletion and what comes meanwhile or later: late images, crashes between any two deletions, two threads.

Not covered: which instances a network file system shows after a crash of its server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pydicom
import pytest

from dicom_node.receive.completion import look
from dicom_node.results.files import read_predecessor, read_result_set
from dicom_node.workflow import orders
from dicom_node.workflow.ledger import Entry, Sent, State
from dicom_node.workflow.retention import Holding, What
from dicom_node.workflow.upkeep import Upkeep
from tests.workflow.shelf import BOTH, LATER, NOW, UID, Shelf


def with_series_deleted(shelf: Callable[..., Shelf]) -> Shelf:
    """A node that has deleted a series of three images, and its results."""
    node = shelf(**BOTH)
    node.receive(1, 2, 3)
    node.enter(State.DONE, Sent.DONE)
    node.retention.clean(LATER)
    return node


def test_a_late_image_of_a_deleted_series_is_told_of_and_not_analysed(shelf: Callable[..., Shelf]) -> None:
    node = with_series_deleted(shelf)
    node.receive(4)
    node.take()
    assert node.jobs.taken == []
    late, _ = node.ledger.entries(series_instance_uid=UID)
    assert late.state is State.FAILED
    assert "1 late images; 3 images of this series were deleted" in late.detail
    assert late.remedy == "send the whole series again"
    assert late in node.ledger.failed()
    assert node.due() == []  # nobody has looked at it

    node.receive(1, 2)  # the series comes again, with a pause
    node.take()
    assert node.jobs.taken == []
    node.receive(3)
    node.take()
    assert node.jobs.taken == [4]
    node.enter(State.DONE, Sent.DONE)
    assert node.due() == [What.IMAGES, What.RESULTS]
    assert node.ledger.entries(series_instance_uid=UID)[0].version > 1


def ordered(node: Shelf) -> list[bool]:
    """Take up what was ordered."""
    jobs, _ = node.ledger.ordered()
    return [node.intake.take_again(entry) for entry in jobs]


@pytest.mark.parametrize("order", ["all", "one", "again"])
def test_a_late_image_of_a_deleted_series_is_not_analysed_by_order_either(
    shelf: Callable[..., Shelf], order: str
) -> None:
    node = with_series_deleted(shelf)
    node.receive(4)
    node.take()
    if order == "all":
        assert orders.retry_all(node.ledger) == ["2: to be analysed again"]
    else:
        orders.retry(node.ledger, "2", partial(look, node.spool), again=order == "again")
    assert ordered(node) == [False]
    assert node.jobs.taken == []
    late = node.ledger.entries(series_instance_uid=UID)[0]
    assert late.state is State.FAILED
    assert late.detail == "3 images of this series were deleted after its result was sent"
    assert late.remedy == "send the whole series again"

    node.receive(1, 2, 3)  # and now it is whole
    node.take()
    node.enter(State.CANCELLED)
    orders.retry(node.ledger, str(node.ledger.entries()[0].number), partial(look, node.spool))
    assert ordered(node)[-1]
    assert node.jobs.taken == [4, 4]


@pytest.mark.parametrize("may_pass", [True, False])
def test_an_order_that_cannot_be_taken_up_keeps_no_other_waiting(
    shelf: Callable[..., Shelf], may_pass: bool
) -> None:
    node = shelf(**BOTH)
    uids = [f"{UID}.{number}" for number in (1, 2)]
    for uid in uids:
        node.receive(1, uid=uid)
        node.enter(State.FAILED, uid=uid)
    begin, node.jobs.begin = node.jobs.begin, lambda entry, series: refuse(entry, series)

    def refuse(entry: Entry, series: object) -> None:
        if entry.series_instance_uid == uids[0]:
            raise OSError(5, "Input/output error") if may_pass else ValueError("Doe^John")
        begin(entry, series)

    assert len(orders.retry_all(node.ledger)) == 2
    Upkeep(None, node.ledger, node.jobs, None, None, node.intake).take_orders()
    assert node.jobs.taken == [1]
    (first,), (second,) = (node.ledger.entries(series_instance_uid=uid) for uid in uids)
    assert (first.state, first.ordered) == ((State.WAITING, True) if may_pass else (State.FAILED, False))
    assert (second.state, second.ordered) == (State.WAITING, False)
    if not may_pass:
        assert first.detail == "not taken up: error ValueError, see the log"


def test_a_damaged_image_keeps_no_series_from_being_taken_or_deleted(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    node.receive(1, 2)
    node.spool.instances(UID)[0].write_bytes(b"")
    node.take()
    assert node.jobs.taken == [2]
    node.enter(State.DONE, Sent.DONE)
    assert What.IMAGES in [h.what for h in node.retention.clean(LATER)]


def test_an_order_waits_for_the_deletion_of_its_images(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    node.receive(1, 2)
    node.enter(State.SKIPPED)
    with node.spool.exclusively():  # as it was found: nobody asks for it
        orders.retry(node.ledger, "1", partial(look, node.spool))
        taking = threading.Thread(target=ordered, args=(node,))
        taking.start()
        time.sleep(0.3)
        assert node.jobs.taken == []
        node.spool.delete(UID, node.spool.instances(UID))
    taking.join()
    assert node.jobs.taken == []
    assert node.ledger.entries()[0].detail == "its images are no longer in the spool"


def test_a_deleted_series_that_comes_again_in_part_is_nothing_new(shelf: Callable[..., Shelf]) -> None:
    node = with_series_deleted(shelf)
    node.receive(2)
    node.take()
    assert node.jobs.taken == []
    assert len(node.ledger.entries(series_instance_uid=UID)) == 1
    assert What.IMAGES not in node.due(NOW + timedelta(days=6))
    assert What.IMAGES in node.due(NOW + timedelta(days=8))
    node.receive(1, 3)
    node.take()
    assert node.jobs.taken == [3]  # the same version: the book knows it


@pytest.mark.parametrize("survives", [1, 2, 3])
def test_a_crash_between_two_deletions_leaves_nothing_that_is_analysed(
    shelf: Callable[..., Shelf], survives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = shelf(**BOTH)
    node.receive(1, 2, 3)
    node.enter(State.DONE, Sent.DONE)
    unlink, count = Path.unlink, 0

    def die(path: Path, missing_ok: bool = False) -> None:
        nonlocal count
        count += 1
        if count == survives:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", die)
    with pytest.raises(KeyboardInterrupt):
        node.retention.clean(LATER)
    monkeypatch.undo()
    left = look(node.spool, UID)
    assert left is not None
    assert left.instances == 4 - survives
    node.intake.take(left)
    assert node.jobs.taken == ([3] if survives == 1 else [])  # whole: the version that the book knows
    assert What.IMAGES in [h.what for h in node.retention.clean(LATER)]
    assert look(node.spool, UID) is None


def test_a_crash_within_the_deletion_of_results_is_gone_on_with(
    shelf: Callable[..., Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = shelf(results_days=30)
    node.receive(1)
    node.enter(State.DONE, Sent.DONE)
    (folder,) = (node.settings.folder / "results").glob("*/*")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        node.retention.clean(LATER)
    monkeypatch.undo()
    assert read_result_set(folder) is not None
    (holding,) = node.retention.clean(LATER)
    assert [path.name for path in holding.paths] == ["result.json", "sc.dcm", "seg.dcm", "sr.dcm"]


def test_what_cannot_be_deleted_keeps_nothing_else_from_going(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    for uid in (UID, f"{UID}.1", f"{UID}.2"):
        node.receive(1, uid=uid)
        node.enter(State.DONE, Sent.DONE, uid)
    (damaged,) = (node.settings.folder / "results" / f"{UID}.1").glob("*/sr.dcm")
    damaged.write_bytes(b"noise")
    deleted = node.retention.clean(LATER)
    assert [h.what for h in deleted].count(What.IMAGES) == 3
    assert [h.name.partition("-")[0] for h in deleted if h.what is What.RESULTS] == [UID, f"{UID}.2"]
    assert damaged.exists()


def test_what_a_later_version_must_know_of_deleted_results_is_kept_without_patient_data(
    shelf: Callable[..., Shelf],
) -> None:
    node = shelf(results_days=30)
    node.receive(1)
    node.enter(State.DONE, Sent.DONE)
    (folder,) = (node.settings.folder / "results").glob("*/*")
    before = read_result_set(folder)
    node.retention.clean(LATER)
    assert read_result_set(folder) is None
    after = read_predecessor(folder)
    assert [(o.kind, o.sop_instance_uid, o.series_instance_uid) for o in after.objects] == [
        (o.kind, o.sop_instance_uid, o.series_instance_uid) for o in before.objects
    ]
    assert after.study_instance_uid == before.study_instance_uid
    for made in after.objects:
        kept = pydicom.dcmread(made.path)
        assert kept.SeriesDate == "20260101"
        assert "PatientName" not in kept
        assert made.path.stat().st_size < 2000


def test_an_image_that_comes_between_finding_and_deleting_is_kept(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    node.receive(1, 2)
    node.enter(State.DONE, Sent.DONE)
    found: list[Holding] = node.retention.due(LATER)
    node.receive(3)
    assert not node.retention._delete(found[0], LATER)
    assert len(node.spool.instances(UID)) == 3


def test_taking_up_a_series_waits_for_its_deletion(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    node.receive(1, 2)
    series = look(node.spool, UID)
    with node.spool.exclusively():
        taking = threading.Thread(target=node.intake.take, args=(series,))
        taking.start()
        time.sleep(0.3)
        assert node.jobs.taken == []
        node.spool.delete(UID, node.spool.instances(UID))
    taking.join()
    assert node.jobs.taken == []
