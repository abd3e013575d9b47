"""Covers: what is on disk and when: the file's parts, order of flush, name and flush, duplicates,
conflicts, refusals, a full disk, the sweep.
Does not cover: a real power cut (the order of the system calls is checked instead).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage, RLELossless

from dicom_node.errors import InstanceRefused, StorageExhausted
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID
from dicom_node.receive.instance import Incoming, StoredInstance
from dicom_node.receive.part10 import AETitles, read_titles
from dicom_node.receive.spool import Spool
from dicom_node.receive.status import Status
from tests.receive.images import SERIES, STUDY, data_set_of, encode, mr_image


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", 0, maximum_object_mb=1)


def request(number: int = 1, syntax: str = ExplicitVRLittleEndian, calling: str = "MR1") -> Incoming:
    return Incoming(MRImageStorage, f"{SERIES}.{number}", syntax, "DICOM_NODE", calling, 1)


def put(spool: Spool, number: int = 1, seed: int = 0, calling: str = "MR1") -> StoredInstance:
    part = spool.begin(request(number, calling=calling))
    part.write(encode(mr_image(number, seed=seed), ExplicitVRLittleEndian))
    return part.commit()


def files(tmp_path: Path) -> list[str]:
    """Names of the files that hold something."""
    found = (tmp_path / "spool").rglob("*")
    return sorted(path.name for path in found if path.is_file() and path.stat().st_size)


def test_a_received_instance_is_a_dicom_file_with_the_data_set_as_it_came(spool, tmp_path):
    stored = put(spool)

    assert stored.path == tmp_path / "spool" / "series" / SERIES / f"{SERIES}.1.dcm"
    assert stored.is_new
    assert stored.study_instance_uid == STUDY
    assert stored.position_mm == (0, 0, 3)
    assert data_set_of(stored.path) == encode(mr_image(), ExplicitVRLittleEndian)
    meta = dcmread(stored.path).file_meta
    assert meta.MediaStorageSOPInstanceUID == f"{SERIES}.1"
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID


@pytest.mark.parametrize("lengths", [[0], [1], [0, 0, 5], [300], [900, 1]], ids=str)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_however_a_data_set_is_cut_into_fragments_the_file_is_the_same(spool, lengths, syntax):
    encoded = encode(mr_image(), syntax)
    part = spool.begin(request(syntax=syntax))
    start = 0
    for length in [*lengths, len(encoded)]:
        part.write(memoryview(encoded)[start : start + length])
        start += length
    stored = part.commit()

    assert data_set_of(stored.path) == encoded
    assert (stored.series_instance_uid, stored.position_mm) == (SERIES, (0, 0, 3))


def test_a_large_object_is_written_ahead_while_it_comes_and_is_the_same(tmp_path, monkeypatch):
    spool = Spool(tmp_path / "spool", 0)
    encoded = memoryview(encode(mr_image(size=2400), ExplicitVRLittleEndian))
    ahead: list[tuple[int, int]] = []
    advise = os.posix_fadvise

    def noted(descriptor: int, start: int, length: int, advice: int) -> None:
        ahead.append((start, start + length))
        advise(descriptor, start, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", noted)
    part = spool.begin(request())
    for start in range(0, len(encoded), 100_000):
        part.write(encoded[start : start + 100_000])
    stored = part.commit()

    assert data_set_of(stored.path) == encoded
    assert [start for start, _ in ahead] == [0, ahead[0][1]]
    assert 8 << 20 <= ahead[-1][1] <= len(encoded)


def test_an_instance_goes_on_after_its_pixels_or_is_refused(spool, tmp_path):
    encoded = encode(mr_image(), ExplicitVRLittleEndian)
    padding = b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0" + bytes(4)
    for rest, is_whole in ((padding, True), (padding[:-1], False), (b"\0", False)):
        part = spool.begin(request())
        part.write(encoded)
        part.write(rest)
        if is_whole:
            assert data_set_of(part.commit().path) == encoded + padding
        else:
            with pytest.raises(InstanceRefused):
                part.commit()
    assert files(tmp_path) == [f"{SERIES}.1.dcm"]


def test_what_the_file_system_takes_in_pieces_is_written_whole(spool, monkeypatch):
    def a_little(descriptor: int, pieces: tuple[bytes, ...]) -> int:
        return os.write(descriptor, b"".join(pieces)[:100])

    monkeypatch.setattr(os, "writev", a_little)

    assert data_set_of(put(spool).path) == encode(mr_image(), ExplicitVRLittleEndian)


def test_the_ae_titles_survive_a_restart(spool, tmp_path):
    put(spool)

    assert Spool(tmp_path / "spool", 0).titles(SERIES) == AETitles("DICOM_NODE", "MR1")


def test_series_and_instances_are_listed_sorted(spool):
    for number in (3, 1, 2):
        put(spool, number)

    assert spool.series() == [SERIES]
    assert [path.stem for path in spool.instances(SERIES)] == [f"{SERIES}.{n}" for n in (1, 2, 3)]
    assert spool.instances("1.2.3.4.5") == []


def test_a_damaged_file_does_not_hide_the_titles_of_its_series(spool):
    for number in (1, 2):
        put(spool, number)
    first, second = spool.instances(SERIES)
    first.write_bytes(b"")
    assert spool.titles(SERIES) == read_titles(second)
    second.write_bytes(b"noise" * 99)
    assert spool.titles(SERIES) == AETitles("", "")


def test_the_titles_of_a_series_that_is_not_there_are_an_error(spool):
    with pytest.raises(FileNotFoundError):
        spool.titles("1.2.3.4.5")


def test_the_same_data_set_from_another_sender_is_nothing_new(spool, tmp_path):
    put(spool)
    again = put(spool, calling="ROUTER")

    assert not again.is_new
    assert not again.is_conflict
    assert files(tmp_path) == [f"{SERIES}.1.dcm"]


def test_another_data_set_with_the_same_uid_is_kept_beside_the_first_and_once(spool, tmp_path):
    first = put(spool)
    conflict = put(spool, seed=1)
    put(spool, seed=1)
    put(spool, seed=2)

    assert conflict.is_conflict
    assert conflict.path.name.startswith(f"{SERIES}.1.conflict-")
    assert data_set_of(first.path) == encode(mr_image(), ExplicitVRLittleEndian)
    assert data_set_of(conflict.path) == encode(mr_image(seed=1), ExplicitVRLittleEndian)
    assert len(files(tmp_path)) == 3
    assert spool.instances(SERIES) == [first.path]


def test_the_name_is_flushed_before_the_data_and_the_data_before_the_move(spool, tmp_path, monkeypatch):
    calls: list[str] = []

    def noted(module: object, name: str, target) -> None:
        function = getattr(module, name)

        def call(first, *rest):
            calls.append(f"{name} {target(first)}")
            return function(first, *rest)

        monkeypatch.setattr(module, name, call)

    def name_of(descriptor: int) -> str:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        return path.suffix or path.name

    noted(os, "fsync", name_of)
    noted(os, "fdatasync", name_of)
    noted(os, "writev", name_of)
    noted(Path, "rename", lambda path: path.suffix)
    put(spool)

    # The first move of a series is tried again once its folder is made
    assert calls[:4] == ["fsync incoming", "writev .part", "fdatasync .part", "rename .part"]


@pytest.mark.parametrize("value", ["../../evil", "/etc/passwd", "", "1" * 65])
def test_a_request_whose_uid_is_none_is_refused_before_a_file_is_made(spool, tmp_path, value):
    with pytest.raises(InstanceRefused) as refused:
        spool.begin(Incoming(MRImageStorage, value, ExplicitVRLittleEndian, "A", "B", 1))

    assert refused.value.status == Status.INVALID_OBJECT_INSTANCE
    assert files(tmp_path) == []


def test_a_series_uid_that_is_a_path_is_refused(spool, tmp_path):
    element = b"\x20\x00\x0e\x00UI" + len(SERIES).to_bytes(2, "little")
    evil = ("../" * 20)[: len(SERIES)].encode()
    encoded = encode(mr_image(), ExplicitVRLittleEndian)
    assert element + SERIES.encode() in encoded
    encoded = encoded.replace(element + SERIES.encode(), element + evil)
    part = spool.begin(request())
    part.write(encoded)

    with pytest.raises(InstanceRefused):
        part.commit()
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "class_suffix", "status"),
    [(2, "", Status.UIDS_DISAGREE), (1, ".1", Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS)],
)
def test_a_data_set_that_is_not_what_was_announced_is_refused(spool, tmp_path, number, class_suffix, status):
    announced = Incoming(
        MRImageStorage + class_suffix, f"{SERIES}.{number}", ExplicitVRLittleEndian, "A", "B", 1
    )
    part = spool.begin(announced)
    part.write(encode(mr_image(), ExplicitVRLittleEndian))

    with pytest.raises(InstanceRefused) as refused:
        part.commit()
    assert refused.value.status == status
    assert files(tmp_path) == []


def test_a_data_set_in_another_encoding_than_negotiated_is_refused(spool, tmp_path):
    part = spool.begin(request(syntax=ExplicitVRLittleEndian))
    part.write(encode(mr_image(), ImplicitVRLittleEndian))

    with pytest.raises(InstanceRefused):
        part.commit()
    assert files(tmp_path) == []


def test_an_empty_data_set_is_refused(spool):
    with pytest.raises(InstanceRefused, match="empty"):
        spool.begin(request()).commit()


def test_a_data_set_over_the_limit_is_refused(spool, tmp_path):
    part = spool.begin(request())
    part.write(bytes(1 << 20))
    with pytest.raises(InstanceRefused) as refused:
        part.write(b"x")
    part.discard()

    assert refused.value.status == Status.OUT_OF_RESOURCES
    assert files(tmp_path) == []


def test_a_disk_that_is_full_leaves_nothing_and_takes_the_next_instance(spool, tmp_path, monkeypatch):
    writev = os.writev

    def full(descriptor: int, pieces: tuple[bytes, ...]) -> int:
        if sum(map(len, pieces)) > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return writev(descriptor, pieces)

    monkeypatch.setattr(os, "writev", full)
    part = spool.begin(request())
    with pytest.raises(StorageExhausted):
        part.write(bytes(2000))
    part.discard()
    assert files(tmp_path) == []

    monkeypatch.setattr(os, "writev", writev)
    assert put(spool).is_new


def test_a_disk_that_is_full_at_the_first_byte_leaves_nothing(spool, tmp_path, monkeypatch):
    def full(_descriptor: int, _pieces: tuple[bytes, ...]) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "writev", full)
    part = spool.begin(request())
    with pytest.raises(StorageExhausted):
        part.write(b"x")
    part.discard()
    assert files(tmp_path) == []


def test_below_the_floor_of_free_space_nothing_is_begun(tmp_path):
    spool = Spool(tmp_path / "spool", minimum_free_mb=1 << 40)

    assert not spool.has_room()
    with pytest.raises(StorageExhausted):
        spool.begin(request())


def crashed(spool: Spool, data_set: bytes) -> None:
    """Write a part file and leave it behind, as a crash before the move does."""
    part = spool.begin(request(2))
    part.write(data_set)
    os.close(part._descriptor)


def test_an_instance_whose_move_a_crash_has_undone_is_taken_in_at_start(spool, tmp_path):
    encoded = encode(mr_image(2), ExplicitVRLittleEndian)
    crashed(spool, encoded)
    restarted = Spool(tmp_path / "spool", 0)

    assert restarted.sweep() == 1
    (path,) = restarted.instances(SERIES)
    assert data_set_of(path) == encoded
    assert restarted.titles(SERIES) == AETitles("DICOM_NODE", "MR1")
    assert files(tmp_path) == [f"{SERIES}.2.dcm"]


def test_a_disk_that_is_full_at_start_costs_no_instance(spool, tmp_path, monkeypatch):
    crashed(spool, encode(mr_image(2), ExplicitVRLittleEndian))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", full)
        with pytest.raises(StorageExhausted):
            spool.sweep()
    assert spool.sweep() == 1
    assert files(tmp_path) == [f"{SERIES}.2.dcm"]


@pytest.mark.parametrize("length", [0, 1, 300, -1])
def test_an_instance_that_was_half_received_is_removed_at_start(spool, tmp_path, length):
    put(spool)
    crashed(spool, encode(mr_image(2), ExplicitVRLittleEndian)[:length])

    assert Spool(tmp_path / "spool", 0).sweep() == 0
    assert files(tmp_path) == [f"{SERIES}.1.dcm"]


@pytest.mark.parametrize("content", [b"x", bytes(5000), bytes(128) + b"DICM", b"\xff" * 200])
def test_a_part_file_that_a_crash_has_left_as_noise_is_removed_at_start(spool, tmp_path, content):
    (tmp_path / "spool" / "incoming" / "torn.part").write_bytes(content)

    assert spool.sweep() == 0
    assert list((tmp_path / "spool" / "incoming").iterdir()) == []
