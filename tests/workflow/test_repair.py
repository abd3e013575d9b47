"""The book against the workflows, the results and the spool: whatever is lost, nothing is left open.

A node runs, ends or is killed; then the test damages its databases as a crash, a restored backup or a
full disk would have left them, and the node is started again. Not covered: mending of result files.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pydicom
import pytest

from dicom_node.trial.archive import Archive
from dicom_node.workflow.ledger import Entry, Sent, State
from dicom_node.workflow.worked import Outcome
from tests.support.running import (
    entries_of,
    free_port,
    node_process,
    say,
    send,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import Series, image_spot


class Bench:
    """A node with an archive, and its databases."""

    def __init__(self, folder: Path, models: Path, archive: Archive) -> None:
        self.port, self.archive, self.var = free_port(), archive, folder / "var"
        self.configuration = write_configuration(
            folder / "node.toml",
            port=self.port,
            models=models,
            destinations={"archive": ("ARCHIVE", archive.port)},
        )

    def run(self, paths: list[Path] = (), jobs: int = 1) -> Entry:  # type: ignore[assignment]
        """Start the node, send, wait until all has ended, and stop it."""
        with node_process(self.configuration, self.port):
            if paths:
                send(paths, self.port)
            return wait_until_ended(self.var, jobs)[0]

    def change(self, database: str, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.var / f"{database}.sqlite")) as connection, connection:
            assert connection.execute(statement, values).rowcount > 0

    def lose(self, database: str) -> None:
        for path in self.var.glob(f"{database}.sqlite*"):
            path.unlink()

    @property
    def log(self) -> str:
        return self.configuration.with_suffix(".log").read_text()

    def objects(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in self.archive.folder.glob("*.dcm")}


@pytest.fixture
def bench(tmp_path: Path, spot_models: Path) -> Iterator[Bench]:
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        yield Bench(tmp_path, spot_models, archive)


def open_again(bench: Bench) -> None:
    """Put the book behind: as if its last writes had failed."""
    bench.change("ledger", "UPDATE jobs SET state = 'sending'")
    bench.change("ledger", "UPDATE deliveries SET state = 'pending', attempts = 0")


def test_a_workflow_that_ended_in_error_with_the_book_behind_is_begun_anew(
    bench: Bench, series_of: Series
) -> None:
    bench.run(series_of(image_spot()))
    before = bench.objects()
    for state in ("waiting", "analysing"):
        bench.change("ledger", "UPDATE jobs SET state = ?, outcome = NULL", state)
        bench.change("workflows", "UPDATE workflow_status SET status = 'ERROR' WHERE name = 'series'")
        entry = bench.run()
        assert (entry.state, entry.outcome) == (State.DONE, Outcome.FINDINGS)
        assert "book_repaired" in bench.log
    assert bench.objects() == before


def test_a_delivery_that_ended_in_error_with_the_book_behind_is_sent_with_the_same_bytes(
    bench: Bench, series_of: Series
) -> None:
    bench.run(series_of(image_spot()))
    before = bench.objects()
    for path in bench.archive.folder.glob("*.dcm"):
        path.unlink()
    open_again(bench)
    bench.change("workflows", "UPDATE workflow_status SET status = 'ERROR' WHERE name = 'deliver'")
    assert bench.run().state is State.DONE
    assert bench.objects() == before


def test_a_delivery_that_its_workflow_knows_as_sent_is_entered_and_not_sent_again(
    bench: Bench, series_of: Series
) -> None:
    bench.run(series_of(image_spot()))
    for path in bench.archive.folder.glob("*.dcm"):
        path.unlink()
    open_again(bench)
    assert bench.run().state is State.DONE
    assert not bench.objects()
    assert "entered as sent" in bench.log


def test_work_that_was_given_up_after_too_many_recoveries_is_a_dead_letter_until_it_is_retried(
    bench: Bench, series_of: Series
) -> None:
    bench.run(series_of(image_spot()))
    bench.change("ledger", "UPDATE jobs SET state = 'analysing', outcome = NULL")
    given_up = "UPDATE workflow_status SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED' WHERE name = 'series'"
    bench.change("workflows", given_up)
    with node_process(bench.configuration, bench.port):
        (entry,) = wait_until_ended(bench.var)
        assert entry.state is State.FAILED
        told = say(bench.configuration, "status", "--failed")
        assert "given up: the node died 10 times while it worked on this" in told
        assert "look in the log for why the node died" in told
        say(bench.configuration, "retry", "--all")
        wait_for(lambda: entries_of(bench.var)[0].state is State.DONE)


def test_lost_workflows_are_begun_anew_where_the_book_is_open_and_not_where_it_is_closed(
    bench: Bench, series_of: Series
) -> None:
    bench.run(series_of(image_spot()))
    bench.run(series_of(image_spot(), "other", series_seed="other"), jobs=2)
    before = bench.objects()
    bench.lose("workflows")
    bench.change("ledger", "UPDATE jobs SET state = 'waiting', outcome = NULL WHERE number = 2")
    bench.run(jobs=2)
    assert {e.state for e in entries_of(bench.var)} == {State.DONE}
    assert bench.log.count("book_repaired") == 1
    assert bench.objects() == before


@pytest.mark.parametrize("with_workflows", [True, False])
def test_a_lost_book_is_written_again_from_the_results(
    with_workflows: bool, bench: Bench, series_of: Series
) -> None:
    paths = series_of(image_spot())
    bench.run(paths[:-1])
    first = bench.run(paths[-1:], jobs=2)
    before = bench.objects()
    for path in bench.archive.folder.glob("*.dcm"):
        path.unlink()
    bench.lose("ledger")
    if not with_workflows:
        bench.lose("workflows")
    bench.run(jobs=2)
    entries = {e.job_id: e for e in entries_of(bench.var)}
    assert sorted(e.version for e in entries.values()) == [1, 2]
    again = entries[first.job_id]
    assert (again.state, again.outcome, again.detail) == (State.DONE, first.outcome, first.detail)
    assert (again.instances, again.folder) == (first.instances, first.folder)
    assert again.deliveries[0].state is Sent.DONE
    # Where nobody knows that they were sent, the same bytes are sent again
    assert bench.objects() == ({} if with_workflows else before)


def test_a_lost_book_and_a_damaged_result_keep_no_node_from_its_work(bench: Bench, series_of: Series) -> None:
    summary = {
        "job": {"version": 1, "instances": 3},
        "objects": [{"kind": "seg", "file": "seg.dcm"}],
        "pipeline": "spot",
        "series_instance_uid": "1.2.3",
        "outcome": "no findings",
        "detail": "no lesion found",
    }
    damages = {"gone": None, "empty": b"", "cut": b"\0" * 128 + b"DICM\2\0\0\0UL", "other": b"noise" * 99}
    for name, content in damages.items():
        folder = bench.var / "results" / "1.2.3" / name
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(summary))
        if content is not None:
            (folder / "seg.dcm").write_bytes(content)
    assert bench.run(series_of(image_spot())).state is State.DONE
    assert bench.log.count("result_not_entered") == len(damages)


def test_a_row_lost_from_the_book_before_there_was_a_result_comes_again_from_the_spool(
    bench: Bench, series_of: Series
) -> None:
    paths = series_of(image_spot(), series_description="scout")
    bench.run(paths)
    bench.change("ledger", "DELETE FROM jobs")
    entry = bench.run()
    assert entry.state is State.SKIPPED
    assert entry.series_instance_uid == pydicom.dcmread(paths[0]).SeriesInstanceUID


def test_work_that_an_earlier_release_had_in_flight_is_begun_anew_when_its_steps_were_others(
    bench: Bench, series_of: Series
) -> None:
    bench.run(series_of(image_spot()))
    before = bench.objects()
    bench.change("ledger", "UPDATE jobs SET state = 'waiting', outcome = NULL")
    older = "UPDATE workflow_status SET status = ?, application_version = '1' WHERE name = ?"
    bench.change("workflows", older, "PENDING", "series")
    bench.change("workflows", older, "ENQUEUED", "deliver")
    entry = bench.run()
    assert (entry.state, entry.outcome) == (State.DONE, Outcome.FINDINGS)
    assert "older_workflows_dropped" in bench.log
    assert bench.objects() == before


def test_a_book_of_an_earlier_release_is_gone_on_with(bench: Bench, series_of: Series) -> None:
    bench.run(series_of(image_spot()))
    for column in ("version", "priority", "remedy", "attempts", "since", "ordered"):
        with closing(sqlite3.connect(bench.var / "ledger.sqlite")) as connection:
            connection.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
    entry = bench.run()
    assert (entry.state, entry.version, entry.attempts) == (State.DONE, 1, 0)


@pytest.mark.parametrize("database", ["ledger", "workflows"])
def test_a_damaged_database_stops_the_start_with_the_way_out(
    database: str, bench: Bench, series_of: Series
) -> None:
    bench.run(series_of(image_spot()))
    before = bench.objects()
    bench.lose(database)
    damaged = bench.var / f"{database}.sqlite"
    damaged.write_bytes(b"not a database" * 1000)
    command = [sys.executable, "-m", "dicom_node", "serve", "--config", bench.configuration]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert refused.returncode == 2
    assert f"{database}.sqlite cannot be used" in refused.stderr
    assert "Traceback" not in refused.stderr
    damaged.unlink()
    assert bench.run().state is State.DONE
    assert bench.objects() == before
