"""The book on SQLite and on a real PostgreSQL: numbers, versions, tickets, orders, several writers at once.

What the workflows make of it is in the other files of this folder; both databases with whole nodes, in
test_scale_out.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.errors import Cancelled, ConfigurationError, DatabaseUnavailable
from dicom_node.settings import Settings
from dicom_node.workflow.database import open_ledger
from dicom_node.workflow.ledger import Delivery, Ledger, Sent, State
from dicom_node.workflow.listing import Group, Wanted, condition_of
from dicom_node.workflow.transactions import Kept, Request, Transactions
from dicom_node.workflow.worked import Outcome
from tests.support.postgres import NAME, PASSWORD, Postgres, postgres

pytestmark = pytest.mark.peer

Opened = Callable[[], Ledger]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


def on_postgres(server: Postgres, folder: Path) -> Settings:
    secret = folder / "password"
    secret.write_text(f"{PASSWORD}\n")
    return Settings(folder=folder, database={"url": server.url, "password": {"file": secret}})


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "sqlite":
        return Settings(folder=tmp_path)
    server: Postgres = request.getfixturevalue("server")
    server.say(f'DROP DATABASE IF EXISTS "{NAME}" WITH (FORCE)', database="postgres")
    server.make_database(NAME)
    return on_postgres(server, tmp_path)


@pytest.fixture
def opened(settings: Settings) -> Iterator[Opened]:
    """Open the book as one more process does."""
    books: list[Ledger] = []

    def open_book() -> Ledger:
        books.append(Ledger(open_ledger(settings)))
        return books[-1]

    yield open_book
    for book in books:
        book.close()


@pytest.fixture
def book(opened: Opened) -> Ledger:
    return opened()


def delivered(book: Ledger, job_id: str, destination: str, state: Sent) -> None:
    (delivery,) = [d for d in book.entry(job_id).deliveries if d.destination == destination]
    book.deliver(job_id, replace(delivery, state=state, attempts=1))


def test_a_job_goes_its_way_and_is_done_when_every_destination_has_it(book: Ledger, opened: Opened) -> None:
    assert book.open_job("1.2-a", "1.2", 30, priority=1)
    assert not book.open_job("1.2-a", "1.2", 30)
    ticket = book.entry("1.2-a").ticket
    parcels = {"pacs": "{}", "copy": "{}"}
    book.update(
        "1.2-a", State.SENDING, ticket=ticket, outcome=Outcome.FINDINGS, folder=Path("r"), parcels=parcels
    )
    delivered(book, "1.2-a", "copy", Sent.DONE)
    assert book.entry("1.2-a").state is State.SENDING
    delivered(book, "1.2-a", "pacs", Sent.DONE)
    (entry,) = opened().entries()
    assert (entry.number, entry.version, entry.priority, entry.state) == (1, 1, 1, State.DONE)
    assert [d.destination for d in entry.deliveries] == ["copy", "pacs"]
    assert book.has_ended("1.2-a")
    assert book.open_job("1.2-b", "1.2", 31)
    assert book.earlier_result("1.2-b") == Path("r")
    assert book.entry_by_number(2).version == 2


def test_an_order_writes_a_new_ticket_and_what_holds_the_old_one_ends(book: Ledger) -> None:
    book.open_job("1.2-a", "1.2", 30)
    old = book.entry("1.2-a").ticket
    assert book.cancel("1.2-a")
    with pytest.raises(Cancelled):
        book.need("1.2-a", old)
    book.order_job("1.2-a", "again")
    (entry,), deliveries = book.ordered()
    assert (entry.state, entry.ordered, deliveries) == (State.WAITING, True, [])
    assert entry.ticket != old
    with pytest.raises(Cancelled):
        book.update("1.2-a", State.ANALYSING, ticket=old)
    book.taken_up(entry.ticket)
    assert book.ordered() == ([], [])


def test_what_has_ended_is_not_opened_again_by_work_that_comes_late_with_the_same_ticket(
    book: Ledger,
) -> None:
    """A process that stood still while another went on with its work; an answer after the report."""
    book.open_job("1.2-a", "1.2", 30)
    ticket = book.entry("1.2-a").ticket
    book.update("1.2-a", State.SENDING, ticket=ticket, parcels=dict.fromkeys(("pacs", "copy", "off"), "{}"))
    for destination, ended in (("pacs", Sent.COMMITTED), ("copy", Sent.DONE), ("off", Sent.FAILED)):
        before = {d.destination: d for d in book.entry("1.2-a").deliveries}[destination]
        delivered(book, "1.2-a", destination, ended)
        for late in (Sent.RETRYING, Sent.ASKED, *((Sent.FAILED,) if ended is not Sent.FAILED else ())):
            with pytest.raises(Cancelled):
                book.deliver("1.2-a", replace(before, state=late))
    with pytest.raises(Cancelled):
        delivered(book, "1.2-a", "pacs", Sent.DONE)  # it is more: committed
    for late_state in (State.WAITING, State.ANALYSING, State.SENDING):
        with pytest.raises(Cancelled):
            book.update("1.2-a", late_state, ticket=ticket)
    entry = book.entry("1.2-a")
    assert entry.state is State.UNDELIVERED
    assert [d.state for d in entry.deliveries] == [Sent.DONE, Sent.FAILED, Sent.COMMITTED]

    delivered(book, "1.2-a", "off", Sent.FAILED)  # the same once more, as after a crash
    delivered(book, "1.2-a", "off", Sent.DONE)  # it was sent after all
    delivered(book, "1.2-a", "copy", Sent.COMMITTED)
    assert book.entry("1.2-a").state is State.DONE


def test_a_repair_begins_nothing_anew_that_was_cancelled_or_ordered_since_it_looked(book: Ledger) -> None:
    book.open_job("1.2-a", "1.2", 30)
    seen = book.entry("1.2-a")
    assert book.cancel("1.2-a")
    assert not book.order_job("1.2-a", "begun anew", seen.ticket)
    assert book.entry("1.2-a").state is State.CANCELLED
    book.order_job("1.2-a", "by an operator")
    assert not book.order_job("1.2-a", "begun anew", seen.ticket)
    assert book.entry("1.2-a").detail == "by an operator"
    assert book.order_job("1.2-a", "begun anew", book.entry("1.2-a").ticket)

    book.update("1.2-a", State.SENDING, parcels={"pacs": "{}"})
    (delivery,) = book.entry("1.2-a").deliveries
    assert book.cancel("1.2-a", "pacs")
    assert not book.order_delivery("1.2-a", "pacs", "begun anew", delivery.ticket)
    assert book.entry("1.2-a").state is State.CANCELLED
    book.order_delivery("1.2-a", "pacs", "by an operator")
    assert not book.order_delivery("1.2-a", "pacs", "begun anew", delivery.ticket)
    (delivery,) = book.entry("1.2-a").deliveries
    assert book.order_delivery("1.2-a", "pacs", "begun anew", delivery.ticket)


def test_pages_search_and_history_are_the_same_on_both(book: Ledger) -> None:
    for number in range(1, 6):
        book.open_job(f"1.{number}-a", f"1.{number}", 1, detail="100% of a Scout")
    book.update("1.4-a", State.SENDING, outcome=Outcome.FINDINGS, pipeline="flair", parcels={"pacs": "{}"})
    delivered(book, "1.4-a", "pacs", Sent.COMMITTED)

    def numbers(**wanted: object) -> list[int]:
        return [entry.number for entry in book.page(condition_of(Wanted(**wanted)), limit=3)]

    assert numbers() == [5, 4, 3]
    assert numbers(text="scout 100%") == [5, 4, 3]
    assert numbers(text="PACS") == numbers(group=Group.COMMITTED) == numbers(pipeline="flair") == [4]
    assert numbers(text="2") == [2]
    assert [each.state for each in book.history("1.4-a")] == [
        "waiting",
        "sending",
        "pending",
        "committed",
        "done",
    ]
    assert book.changes() > 0


def test_what_needs_a_person_is_listed_and_counted_alike(book: Ledger) -> None:
    for job_id in ("1.1-a", "1.2-a", "1.3-a", "1.4-a", "1.5-a"):
        book.open_job(job_id, job_id.partition("-")[0], 12)
    for job_id in ("1.1-a", "1.2-a"):
        book.update(job_id, State.FAILED, outcome=Outcome.FAILED)
    book.open_job("1.2-b", "1.2", 13)  # in place of the one that failed
    book.update("1.3-a", State.CANCELLED, outcome=Outcome.FAILED)
    book.update("1.4-a", State.SENDING, parcels={"one": "{}", "two": "{}"})
    for delivery in book.entry("1.4-a").deliveries:
        book.deliver("1.4-a", replace(delivery, state=Sent.FAILED))
    assert {entry.job_id for entry in book.failed()} == {"1.1-a", "1.4-a"}
    assert book.count_failed() == 2


def test_jobs_that_are_entered_at_once_by_several_processes_have_numbers_and_versions_of_their_own(
    opened: Opened,
) -> None:
    books = [opened() for _ in range(4)]

    def enter(number: int) -> bool:
        return books[number % 4].open_job(f"1.2-{number // 2}", "1.2", 1)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(enter, range(40)))
    assert sum(made) == 20
    entries = books[0].entries()
    assert sorted(e.number for e in entries) == sorted(e.version for e in entries) == list(range(1, 21))


def test_deliveries_that_end_at_once_leave_no_job_open(opened: Opened) -> None:
    books = [opened() for _ in range(4)]
    names = ["a", "b", "c", "d"]
    for number in range(10):
        job_id = f"1.{number}-x"
        books[0].open_job(job_id, f"1.{number}", 1)
        books[0].update(job_id, State.SENDING, parcels=dict.fromkeys(names, "{}"))
        deliveries = books[0].entry(job_id).deliveries

        def end(pair: tuple[Ledger, Delivery], job_id: str = job_id) -> None:
            pair[0].deliver(job_id, replace(pair[1], state=Sent.DONE))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(end, zip(books, deliveries, strict=True)))
    assert {entry.state for entry in books[0].entries()} == {State.DONE}


def test_transactions_of_storage_commitment_are_kept(settings: Settings, opened: Opened) -> None:
    book = Transactions(open_ledger(settings))
    kept = Kept(path="/a.dcm", sop_class_uid="1.2", sop_instance_uid="1.3")
    request = Request(
        job_id="j", destination="d", ticket="t", priority=2, objects=[kept], number=1, resend=False
    )
    book.open("1.1", request)
    assert book.find("1.1") == request
    assert book.awaits_report("1.1", request)
    book.note_report("1.1", lacking=True)
    assert not book.awaits_report("1.1", request)
    book.close()


def test_a_book_of_an_earlier_release_gets_what_was_added_since(settings: Settings, opened: Opened) -> None:
    opened().open_job("1.2-a", "1.2", 30)
    database = open_ledger(settings)
    with database.writing() as connection:
        connection.execute(sa.text("ALTER TABLE jobs DROP COLUMN ordered"))
        connection.execute(sa.text("ALTER TABLE jobs DROP COLUMN remedy"))
    database.close()
    entry = opened().entry("1.2-a")
    assert (entry.ordered, entry.remedy) == (False, "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"url": "postgresql://node@127.0.0.1:1/imaging"}, "Connection refused"),
        ({"url": "nobody-there"}, "not exist"),
        ({"password": "wrong"}, "password authentication failed"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_and_the_password_is_not(
    change: dict[str, str], why: str, server: Postgres, tmp_path: Path
) -> None:
    good = on_postgres(server, tmp_path)
    if change.get("url") == "nobody-there":
        change = {"url": server.url.replace(NAME, "nobody-there")}
    if "password" in change:
        (tmp_path / "password").write_text(change["password"])
    settings = Settings(
        folder=tmp_path, database={**good.database.model_dump(), "url": change.get("url", server.url)}
    )
    with pytest.raises(ConfigurationError, match=r"database\.url") as refused:
        open_ledger(settings)
    assert why in str(refused.value)
    assert PASSWORD not in str(refused.value)
    assert "wrong" not in str(refused.value)


def test_a_user_who_may_not_make_tables_is_told_so(server: Postgres, tmp_path: Path) -> None:
    server.say("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    server.say("DROP TABLE IF EXISTS deliveries, jobs CASCADE")
    server.say(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    settings = on_postgres(server, tmp_path)
    guest = settings.database.model_copy(update={"url": server.url.replace("node@", "guest@")})
    database = open_ledger(settings.model_copy(update={"database": guest}))
    with pytest.raises(ConfigurationError, match=r"takes no tables \(permission denied.*own it"):
        Ledger(database)
    database.close()


def test_a_database_that_goes_away_is_transient_and_is_used_again_when_it_is_back(
    server: Postgres, tmp_path: Path
) -> None:
    book = Ledger(open_ledger(on_postgres(server, tmp_path)))
    book.open_job("1.9-a", "1.9", 1)
    server.stop()
    with pytest.raises(DatabaseUnavailable, match="the database postgresql"):
        book.entries()
    server.start()
    assert book.entry("1.9-a")
    book.close()


def test_a_host_that_stands_still_while_it_writes_holds_up_the_others_for_seconds(
    server: Postgres, tmp_path: Path
) -> None:
    """As one without power: its connection stays open, and the server waits for what comes next."""
    still, other = (Ledger(open_ledger(on_postgres(server, tmp_path))) for _ in range(2))

    def stand_still() -> None:
        with ThreadPoolExecutor(1) as pool, still.database.writing() as connection:
            assert pool.submit(other.open_job, "1.10-a", "1.10", 1).result(60)
            connection.execute(sa.text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):  # it goes on, and has lost its transaction
        stand_still()
    assert still.entry("1.10-a")
    for book in (still, other):
        book.close()
