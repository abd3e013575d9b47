"""A node that is replaced by one of the next release, whose steps are others, with work in flight.

Both are real processes; here with SQLite, one after the other, in test_scale_out.py with PostgreSQL, beside
each other. Not covered: a release that changed the tables of the book (test_repair.py has one such case).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from dicom_node.trial.archive import Archive
from dicom_node.workflow.ledger import Entry, State
from tests.support.earlier import EARLIER
from tests.support.running import (
    entries_of,
    free_port,
    node_process,
    process,
    send,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import image_spot

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_work_that_an_earlier_release_had_in_flight_is_done_once_by_the_next(
    tmp_path: Path, port: int, spot_models: Path, series_of: Callable[..., list[Path]]
) -> None:
    at = free_port()
    configuration = write_configuration(
        tmp_path / "node.toml", port=port, models=spot_models, destinations={"archive": ("ARCHIVE", at)}
    )
    log = configuration.with_suffix(".log")

    def states() -> list[Entry] | None:
        entries = entries_of(tmp_path / "var")
        found = {entry.state for entry in entries}
        return entries if found == {State.SENDING, State.ANALYSING} else None

    earlier = [sys.executable, "-c", EARLIER, "serve", "--config", configuration]
    with process(*earlier, log=log, port=port) as node:
        send(series_of(image_spot()), port)
        wait_for(lambda: any(e.state is State.SENDING for e in entries_of(tmp_path / "var")))
        send(series_of(image_spot(), "other", series_seed="2"), port)
        before = {entry.job_id for entry in wait_for(states)}
        node.send_signal(signal.SIGKILL)
        node.wait()
    with Archive(tmp_path / "archive", "ARCHIVE", port=at) as archive, node_process(configuration, port):
        entries = wait_until_ended(tmp_path / "var", jobs=2)
        kinds = sorted(pydicom.dcmread(path).Modality for path in archive.folder.glob("*.dcm"))
    assert {(entry.state, entry.version) for entry in entries} == {(State.DONE, 1)}
    assert {entry.job_id for entry in entries} == before
    assert kinds == sorted(["OT", "SEG", "SR"] * 2)
    assert log.read_text().count("older_workflows_dropped") == 1
