"""A wall clock that is set changes neither a wait nor a time-out of a running node.

The node is a process whose ``time.time`` is moved, for DBOS too; libfaketime 0.9.10 lets Python's
``time.sleep`` fail. Not covered: stamps (``datetime.now``, SQLite), which nothing waits for; a clock
that is set while the node is down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.trial.archive import Archive
from dicom_node.workflow.ledger import Sent, State
from tests.support.running import (
    entries_of,
    free_port,
    node_process,
    send,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import Series, image_spot

YEAR_S = 31_536_000.0
BACK_S = -86_400.0


@pytest.fixture
def set_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the wall clock of node processes that are started from now on, by so many seconds."""
    offset = tmp_path / "offset"
    offset.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, time\n"
        "_real = time.time\n"
        f"_offset = pathlib.Path({str(offset)!r})\n"
        "time.time = lambda: _real() + float(_offset.read_text())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def put(moved_s: float) -> None:
        part = offset.with_suffix(".part")
        part.write_text(str(moved_s))
        part.replace(offset)

    return put


def wait_s(what: Callable[[], object]) -> float:
    start = time.monotonic()
    wait_for(what)
    return time.monotonic() - start


def retries(var: Path, more_than: int) -> bool:
    return any(d.attempts > more_than for e in entries_of(var) for d in e.deliveries)


@pytest.mark.parametrize("moved", [YEAR_S, BACK_S])
def test_a_delivery_is_neither_given_up_nor_held_up_when_the_clock_is_set(
    moved: float, set_clock: Callable[[float], None], tmp_path: Path, spot_models: Path, series_of: Series
) -> None:
    port, at = free_port(), free_port()
    configuration = write_configuration(
        tmp_path / "node.toml",
        port=port,
        models=spot_models,
        destinations={"down": ("DOWN", at)},
        waits="retry_first_s = 4\nretry_longest_s = 4\ntimeout_s = 5\nretry_for_hours = 1",
    )
    with node_process(configuration, port):
        send(series_of(image_spot()), port)
        wait_for(lambda: retries(tmp_path / "var", 0))
        set_clock(moved)
        assert wait_s(lambda: retries(tmp_path / "var", 1)) < 30
        (entry,) = entries_of(tmp_path / "var")
        assert entry.deliveries[0].state is Sent.RETRYING
        with Archive(tmp_path / "archive", "DOWN", port=at):
            (entry,) = wait_until_ended(tmp_path / "var", timeout_s=60)
    assert entry.state is State.DONE
    assert "clock_set" in configuration.with_suffix(".log").read_text()


@pytest.mark.parametrize("moved", [YEAR_S, BACK_S])
def test_a_series_is_complete_after_the_quiet_time_whatever_the_clock_does(
    moved: float, set_clock: Callable[[float], None], tmp_path: Path, spot_models: Path, series_of: Series
) -> None:
    port = free_port()
    configuration = write_configuration(
        tmp_path / "node.toml", port=port, models=spot_models, destinations={}, quiet_s=6
    )
    paths = series_of(image_spot())
    with node_process(configuration, port):
        start = time.monotonic()
        send([*paths[:5], *paths[6:]], port)  # a gap, so that the long quiet time holds
        set_clock(moved)
        wait_for(lambda: entries_of(tmp_path / "var"))
        assert 6 < time.monotonic() - start < 60
