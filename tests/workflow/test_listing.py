"""The book page by page: what is found, in which order, and what happened to each job.

Covered: groups, search, pages in both directions while jobs come, history, books of an earlier release.
Not covered: how quick it is with thousands of jobs (benchmarks/web.py); PostgreSQL, whose SQL is the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.workflow.entry import Delivery, Sent, State
from dicom_node.workflow.ledger import Ledger
from dicom_node.workflow.listing import Group, Wanted, condition_of
from dicom_node.workflow.worked import Outcome


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.sqlite")
    yield made
    made.close()


def take_on(ledger: Ledger, count: int) -> None:
    for k in range(1, count + 1):
        ledger.open_job(f"1.2.{k}-a", f"1.2.{k}", 24)


def numbers(ledger: Ledger, wanted: Wanted, **where: int) -> list[int]:
    return [entry.number for entry in ledger.page(condition_of(wanted), **where)]


def send(ledger: Ledger, job_id: str, *states: Sent) -> None:
    """Analyse a job and let its deliveries to archive0, archive1 ... come into these states."""
    names = [f"archive{k}" for k in range(len(states))]
    ledger.update(job_id, State.SENDING, outcome=Outcome.FINDINGS, parcels=dict.fromkeys(names, "{}"))
    entry = ledger.entry(job_id)
    assert entry is not None
    for name, state in zip(names, states, strict=True):
        (delivery,) = (d for d in entry.deliveries if d.destination == name)
        ledger.deliver(job_id, replace(delivery, state=state, attempts=1))


def test_pages_follow_one_another_in_both_directions_while_jobs_come(ledger: Ledger) -> None:
    take_on(ledger, 10)
    assert numbers(ledger, Wanted(), limit=4) == [10, 9, 8, 7]
    ledger.open_job("1.2.11-a", "1.2.11", 24)
    assert numbers(ledger, Wanted(), before=7, limit=4) == [6, 5, 4, 3]
    assert numbers(ledger, Wanted(), before=3, limit=4) == [2, 1]
    assert numbers(ledger, Wanted(), after=2, limit=4) == [6, 5, 4, 3]
    assert numbers(ledger, Wanted(), after=10, limit=4) == [11]


def test_each_group_holds_its_jobs(ledger: Ledger) -> None:
    take_on(ledger, 9)
    ledger.update("1.2.1-a", State.ANALYSING)
    ledger.update("1.2.2-a", State.SKIPPED)
    ledger.update("1.2.3-a", State.FAILED, outcome=Outcome.FAILED)
    send(ledger, "1.2.4-a", Sent.COMMITTED, Sent.COMMITTED)
    send(ledger, "1.2.5-a", Sent.COMMITTED, Sent.DONE)
    send(ledger, "1.2.6-a", Sent.FAILED)
    send(ledger, "1.2.7-a", Sent.RETRYING)
    ledger.cancel("1.2.8-a")
    found = {group: numbers(ledger, Wanted(group)) for group in Group}
    assert found == {
        Group.ALL: [9, 8, 7, 6, 5, 4, 3, 2, 1],
        Group.UNDER_WAY: [9, 7, 1],
        Group.WAITING: [9],
        Group.ANALYSING: [1],
        Group.SENDING: [7],
        Group.DONE: [5, 4],
        Group.COMMITTED: [4],
        Group.ATTENTION: [6, 3],
        Group.SKIPPED: [2],
        Group.CANCELLED: [8],
    }


def test_a_failed_analysis_needs_attention_though_its_report_was_delivered(ledger: Ledger) -> None:
    take_on(ledger, 1)
    ledger.update("1.2.1-a", State.DONE, outcome=Outcome.FAILED)
    assert numbers(ledger, Wanted(Group.ATTENTION)) == [1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1.2.3", [3]),
        ("3", [3]),
        ("LESIONS", [2]),
        ("flair 1.2.2", [2]),
        ("archive1", [1]),
        ("100%", []),
        ("%", []),
        ("_", []),
        ("nobody", []),
        ("", [3, 2, 1]),
    ],
)
def test_what_is_searched_for_is_found(text: str, found: list[int], ledger: Ledger) -> None:
    take_on(ledger, 3)
    send(ledger, "1.2.1-a", Sent.DONE, Sent.DONE)
    ledger.update("1.2.2-a", State.DONE, detail="two lesions", pipeline="flair-glioma")
    ledger.update("1.2.3-a", State.DONE, detail="it failed")
    assert numbers(ledger, Wanted(text=text)) == found


def test_outcome_and_pipeline_narrow_the_choice(ledger: Ledger) -> None:
    take_on(ledger, 3)
    ledger.update("1.2.1-a", State.DONE, outcome=Outcome.FINDINGS, pipeline="flair")
    ledger.update("1.2.2-a", State.DONE, outcome=Outcome.NO_FINDINGS, pipeline="flair")
    ledger.update("1.2.3-a", State.DONE, outcome=Outcome.FINDINGS, pipeline="t1ce")
    assert numbers(ledger, Wanted(outcome=Outcome.FINDINGS)) == [3, 1]
    assert numbers(ledger, Wanted(outcome=Outcome.FINDINGS, pipeline="flair")) == [1]


def test_the_history_of_a_job_tells_each_state_in_order(ledger: Ledger) -> None:
    start = datetime.now(UTC)
    take_on(ledger, 2)
    ledger.update("1.2.1-a", State.ANALYSING, detail="fits 'flair'")
    send(ledger, "1.2.1-a", Sent.FAILED)
    ledger.order_delivery("1.2.1-a", "archive0", "to be sent again")
    entry = ledger.entry("1.2.1-a")
    assert entry is not None
    again = Delivery("archive0", Sent.DONE, 1, "", ticket=entry.deliveries[0].ticket)
    ledger.deliver("1.2.1-a", again)
    happened = ledger.history("1.2.1-a")
    assert [(each.destination, each.state) for each in happened] == [
        ("", "waiting"),
        ("", "analysing"),
        ("", "sending"),
        ("archive0", "pending"),
        ("archive0", "failed"),
        ("", "undelivered"),
        ("archive0", "pending"),
        ("", "sending"),
        ("archive0", "sent"),
        ("", "done"),
    ]
    assert [each.detail for each in happened[:2]] == ["", "fits 'flair'"]
    times = [each.at for each in happened]
    assert times == sorted(times)
    assert start <= times[0]


def test_whether_anything_happened_is_told_by_one_number(ledger: Ledger) -> None:
    assert ledger.changes() == 0
    take_on(ledger, 1)
    before = ledger.changes()
    assert before > 0
    assert ledger.changes() == before
    ledger.cancel("1.2.1-a")
    assert ledger.changes() > before


def test_what_ran_lately_is_listed_with_its_times(ledger: Ledger) -> None:
    take_on(ledger, 2)
    ledger.update("1.2.2-a", State.DONE, outcome=Outcome.NO_FINDINGS)
    ran = ledger.ran_since(datetime.now(UTC) - timedelta(hours=1))
    assert [(each.state, each.outcome) for each in ran] == [
        (State.WAITING, None),
        (State.DONE, Outcome.NO_FINDINGS),
    ]
    assert all(each.created_at <= each.updated_at for each in ran)
    assert ledger.ran_since(datetime.now(UTC) + timedelta(hours=1)) == []


def test_a_book_of_an_earlier_release_gets_what_is_new(ledger: Ledger, tmp_path: Path) -> None:
    take_on(ledger, 2)
    ledger.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as book:
        book.execute("DROP TABLE history")
        book.execute("DROP INDEX ix_jobs_number")
        book.execute("ALTER TABLE jobs DROP COLUMN bundle")
    book.close()
    again = Ledger(tmp_path / "ledger.sqlite")
    assert [entry.bundle for entry in again.page(condition_of(Wanted()))] == [None, None]
    assert again.history("1.2.1-a") == []
    again.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as book:
        assert book.execute("SELECT 1 FROM sqlite_master WHERE name = 'ix_jobs_number'").fetchone()
    book.close()
