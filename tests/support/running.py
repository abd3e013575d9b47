"""A node as its own process, as operators run it, and programs that tests talk to."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from typer.testing import CliRunner

from dicom_node.analysis.manifest import read_manifest
from dicom_node.cli import app
from dicom_node.deliver.cstore import Peer, send_files
from dicom_node.workflow.ledger import ENDED, Entry, Ledger

T = TypeVar("T")
PORTS = range(20_000, 32_000)


def need(program: str) -> str:
    """Path of a peer's program; without it the test is skipped by name, but in CI it fails."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is not installed; tests/install_peers.sh should have done it")
        pytest.skip(f"{program} is not installed")
    return path


def dcmtk(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program of DCMTK to its end."""
    return subprocess.run(
        [need(program), *map(str, arguments)],
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def free_port() -> int:
    """A port on which nothing listens, and which nobody else is given.

    It lies below those that the system chooses itself for whoever asks for port 0: one of these could be
    another server's before its own server starts. The processes that test at once on a machine take turns.
    """
    turn = Path(tempfile.gettempdir()) / f"dicom-node-tests-{os.getuid()}.port"
    with turn.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        last = int(file.read() or PORTS.start)
        port = next(filter(_is_free, (*PORTS[last - PORTS.start + 1 :], *PORTS)))
        file.truncate(0)
        file.write(str(port))
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_for(what: Callable[[], T | None], timeout_s: float = 90) -> T:
    """Ask until the answer is true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        answer = what()
        if answer:
            return answer
        time.sleep(0.1)
    pytest.fail(f"still waiting for {what.__name__} after {timeout_s} s")


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def process(
    *command: str | Path, log: Path, port: int, cwd: Path | None = None
) -> Iterator[subprocess.Popen]:
    """Run a program that listens on a port until the block ends."""
    with log.open("ab") as output:
        environment = {**os.environ, "TCP_NODELAY": "1"}  # without it DCMTK waits for each small packet
        started = subprocess.Popen(
            [str(c) for c in command], stdout=output, stderr=output, cwd=cwd, env=environment
        )
        try:

            def listening() -> bool:
                assert started.poll() is None, log.read_text()
                return listens(port)

            wait_for(listening, timeout_s=240)  # a loaded machine; one that ended is told at once
            yield started
        finally:
            if started.poll() is None:
                started.send_signal(signal.SIGTERM)
            started.wait(60)


def write_configuration(
    path: Path,
    *,
    port: int,
    models: Path,
    destinations: dict[str, tuple[str, int] | str],
    waits: str = "retry_first_s = 0.5\nretry_longest_s = 2\ntimeout_s = 60",
    quiet_s: float = 10,
) -> Path:
    """Write a configuration with a pipeline per bundle in ``models``, of its contrasts, to every destination.

    Parameters
    ----------
    destinations : AE title and port on this machine, or lines of TOML, by name
    quiet_s : longer than the machine may stall between two images, unless a test waits for it
    waits : of every destination, lines of TOML
    """
    bundles = [read_manifest(p.parent) for p in sorted(models.glob("*/manifest.toml"))]
    names = list(destinations)
    pipelines = "".join(
        f'[[pipelines]]\nname = "{b.name}"\nbundle = "{b.name}"\n'
        f"match = {{ contrasts = {[str(c) for c in b.contrasts]} }}\n"
        f"destinations = {names}\n"
        for b in bundles
    )
    peers = "".join(_destination(name, where, waits) for name, where in destinations.items())
    path.write_text(
        f'folder = "{path.parent / "var"}"\n'
        f"[receive]\nport = {port}\n[web]\nenabled = false\n"
        f"[completion]\nquiet_s = {quiet_s}\nquiet_after_release_s = 0.5\n"
        f'[analysis]\nmodels = "{models}"\ndevice = "cpu"\n{pipelines}{peers}'
    )
    return path


def _destination(name: str, where: tuple[str, int] | str, waits: str) -> str:
    if not isinstance(where, str):
        where = f'ae_title = "{where[0]}"\nhost = "127.0.0.1"\nport = {where[1]}'
    return f'[[destinations]]\nname = "{name}"\n{waits}\n{where}\n'


@contextmanager
def node_process(configuration: Path, port: int) -> Iterator[subprocess.Popen]:
    """``dicom-node serve``."""
    command = [sys.executable, "-m", "dicom_node", "serve", "--config", configuration]
    with process(*command, log=configuration.with_suffix(".log"), port=port) as started:
        yield started


def say(configuration: Path, *arguments: str, exit_code: int = 0) -> str:
    """Run a command of the node and return what it prints."""
    told = CliRunner().invoke(app, [*arguments, "--config", str(configuration)])
    assert told.exit_code == exit_code, told.output
    return told.output


def send(paths: list[Path], port: int, called: str = "DICOM_NODE") -> None:
    """C-STORE a series, as a PACS would."""
    assert len(list(send_files(Peer(called, "127.0.0.1", port, "TEST"), paths))) == len(paths)


def entries_of(folder: Path) -> list[Entry]:
    """All that the book of the node in this folder says."""
    if not (folder / "ledger.sqlite").exists():
        return []
    ledger = Ledger(folder / "ledger.sqlite")
    try:
        return ledger.entries(limit=10**6)
    finally:
        ledger.close()


def wait_until_ended(folder: Path, jobs: int = 1, timeout_s: float = 120) -> list[Entry]:
    """Wait until so many jobs have ended, one way or the other."""

    def ended() -> list[Entry] | None:
        entries = entries_of(folder)
        return entries if len(entries) >= jobs and all(e.state in ENDED for e in entries) else None

    return wait_for(ended, timeout_s)
