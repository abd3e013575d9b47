"""A node that is told to stop: a slow sender, a running analysis, the limit, a second signal; nothing lost.

The node runs as a process. The analysis is made slow from outside: the bundle of the tests takes
milliseconds. Not covered: kill -9 (test_node.py), loss of power.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.filereader import read_file_meta_info

from dicom_node.deliver.cstore import Peer as Destination
from dicom_node.deliver.cstore import send_files
from dicom_node.trial.archive import Archive
from dicom_node.workflow.ledger import State
from tests.receive.conftest import parts_in
from tests.receive.images import data_set_of
from tests.receive.wire import ABORT, ASSOCIATE_RJ, Peer, associate_rq
from tests.support.running import (
    entries_of,
    node_process,
    process,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import Series, image_spot

SLOW = """
import sys, time
from pathlib import Path
from dicom_node.workflow.stations import Stations
work = Stations.work
def slowly(self, *arguments, **named):
    Path(sys.argv[3]).touch()
    time.sleep(float(sys.argv[2]))
    return work(self, *arguments, **named)
Stations.work = slowly
from dicom_node.cli import app
app(["serve", "--config", sys.argv[1]])
"""


def configure(
    tmp_path: Path, port: int, models: Path, stop_timeout_s: float, quiet_s: float = 10, **archives: int
) -> Path:
    destinations = {name: (name.upper(), at) for name, at in archives.items()}
    path = write_configuration(
        tmp_path / "node.toml", port=port, models=models, destinations=destinations, quiet_s=quiet_s
    )
    path.write_text(f"stop_timeout_s = {stop_timeout_s}\n{path.read_text()}")
    return path


@contextmanager
def slow_node(configuration: Path, port: int, seconds: float) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A node whose analyses take so long, and the file that tells that one has begun."""
    script, mark = configuration.with_suffix(".py"), configuration.with_suffix(".begun")
    script.write_text(SLOW)
    command = [sys.executable, script, configuration, str(seconds), mark]
    with process(*command, log=configuration.with_suffix(".log"), port=port) as node:
        yield node, mark


def send(paths: list[Path], port: int) -> None:
    assert len(list(send_files(Destination("DICOM_NODE", "127.0.0.1", port, "TEST"), paths))) == len(paths)


def is_rejected_for_now(port: int) -> bool:
    with Peer(port) as peer:
        peer.send(associate_rq())
        kind, value = peer.read()
    return kind == ASSOCIATE_RJ and tuple(value[1:4]) == (2, 3, 1)


def begin_slowly(path: Path, port: int, folder: Path) -> tuple[Peer, bytes]:
    """A sender that is within a C-STORE; returns also what it has still to send."""
    meta, data = read_file_meta_info(path), data_set_of(path)
    peer = Peer(port).associate(syntax=meta.TransferSyntaxUID)
    peer.begin(meta.MediaStorageSOPInstanceUID)
    peer.send(peer.fragment(data[:500]))
    wait_for(lambda: parts_in(folder / "var" / "spool"))
    return peer, data[500:]


def tell_to_stop(node: subprocess.Popen, configuration: Path) -> None:
    """Send SIGTERM, and wait until the node has it."""
    node.send_signal(signal.SIGTERM)
    wait_for(lambda: "node_stopping" in configuration.with_suffix(".log").read_text())


def stored_in(folder: Path) -> list[Path]:
    return sorted((folder / "var" / "spool" / "series").glob("*/*.dcm"))


