"""Covers: a real file system that is full: refusals, what is left behind, what is stored next, the floor.
A tmpfs says so at each write; ext4 allocates late and may say so at the flush only.
Does not cover: failing hardware (EIO), quotas, network file systems.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.receive.status import Status
from dicom_node.settings import Receive
from tests.receive.images import SERIES, data_set_of, encode, mr_image
from tests.receive.wire import ASSOCIATE_RJ, Peer, associate_rq

MB = 1 << 20


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    if request.param == "tmpfs":
        commands = [["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place]]
    else:
        image = tmp_path / "disk.img"
        image.write_bytes(b"")
        os.truncate(image, 16 * MB)
        commands = [["mkfs.ext4", "-q", "-F", "-m", "0", image], ["mount", "-o", "loop", image, place]]
    try:
        for command in commands:
            subprocess.run([str(part) for part in command], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"a {request.param} cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def started(disk: Path) -> Iterator[tuple[Receiver, Spool]]:
    yield from start(disk, 0)


def start(disk: Path, minimum_free_mb: int) -> Iterator[tuple[Receiver, Spool]]:
    spool = Spool(disk / "spool", minimum_free_mb)
    receiver = Receiver(Receive(processes=2), spool, lambda _: None, lambda *_: None, port=0)
    receiver.start()
    yield receiver, spool
    receiver.stop(5)


def image(number: int, size: int) -> bytes:
    return encode(mr_image(number, size=size), ExplicitVRLittleEndian)


def uid(number: int) -> str:
    return f"{SERIES}.{number}"


def fill(disk: Path, leave_bytes: int) -> Path:
    """Take the free space up to so much with files, the last one small."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        while (free := shutil.disk_usage(disk).free) > leave_bytes:
            try:
                file.write(bytes(max(1, min(free - leave_bytes, MB))))
                os.fsync(file.fileno())
            except OSError:
                break
    return path


def written(disk: Path) -> list[Path]:
    found = (disk / "spool" / "incoming").rglob("*")
    return [path for path in found if path.is_file() and path.stat().st_size]


def test_a_full_disk_refuses_leaves_nothing_and_stores_what_still_fits(
    disk: Path, started: tuple[Receiver, Spool]
) -> None:
    receiver, spool = started
    with Peer(receiver.port) as peer:
        assert peer.associate().store(uid(1), image(1, 64)) == Status.SUCCESS
        fill(disk, 700_000)
        assert peer.store(uid(2), image(2, 1024), pieces=40) == Status.OUT_OF_RESOURCES
        assert not written(disk)
        assert peer.store(uid(3), image(3, 64)) == Status.SUCCESS
        peer.release()
    kept = {path.stem: data_set_of(path) for path in spool.instances(SERIES)}
    assert kept == {uid(1): image(1, 64), uid(3): image(3, 64)}


def test_whatever_was_answered_with_success_is_whole_until_the_disk_is_full(
    disk: Path, started: tuple[Receiver, Spool]
) -> None:
    receiver, spool = started
    answers = {}
    with Peer(receiver.port) as peer:
        peer.associate()
        for number in range(60):
            answers[number] = peer.store(uid(number), image(number, 512), pieces=9)
    assert set(answers.values()) == {Status.SUCCESS, Status.OUT_OF_RESOURCES}
    stored = [number for number, answer in answers.items() if answer == Status.SUCCESS]
    assert sorted(p.stem for p in spool.instances(SERIES)) == sorted(map(uid, stored))
    assert all(data_set_of(disk / "spool/series" / SERIES / f"{uid(n)}.dcm") == image(n, 512) for n in stored)
    assert not written(disk)


def test_once_there_is_room_again_everything_is_taken(disk: Path, started: tuple[Receiver, Spool]) -> None:
    receiver, _ = started
    filler = fill(disk, 0)
    with Peer(receiver.port) as peer:
        assert peer.associate().store(uid(1), image(1, 256), pieces=3) == Status.OUT_OF_RESOURCES
        assert not written(disk)
        filler.unlink()
        os.sync()
        assert peer.store(uid(1), image(1, 256), pieces=3) == Status.SUCCESS


def test_below_the_floor_associations_are_refused_for_now_and_it_is_said_loudly(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for receiver, _ in start(disk, 4):
        with Peer(receiver.port) as running:
            running.associate()
            filler = fill(disk, 2 * MB)
            for _ in range(3):
                with Peer(receiver.port) as peer:
                    peer.send(associate_rq())
                    kind, value = peer.read()
                    assert (kind, tuple(value[1:4])) == (ASSOCIATE_RJ, (2, 3, 1))
            assert running.store(uid(1), image(1, 64)) == Status.OUT_OF_RESOURCES
            filler.unlink()
            os.sync()
            with Peer(receiver.port) as peer:
                assert peer.associate().store(uid(1), image(1, 64)) == Status.SUCCESS
            assert running.store(uid(2), image(2, 64)) == Status.SUCCESS
    # What its processes told was taken note of before it stopped; each had found it low, and over
    said = [line for line in capsys.readouterr().out.splitlines() if "disk_" in line]
    assert ["disk_low" in said[0], "disk_has_room_again" in said[1]] == [True, True], said
    assert len(said) == 2, said
    assert "error" in said[0]
    assert "minimum_free_mb=4" in said[0]
    assert "make room" in said[0]
