"""Who is alive of several processes, who leads, whose work is gone on with; on a real PostgreSQL.

Sessions stand for processes here; processes that are killed are in test_scale_out.py. Not covered: a host
that loses its power or its network, which PostgreSQL notices by its own keep-alives.
"""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings
from dicom_node.workflow import lease
from dicom_node.workflow import watch as watching
from dicom_node.workflow.database import Database, open_ledger
from dicom_node.workflow.engine import RECOVERIES, SHAPE, DurableEngine, Ended
from dicom_node.workflow.lease import Executor, Lease
from dicom_node.workflow.roles import ALL, Role, executor_of, need_server, roles_of, works_on
from dicom_node.workflow.watch import Watch
from tests.support.postgres import PASSWORD, Postgres, postgres
from tests.support.running import wait_for

pytestmark = pytest.mark.peer

RECEIVE, ANALYSE = frozenset((Role.RECEIVE,)), frozenset((Role.ANALYSE,))


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture
def place(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Lease]]:
    """A place of a process, taken."""
    monkeypatch.setattr(lease, "PATIENCE_S", 5.0)
    monkeypatch.setattr(watching, "GRACE_S", 0.0)
    monkeypatch.setattr(watching, "REJOIN_S", 0.0)
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    settings = Settings(folder=tmp_path, database={"url": server.url, "password": {"file": secret}})
    opened: list[tuple[Lease, Database]] = []

    def take(name: str, roles: frozenset[Role] = ALL) -> Lease:
        database = open_ledger(settings)
        made = Lease(database, name, roles)
        opened.append((made, database))
        made.take()
        return made

    yield take
    for made, database in opened:
        made.leave()
        database.close()
    server.say("DROP TABLE IF EXISTS executors")