def test_a_slow_sender_is_let_to_end_while_new_ones_are_rejected_for_now(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    paths = series_of(image_spot())
    with node_process(configure(tmp_path, port, spot_models, 120), port) as node:
        peer, rest = begin_slowly(paths[0], port, tmp_path)
        with Peer(port) as idle:
            idle.associate()
            node.send_signal(signal.SIGTERM)
            assert idle.read()[0] == ABORT
        for _ in range(3):
            assert is_rejected_for_now(port)
        peer.send(peer.fragment(rest, is_last=True))
        assert peer.status() == 0
        assert peer.read()[0] == ABORT
        peer.socket.close()
        assert node.wait(100) == 0
    (stored,) = stored_in(tmp_path)
    assert data_set_of(stored) == data_set_of(paths[0])


def test_a_sender_that_does_not_end_is_cut_at_the_limit_and_nothing_of_it_stays(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    with node_process(configure(tmp_path, port, spot_models, 3), port) as node:
        peer, _ = begin_slowly(series_of(image_spot())[0], port, tmp_path)
        start = time.monotonic()
        node.send_signal(signal.SIGTERM)
        assert node.wait(100) == 0
        assert 2 < time.monotonic() - start < 30  # else it would wait for receive.idle_timeout_s, 300 s
        assert peer.status() == -1
        peer.socket.close()
    assert not stored_in(tmp_path)
    with node_process(tmp_path / "node.toml", port):
        assert not [p for p in (tmp_path / "var/spool/incoming").iterdir() if p.stat().st_size]


def test_a_running_analysis_is_let_to_end_and_its_result_goes_out_once(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        configuration = configure(tmp_path, port, spot_models, 120, archive=archive.port)
        with slow_node(configuration, port, 8) as (node, mark):
            send(series_of(image_spot()), port)
            wait_for(mark.exists)
            with Peer(port) as idle:
                idle.associate()
                node.send_signal(signal.SIGTERM)
                assert idle.read()[0] == ABORT
            assert is_rejected_for_now(port)
            assert node.wait(110) == 0
        (entry,) = entries_of(tmp_path / "var")
        assert entry.state in (State.SENDING, State.DONE)
        assert "node_cut" not in configuration.with_suffix(".log").read_text()
        mark.unlink()
        with slow_node(configuration, port, 4):
            (entry,) = wait_until_ended(tmp_path / "var")
        assert entry.state is State.DONE
        assert not mark.exists()  # it was not analysed again
        assert sorted(pydicom.dcmread(p).Modality for p in archive.folder.iterdir()) == ["OT", "SEG", "SR"]


@pytest.mark.parametrize("how", ["the limit", "a second signal"])
def test_an_analysis_that_does_not_end_is_cut_and_done_at_the_next_start(
    how: str, tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        limit_s = 3 if how == "the limit" else 120
        configuration = configure(tmp_path, port, spot_models, limit_s, archive=archive.port)
        with slow_node(configuration, port, 300) as (node, mark):
            send(series_of(image_spot()), port)
            wait_for(mark.exists)
            start = time.monotonic()
            tell_to_stop(node, configuration)
            if how == "the limit":
                assert node.wait(100) == 0
                assert 2 < time.monotonic() - start < 30  # of an analysis of 300 s
                assert "node_cut" in configuration.with_suffix(".log").read_text()
            else:
                node.send_signal(signal.SIGTERM)
                assert node.wait(60) == 128 + signal.SIGTERM  # before the limit
        with node_process(configuration, port):
            (entry,) = wait_until_ended(tmp_path / "var")
        assert entry.state is State.DONE
        assert sorted(pydicom.dcmread(p).Modality for p in archive.folder.iterdir()) == ["OT", "SEG", "SR"]
    assert not list((tmp_path / "var").rglob("*.part"))


def test_a_series_whose_last_image_comes_during_the_stop_is_analysed_at_the_next_start(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    paths = series_of(image_spot())
    configuration = configure(tmp_path, port, spot_models, 120, quiet_s=60)
    with node_process(configuration, port) as node:
        peer, rest = begin_slowly(paths[5], port, tmp_path)
        send([*paths[:5], *paths[6:]], port)  # a gap: it is not complete before the stop
        tell_to_stop(node, configuration)
        peer.send(peer.fragment(rest, is_last=True))
        assert peer.status() == 0
        peer.socket.close()
        assert node.wait(100) == 0
    configure(tmp_path, port, spot_models, 120, quiet_s=3)
    with node_process(configuration, port):
        (entry,) = wait_until_ended(tmp_path / "var")
    assert entry.instances == len(paths)
    assert entry.state is State.DONE
