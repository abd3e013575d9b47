"""A receiver on a free port, and what it told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.receive.instance import StoredInstance
from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.settings import Receive
from tests.support.running import free_port

# For tests of what is different where other processes receive; the others have the quicker start
HERE_AND_ELSEWHERE = pytest.mark.parametrize(
    "receiver", [0, 2], indirect=True, ids=["one process", "two that receive"]
)


class Running:
    """A receiver that runs, its spool, and the calls that it made.

    Attributes
    ----------
    instances, ends : what it told; where other processes receive, an image may be told after its answer
    losses : how often it told that a process died
    """

    def __init__(self, folder: Path, settings: Receive, minimum_free_mb: int) -> None:
        self.folder = folder
        self.spool = Spool(folder, minimum_free_mb, settings.maximum_object_mb)
        self.instances: list[StoredInstance] = []
        self.ends: list[tuple[int, bool]] = []
        self.losses = 0
        self.receiver = Receiver(
            settings, self.spool, self.instances.append, self._ended, on_loss=self._lost, port=free_port()
        )
        self.receiver.start()

    @property
    def port(self) -> int:
        return self.receiver.port

    @property
    def parts(self) -> list[Path]:
        """The part files that hold something."""
        return parts_in(self.folder)

    def use(self, **changes: object) -> None:
        """Change settings for connections that come from now on."""
        self.receiver.use(self.receiver._settings.model_copy(update=changes))

    def _ended(self, association_id: int, released: bool) -> None:
        self.ends.append((association_id, released))

    def _lost(self) -> None:
        self.losses += 1


def begun_since(before: set[threading.Thread]) -> set[threading.Thread]:
    """Threads that run and did not before; one of an earlier test may end meanwhile."""
    return set(threading.enumerate()) - before


def parts_in(spool: Path) -> list[Path]:
    """The part files of a spool that hold something."""
    return [path for path in (spool / "incoming").rglob("*.part") if _size(path)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # removed since it was listed
        return 0


@pytest.fixture
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start a receiver with the given settings; all are stopped in the end."""
    started: list[Running] = []
    processes = getattr(request, "param", 0)

    def start(minimum_free_mb: int = 0, **settings: object) -> Running:
        chosen = Receive(**{"processes": processes, **settings})
        running = Running(tmp_path / f"spool{len(started)}", chosen, minimum_free_mb)
        started.append(running)
        return running

    yield start
    for running in started:
        running.receiver.stop(5)