class Engine:
    """What is taken over."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def take_over(self, executor: str) -> int:
        self.taken.append(executor)
        return 2


def watch(kept: Lease, roles: frozenset[Role] = ALL) -> tuple[Watch, list[str], list[str]]:
    engine, receivers = Engine(), []
    return Watch(kept, engine, roles, receivers.append), engine.taken, receivers


def test_a_name_is_one_process_and_is_free_when_that_is_gone(place: Callable[..., Lease]) -> None:
    first = place("one")
    with pytest.raises(ConfigurationError, match=r"database\.executor: 'one' is in use by another process"):
        place("one")
    place("two")
    first.leave()
    place("one")


def test_one_leads_and_another_when_it_is_gone(place: Callable[..., Lease]) -> None:
    first, second = place("one"), place("two")
    assert (first.leads, second.leads) == (True, False)
    assert second.keep()
    assert not second.leads
    first.leave()
    assert second.keep()
    assert (first.leads, second.leads) == (False, True)


def test_what_a_dead_process_left_is_taken_over_once(place: Callable[..., Lease]) -> None:
    one, two, three = place("one"), place("two", ANALYSE), place("three")
    here, taken, receivers = watch(one)
    there, taken_there, _ = watch(three)
    here.look()
    assert (taken, one.others()[1]) == ([], [])
    two.leave()
    assert one.others() == ([Executor("three", ALL, SHAPE)], [Executor("two", ANALYSE, SHAPE)])
    here.look()
    there.look()
    assert (taken, taken_there, receivers) == (["two"], [], [])
    assert one.others()[1] == []


def test_a_dead_receiver_is_kept_in_mind_until_a_receiver_took_up_its_series(
    place: Callable[..., Lease],
) -> None:
    worker, gone = place("worker", ANALYSE), place("gone", RECEIVE)
    gone.leave()
    at_worker, taken, told = watch(worker, ANALYSE)
    at_worker.look()
    assert (taken, told) == (["gone"], [])
    assert [each.name for each in worker.others()[1]] == ["gone"]
    at_receiver, _, told = watch(place("receiver", RECEIVE), RECEIVE)
    at_receiver.look()
    assert told == ["gone"]
    assert worker.others()[1] == []


def test_a_database_that_was_away_makes_nobody_dead(
    server: Postgres, place: Callable[..., Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = place("one"), place("two")
    monkeypatch.setattr(watching, "REJOIN_S", 3600.0)
    here, taken, _ = watch(one)
    server.stop()
    here.look()
    assert not one.keep()
    assert not two.keep()
    assert not one.leads
    server.start()
    assert one.keep()
    here.look()  # the other has not come back yet
    assert taken == []
    assert two.keep()
    assert [each.name for each in one.others()[0]] == ["two"]
    assert one.leads != two.leads


def test_workflows_of_another_release_are_gone_on_with_while_one_of_its_processes_lives(
    place: Callable[..., Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SHAPE", "older")
    older, last = place("older"), place("last-older")
    monkeypatch.setattr(lease, "SHAPE", SHAPE)
    new = place("new")
    here, taken, _ = watch(new)
    older.leave()
    here.look()
    assert taken == []  # the other one of that release knows what to do with its work
    assert new.shapes() == {SHAPE, "older"}
    last.leave()
    here.look()
    new.others()
    assert new.shapes() == {SHAPE}


def test_a_process_whose_name_was_taken_meanwhile_ends(
    server: Postgres, place: Callable[..., Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, told = place("one"), []
    monkeypatch.setattr(lease.os, "kill", lambda _process, number: told.append(number))
    server.say("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    second = place("one")
    assert not first.keep()  # it may be a mistake that is corrected
    monkeypatch.setattr(lease, "PATIENCE_S", -1.0)
    assert not first.keep()
    assert told == [signal.SIGTERM]
    assert second.keep()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DurableEngine]:
    engine = DurableEngine(tmp_path / "workflows.sqlite")
    yield engine
    engine.stop(0)


def change(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "workflows.sqlite")) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


def test_workflows_of_a_shape_that_nobody_runs_any_more_are_dropped(
    engine: DurableEngine, tmp_path: Path
) -> None:
    run = engine.workflow("note", print)
    queue = engine.queue("notes", at_once=1)
    engine.start()
    engine.enqueue_at(1, 3600, queue, "job-older", run)
    engine.enqueue_at(1, 3600, queue, "job-now", run)
    change(tmp_path, "UPDATE workflow_status SET application_version = '1' WHERE workflow_uuid = 'job-older'")
    engine.shapes = lambda: {SHAPE, "1"}
    assert engine.drop_older() == 0
    assert engine.under_way() == {"job-older", "job-now"}
    engine.shapes = lambda: {SHAPE}
    assert engine.drop_older() == 1
    assert engine.drop_older() == 0
    assert engine.under_way() == {"job-now"}


def test_a_workflow_that_should_run_and_does_not_is_begun_again_without_a_restart(
    engine: DurableEngine, tmp_path: Path
) -> None:
    ran: list[int] = []
    run = engine.workflow("note", ran.append)
    queue = engine.queue("notes", at_once=1)
    engine.start()
    engine.enqueue(queue, "job-1", run, 1)
    wait_for(lambda: not engine.under_way())
    change(tmp_path, "UPDATE workflow_status SET status = 'PENDING'")
    assert engine.revive() == 0  # it may just be about to begin
    assert engine.revive() == 1
    wait_for(lambda: not engine.under_way())
    assert ran == [1, 1]
    assert engine.revive() == engine.revive() == 0


def test_what_is_taken_over_keeps_its_queue_and_is_given_up_when_it_kills_one_process_after_the_other(
    engine: DurableEngine, tmp_path: Path
) -> None:
    ran: list[int] = []
    run = engine.workflow("note", ran.append)
    queue = engine.queue("notes", at_once=1)
    engine.start()
    for number, attempts in ((1, 1), (2, RECOVERIES + 1)):
        engine.enqueue_at(1, 3600, queue, f"job-{number}", run, number)
        running = "UPDATE workflow_status SET status = 'PENDING', executor_id = 'dead', recovery_attempts = ?"
        change(tmp_path, f"{running} WHERE workflow_uuid = ?", attempts, f"job-{number}")
    assert engine.take_over("another") == 0
    assert engine.take_over("dead") == 2
    wait_for(lambda: not engine.under_way())
    assert (engine.ended("job-1"), engine.ended("job-2")) == ((Ended.WELL, None), (Ended.GIVEN_UP, None))
    assert ran == [1]


def test_a_process_takes_work_from_its_queues_only_and_from_those_that_come_later(tmp_path: Path) -> None:
    ran: list[str] = []
    engine = DurableEngine(tmp_path / "workflows.sqlite", works_on=lambda queue: queue != "series")
    run = engine.workflow("note", ran.append)
    engine.queue("series", at_once=1)
    engine.queue("deliver-pacs", at_once=1)
    engine.start()
    try:
        engine.queue("deliver-new", at_once=1)  # its destination came with a changed configuration
        for queue in ("series", "deliver-pacs", "deliver-new"):
            engine.enqueue(queue, queue, run, queue)
        wait_for(lambda: engine.under_way() == {"series"})
        assert sorted(ran) == ["deliver-new", "deliver-pacs"]
        assert engine.threads == ["queue-worker-deliver-pacs", "queue-worker-deliver-new"]
    finally:
        engine.stop(0)


def test_roles_are_named_and_a_part_of_them_needs_a_server(tmp_path: Path) -> None:
    assert roles_of([]) == roles_of(["all"]) == roles_of(["receive", "analyse,deliver"]) == ALL
    worker = roles_of(["analyse"])
    assert [works_on(worker, queue) for queue in ("series", "deliver-pacs", "commitment")] == [
        True,
        False,
        False,
    ]
    with pytest.raises(ConfigurationError, match="--role send: the roles are all, receive, analyse, deliver"):
        roles_of(["send"])
    alone = Settings(folder=tmp_path)
    need_server(alone, ALL)
    with pytest.raises(ConfigurationError, match=r"--role analyse: .*set database\.url"):
        need_server(alone, worker)
    shared = Settings(folder=tmp_path, database={"url": "postgresql://node@db/imaging"})
    need_server(shared, worker)
    assert executor_of(shared, worker).endswith("-analyse")
    assert executor_of(shared, worker) != executor_of(shared, ALL)
