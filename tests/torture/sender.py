"""Those who send series and repeat what was not acknowledged; their log is what the node promised."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread

from dicom_node.deliver.cstore import Peer, send_files
from dicom_node.errors import NodeError
from tests.support.running import need
from tests.torture.material import Series, with_other_pixels

_PAUSE_S = 0.3  # before what was not acknowledged is sent again
_SENDERS = 4  # at one time
LATE_S = 5.0  # after which a late slice comes: the rest is complete by then


def content_of(path: Path) -> str:
    """Digest of an image's pixels, whoever wrote the file."""
    return hashlib.sha256(dcmread(path).PixelData).hexdigest()


@dataclass(frozen=True)
class Batch:
    """Files that go together, on one association if all goes well.

    Attributes
    ----------
    program : ``storescu``; else our own sender
    not_before : on the monotonic clock
    after : batches that must be acknowledged before
    """

    series: Series
    paths: tuple[Path, ...]
    program: bool
    not_before: float = 0.0
    after: tuple[Batch, ...] = ()


@dataclass
class Senders:
    """Threads that send batches until each of their images was answered with Success.

    Attributes
    ----------
    acknowledged : SOP Instance UID to the digests of the pixels that were acknowledged
    acknowledgements : how many
    """

    port: int
    log: Path
    chance: random.Random
    acknowledged: dict[str, set[str]] = field(default_factory=dict)
    acknowledgements: int = 0

    def __post_init__(self) -> None:
        self._storescu = need("storescu")
        self._changed = threading.Condition()
        self._waiting: list[Batch] = []
        self._done: set[Batch] = set()
        self._unfinished = 0
        self._stopping = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(_SENDERS)]
        for thread in self._threads:
            thread.start()

    def send(self, series: Series) -> None:
        """Send a series in one of the ways that senders have."""
        chance, paths = self.chance, list(series.paths)
        way = chance.choice(["whole", "whole", "shuffled", "interleaved", "interleaved", "late", "again"])
        if way != "whole":
            chance.shuffle(paths)
        first = tuple(paths)
        if way == "late":
            late = chance.randint(1, 2)
            rest = Batch(series, first[late:], chance.random() < 0.5)
            self._add(rest, Batch(series, first[:late], False, time.monotonic() + LATE_S, after=(rest,)))
        elif way == "interleaved":
            self._add(Batch(series, first[::2], True), Batch(series, first[1::2], False))
        elif way == "again":
            whole = Batch(series, first, chance.random() < 0.5)
            self._add(whole, Batch(series, first[: chance.randint(1, len(first))], False, after=(whole,)))
        else:
            self._add(Batch(series, first, chance.random() < 0.5))

    def contradict(self, series: Series) -> None:
        """Send an image of a series with other content under its UID."""
        self._add(Batch(series, (with_other_pixels(series.paths[0]),), False))

    def is_acknowledged(self, series: Series) -> bool:
        return all(uid in self.acknowledged for uid in series.uids)

    def all_done(self) -> bool:
        with self._changed:
            return self._unfinished == 0

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(60)

    def _add(self, *batches: Batch) -> None:
        with self._changed:
            self._waiting += batches
            self._unfinished += len(batches)
            self._changed.notify_all()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            left = list(batch.paths)
            while left and not self._stopping:
                for path in self._transfer(batch.program, left):
                    self._note(path)
                    left.remove(path)
                if left:
                    time.sleep(_PAUSE_S)
            with self._changed:
                self._done.add(batch)
                self._unfinished -= 1
                self._changed.notify_all()

    def _next(self) -> Batch | None:
        with self._changed:
            while not self._stopping:
                for batch in self._waiting:
                    if batch.not_before <= time.monotonic() and self._done.issuperset(batch.after):
                        self._waiting.remove(batch)
                        return batch
                self._changed.wait(0.2)
        return None

    def _note(self, path: Path) -> None:
        uid, content = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID), content_of(path)
        with self._changed, self.log.open("a") as log:
            self.acknowledged.setdefault(uid, set()).add(content)
            self.acknowledgements += 1
            log.write(f"{time.time():.3f} {uid} {content} {path}\n")

    def _transfer(self, program: bool, paths: list[Path]) -> Iterator[Path]:
        """Send on one association; yields what was acknowledged, until something goes wrong."""
        if program:
            yield from self._by_storescu(paths)
            return
        peer = Peer("DICOM_NODE", "127.0.0.1", self.port, "SENDER", timeout_s=20)
        with contextlib.suppress(NodeError):
            yield from send_files(peer, list(paths))

    def _by_storescu(self, paths: list[Path]) -> Iterator[Path]:
        command = [self._storescu, "-v", "-aet", "STORESCU", "-aec", "DICOM_NODE", "-ta", "20", "-td", "20"]
        sent = subprocess.run(
            [*command, "127.0.0.1", str(self.port), *map(str, paths)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "TCP_NODELAY": "1"},
        )
        sending: Path | None = None
        for line in (sent.stdout + sent.stderr).splitlines():
            if line.startswith("I: Sending file: "):
                sending = Path(line.removeprefix("I: Sending file: "))
            elif line.startswith("I: Received Store Response (Success)") and sending is not None:
                yield sending
                sending = None
