"""The book of storage commitment transactions: what is kept, what counts as late, what is forgotten.

Not covered: what is done with them (test_commitment.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.errors import StorageExhausted
from dicom_node.workflow.transactions import KEPT_DAYS, Kept, Request, Transactions


def request(number: int = 1, ticket: str = "t") -> Request:
    kept = Kept(path="/a.dcm", sop_class_uid="1.2", sop_instance_uid="1.3")
    return Request(
        job_id="j", destination="d", ticket=ticket, priority=2, objects=[kept], number=number, resend=False
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "commitments.sqlite"


@pytest.fixture
def book(path: Path) -> Iterator[Transactions]:
    opened = Transactions(path)
    yield opened
    opened.close()


def test_what_was_opened_is_found_by_another_process(book: Transactions, path: Path) -> None:
    book.open("1.1", request())
    other = Transactions(path)
    assert other.find("1.1") == request()
    assert other.find("1.2") is None
    other.close()


def test_a_report_is_awaited_until_it_came_or_a_later_request_was_made(book: Transactions) -> None:
    book.open("1.1", request(1))
    book.open("2.1", request(1, ticket="other"))
    assert book.awaits_report("1.1", request(1))
    book.open("1.2", request(2))
    assert not book.awaits_report("1.1", request(1))
    assert book.awaits_report("1.2", request(2))
    book.note_report("1.2", lacking=False)
    assert not book.awaits_report("1.2", request(2))
    assert book.awaits_report("2.1", request(1, ticket="other"))


def test_a_good_report_is_outdated_once_a_later_request_found_objects_lacking(book: Transactions) -> None:
    for number in (1, 2, 3):
        book.open(f"1.{number}", request(number))
    book.note_report("1.1", lacking=True)
    assert not book.is_outdated(request(1))
    book.note_report("1.2", lacking=True)
    assert book.is_outdated(request(1))
    assert not book.is_outdated(request(2))
    assert not book.is_outdated(request(3))


def test_the_oldest_are_forgotten(book: Transactions, path: Path) -> None:
    book.open("1.1", request())
    book.open("1.2", request())
    long_ago = (datetime.now(UTC) - timedelta(days=KEPT_DAYS + 1)).isoformat()
    with sqlite3.connect(path) as direct:
        direct.execute("UPDATE transactions SET asked_at = ? WHERE transaction_uid = '1.1'", (long_ago,))
    direct.close()
    again = Transactions(path)
    assert again.find("1.1") is None
    assert again.find("1.2") is not None
    again.close()


def test_a_disk_that_fails_is_transient(book: Transactions, path: Path) -> None:
    with sqlite3.connect(path) as direct:
        direct.execute("DROP TABLE transactions")
    direct.close()
    with pytest.raises(StorageExhausted, match=r"commitments\.sqlite cannot be used"):
        book.open("1.1", request())
