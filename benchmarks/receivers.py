"""The receivers that are compared: how each is started, what it has stored, what it has used."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

# Without it DCMTK waits for delayed acknowledgements, and the figures mean nothing
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
_TICKS_S = os.sysconf("SC_CLK_TCK")
_START_S = 60


@dataclass
class Running:
    """A receiver in a process of its own.

    Attributes
    ----------
    cpu_s : used so far by it and the processes that it made
    rss_mb : resident memory of all of them, what they share counted once
    """

    port: int
    pid: int
    _count: Callable[[], int]
    _seen: int = field(default=0)

    def stored(self) -> int:
        """How many instances it has stored since this was asked last."""
        before, self._seen = self._seen, self._count()
        return self._seen - before

    @property
    def cpu_s(self) -> float:
        stats = [stat.rpartition(")")[2].split() for stat in self._read("stat")]
        return sum(sum(map(int, fields[11:15])) for fields in stats) / _TICKS_S

    @property
    def rss_mb(self) -> float:
        pss_kb = [rollup.partition("\nPss:")[2].split() for rollup in self._read("smaps_rollup")]
        return sum(int(each[0]) for each in pss_kb if each) / 1024

    def _read(self, name: str) -> Iterator[str]:
        """Read a file of /proc for it and the processes that it made, and theirs."""
        pids = [self.pid]
        for pid in pids:
            with suppress(OSError):  # it has just ended
                yield Path(f"/proc/{pid}/{name}").read_text()
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    pids += map(int, children.read_text().split())


@dataclass(frozen=True)
class Receiver:
    """One that can be started.

    Attributes
    ----------
    program : without it the receiver is left out
    """

    name: str
    program: str
    _start: Callable[[Receiver, Path], Iterator[Running]]
    _arguments: tuple[str, ...] = ()

    @property
    def path(self) -> str | None:
        return shutil.which(self.program) or shutil.which(self.program, path="/usr/sbin")

    @contextmanager
    def running(self, folder: Path) -> Iterator[Running]:
        """Run it with its files in a new folder."""
        folder.mkdir()
        yield from self._start(self, folder)


def _storescp(receiver: Receiver, folder: Path) -> Iterator[Running]:
    port, received = free_port(), folder / "received"
    received.mkdir()
    command = [str(receiver.path), "--fork", *receiver._arguments, "-od", str(received), str(port)]
    with _process(command, port, folder) as pid:
        yield Running(port, pid, _Files(received))


def _python(receiver: Receiver, folder: Path) -> Iterator[Running]:
    port, received = free_port(), folder / "received"
    received.mkdir()
    kind = receiver._arguments[0]
    command = [sys.executable, "-m", "benchmarks.serve", kind, str(received), str(port)]
    with _process(command, port, folder) as pid:
        yield Running(port, pid, _Files(received / "series" if kind.startswith("node") else received))


def _orthanc(receiver: Receiver, folder: Path) -> Iterator[Running]:
    port, http_port = free_port(), free_port()
    configuration = {
        "StorageDirectory": "db",
        "IndexDirectory": "db",
        "HttpPort": http_port,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "DICOM_NODE",
        "DicomPort": port,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))

    def count() -> int:
        address = f"http://127.0.0.1:{http_port}/statistics"
        return int(httpx.get(address, timeout=60, trust_env=False).json()["CountInstances"])

    with _process([str(receiver.path), "orthanc.json"], port, folder, cwd=folder) as pid:
        yield Running(port, pid, count)


class _Files:
    """Counts files that hold something, and empties those that it has counted.

    They are not deleted: ext4 does not give an inode away again for a minute, and looking past
    thousands of those makes the next round's files slower to create. What they held is not to
    be written to the disk while another receiver is measured.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def __call__(self) -> int:
        for path in self._folder.rglob("*"):
            if path.is_file() and path.stat().st_size:
                self._count += 1
                os.truncate(path, 0)
        return self._count


STORESCP, STORESCP_DEFAULT = "storescp +B -pdu 131072", "storescp"
RECEIVERS = (
    Receiver(STORESCP, "storescp", _storescp, ("+B", "-pdu", "131072")),
    Receiver(STORESCP_DEFAULT, "storescp", _storescp),
    Receiver("Orthanc (fsync)", "Orthanc", _orthanc),
    Receiver("pynetdicom, save_as", sys.executable, _python, ("stock",)),
    Receiver("pynetdicom, chunked", sys.executable, _python, ("stock-chunked",)),
    Receiver("node without fsync", sys.executable, _python, ("node-no-flush",)),
    Receiver("node", sys.executable, _python, ("node",)),
    Receiver("node, one process without fsync", sys.executable, _python, ("node-alone-no-flush",)),
    Receiver("node, one process", sys.executable, _python, ("node-alone",)),
)


@contextmanager
def _process(command: list[str], port: int, folder: Path, cwd: Path | None = None) -> Iterator[int]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, cwd=cwd)  # noqa: S603
    try:
        deadline = time.monotonic() + _START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not listen: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
