"""Asking for storage commitment, and reading the report: each answer, each silence, and what is no report.

Not covered: what follows from a report (tests/workflow/test_commitment.py).
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom.dsutils import encode

from dicom_node.deliver.commitment import NOT_NAMED, PUSH_MODEL, Report, ask, read_report
from dicom_node.deliver.cstore import Peer
from dicom_node.errors import DeliveryRefused, DestinationUnavailable, NodeError
from dicom_node.receive.event_report import EventReport
from tests.support.committing import Asked, Committing
from tests.support.running import free_port, wait_for

OBJECTS = [(str(MRImageStorage), "1.2.1"), (str(MRImageStorage), "1.2.2")]


def peer_of(archive: Committing, timeout_s: float = 60) -> Peer:
    return Peer(archive.title, "127.0.0.1", archive.port, "NODE", timeout_s)


def ignore(_report: EventReport) -> int:
    return 0x0000


def test_the_request_names_transaction_and_objects() -> None:
    with Committing("ARCHIVE", 0) as archive:
        ask(peer_of(archive), lambda: "1.2.3", OBJECTS, ignore, 0)
    (asked,) = archive.asked
    assert asked.transaction_uid == "1.2.3"
    assert list(asked.objects) == OBJECTS


def test_a_report_on_the_same_association_is_taken_and_ends_the_wait() -> None:
    def keep(archive: Committing, asked: Asked) -> None:
        archive.report_on(asked.association, asked.transaction_uid, asked.uids[:1], {asked.uids[1]: 0x0112})

    reports: list[EventReport] = []

    def take(report: EventReport) -> int:
        reports.append(report)
        return 0x0000

    with Committing("ARCHIVE", 0, after=keep) as archive:
        start = time.monotonic()
        ask(peer_of(archive), lambda: "1.2.3", OBJECTS, take, 60)
        assert time.monotonic() - start < 30
        assert wait_for(lambda: archive.statuses) == [0x0000]
    (report,) = reports
    assert (report.sop_class_uid, report.event_type) == (PUSH_MODEL, 2)
    assert read_report(report) == Report("1.2.3", frozenset(["1.2.1"]), {"1.2.2": 0x0112})


def test_a_report_that_comes_before_the_request_is_answered_is_taken() -> None:
    def keep_and_then_answer(archive: Committing, asked: Asked) -> None:
        archive.report_on(asked.association, asked.transaction_uid, asked.uids)

    reports: list[EventReport] = []

    def take(report: EventReport) -> int:
        reports.append(report)
        return 0x0000

    with Committing("ARCHIVE", 0, during=keep_and_then_answer) as archive:
        start = time.monotonic()
        assert ask(peer_of(archive), lambda: "1.2.3", OBJECTS, take, 60) == "1.2.3"
        assert time.monotonic() - start < 30  # the report is there: nothing is waited for
        assert archive.statuses == [0x0000]
    assert [read_report(report) for report in reports] == [Report("1.2.3", frozenset(["1.2.1", "1.2.2"]), {})]


def test_a_report_that_is_being_taken_when_the_wait_ends_is_answered() -> None:
    def keep(archive: Committing, asked: Asked) -> None:
        archive.report_on(asked.association, asked.transaction_uid, asked.uids)

    def slowly(_report: EventReport) -> int:
        time.sleep(5)
        return 0x0000

    with Committing("ARCHIVE", 0, after=keep) as archive:
        ask(peer_of(archive), lambda: "1.2.3", OBJECTS, slowly, 4)
        assert wait_for(lambda: archive.statuses) == [0x0000]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0x0110, DestinationUnavailable),
        (0x0213, DestinationUnavailable),
        (0x0112, DeliveryRefused),
        (0x0124, DeliveryRefused),
        (0x0211, DeliveryRefused),
    ],
)
def test_a_refusal_is_transient_or_final(status: int, error: type[NodeError]) -> None:
    with (
        Committing("ARCHIVE", 0, during=lambda *_: status) as archive,
        pytest.raises(error, match=f"status {status:04X}H"),
    ):
        ask(peer_of(archive), lambda: "1.2.3", OBJECTS, ignore, 0)


def hang(_archive: Committing, _asked: Asked) -> None:
    time.sleep(2)


def hang_up(_archive: Committing, asked: Asked) -> None:
    asked.association.abort()


@pytest.mark.parametrize("during", [hang, hang_up])
def test_no_answer_is_asked_again(during) -> None:
    with (
        Committing("ARCHIVE", 0, during=during) as archive,
        pytest.raises(DestinationUnavailable, match="ARCHIVE@"),
    ):
        ask(peer_of(archive, timeout_s=1), lambda: "1.2.3", OBJECTS, ignore, 0)


def test_nobody_there_is_asked_again_and_who_does_not_offer_it_is_not() -> None:
    with pytest.raises(DestinationUnavailable, match="does not answer"):
        ask(Peer("ARCHIVE", "127.0.0.1", free_port(), "NODE"), lambda: "1.2.3", OBJECTS, ignore, 0)
    with (
        Committing("ARCHIVE", 0, offers_commitment=False) as archive,
        pytest.raises(DeliveryRefused, match="Storage Commitment Push Model"),
    ):
        ask(peer_of(archive), lambda: "1.2.3", OBJECTS, ignore, 0)


def report_of(information: bytes, syntax: str = ExplicitVRLittleEndian) -> EventReport:
    return EventReport(PUSH_MODEL, "1.2", 1, information, syntax, "ARCHIVE")


def encoded(kept: list[str], failed: dict[str, int | None], *, implicit: bool = False) -> bytes:
    def item(uid: str, reason: int | None = None) -> Dataset:
        named = Dataset()
        named.ReferencedSOPInstanceUID = uid
        if reason is not None:
            named.FailureReason = reason
        return named

    information = Dataset()
    information.TransactionUID = "1.2.3"
    information.ReferencedSOPSequence = [item(uid) for uid in kept]
    information.FailedSOPSequence = [item(uid, reason) for uid, reason in failed.items()]
    return encode(information, implicit, True)


def test_an_instance_that_is_both_kept_and_failed_has_failed() -> None:
    report = read_report(report_of(encoded(["1.1", "1.2"], {"1.2": 0x0110, "1.3": None})))
    assert report == Report("1.2.3", frozenset(["1.1"]), {"1.2": 0x0110, "1.3": NOT_NAMED})
    implicit = report_of(encoded(["1.1"], {}, implicit=True), ImplicitVRLittleEndian)
    assert read_report(implicit).committed == {"1.1"}


@given(st.binary(max_size=200) | st.integers(0, 150).map(lambda n: encoded(["1.1"], {"1.2": 1})[:n]))
def test_what_is_no_report_is_an_error_of_one_kind(information: bytes) -> None:
    try:
        report = read_report(report_of(information))
    except ValueError:
        return
    assert report.committed.isdisjoint(report.failed)
