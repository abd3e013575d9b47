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
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from dicom_node.errors import InstanceRefused, StorageExhausted
from dicom_node.receive.part10 import IMPLEMENTATION_CLASS_UID, AETitles
from dicom_node.receive.spool import Incoming, Spool, StoredInstance
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
    return sorted(path.name for path in (tmp_path / "spool").rglob("*") if path.is_file())


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


def test_the_ae_titles_survive_a_restart(spool, tmp_path):
    put(spool)

    assert Spool(tmp_path / "spool", 0).titles(SERIES) == AETitles("DICOM_NODE", "MR1")


def test_series_and_instances_are_listed_sorted(spool):
    for number in (3, 1, 2):
        put(spool, number)

    assert spool.series() == [SERIES]
    assert [path.stem for path in spool.instances(SERIES)] == [f"{SERIES}.{n}" for n in (1, 2, 3)]
    assert spool.instances("1.2.3.4.5") == []


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


def test_the_data_are_flushed_before_the_name_and_the_name_before_the_answer(spool, monkeypatch):
    calls: list[str] = []
    for name, function in (("fdatasync", os.fdatasync), ("fsync", os.fsync)):

        def flush(descriptor: int, name: str = name, function=function) -> None:
            calls.append(f"{name} {Path(f'/proc/self/fd/{descriptor}').readlink().suffix or 'folder'}")
            function(descriptor)

        monkeypatch.setattr(os, name, flush)
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: (calls.append("rename"), rename(self, to))[1])
    put(spool, 1)
    calls.clear()
    put(spool, 2)

    assert calls[:2] == ["fdatasync .part", "rename"]
    assert calls[2].startswith("fsync")


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
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    part = spool.begin(request())
    with pytest.raises(StorageExhausted):
        part.write(bytes(2000))
    part.discard()
    assert files(tmp_path) == []

    monkeypatch.setattr(os, "write", write)
    assert put(spool).is_new


def test_a_disk_that_is_full_at_the_first_byte_leaves_nothing(spool, tmp_path, monkeypatch):
    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageExhausted):
        spool.begin(request())
    assert files(tmp_path) == []


def test_below_the_floor_of_free_space_nothing_is_begun(tmp_path):
    spool = Spool(tmp_path / "spool", minimum_free_mb=1 << 40)

    assert not spool.has_room()
    with pytest.raises(StorageExhausted):
        spool.begin(request())


def test_the_sweep_removes_what_was_half_received_and_nothing_else(spool, tmp_path):
    put(spool)
    left = spool.begin(request(2))
    left.write(b"half")

    assert Spool(tmp_path / "spool", 0).sweep() == 1
    assert files(tmp_path) == [f"{SERIES}.1.dcm"]
    left.discard()
