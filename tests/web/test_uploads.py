"""What is sent is taken under names of our own and within limits.

Covered: kinds by content, archives, names that would be paths, each limit, damaged archives and pictures.
Not covered: the page and the API that use it (test_api), damage at random (tests/fuzz).
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.settings import Web
from dicom_node.web.trial_input import read_picture
from dicom_node.web.uploads import Kind, Received, UploadRefused, take
from tests.fuzz.damage import dicom_file

PICTURE = cv2.imencode(".png", np.arange(1024, dtype=np.uint8).reshape(32, 32))[1].tobytes()
DICOM = bytes(128) + b"DICM" + bytes(100)


def taken(folder: Path, *files: tuple[str, bytes], **limits: int) -> list[Received]:
    return take([(name, io.BytesIO(data)) for name, data in files], folder, Web(**limits))


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as made:
        for name, data in members:
            made.writestr(name, data)
    return packed.getvalue()


def test_kinds_are_told_by_content_not_by_name(tmp_path: Path) -> None:
    jpeg = cv2.imencode(".jpg", np.zeros((32, 32), np.uint8))[1].tobytes()
    got = taken(tmp_path, ("a.dcm", PICTURE), ("b.png", DICOM), ("c", jpeg), ("d.png", b"text"), ("e", b""))
    assert [file.kind for file in got] == [Kind.PNG, Kind.DICOM, Kind.JPEG, Kind.OTHER, Kind.OTHER]
    assert [file.path.name for file in got] == ["00001", "00002", "00003", "00004", "00005"]


@pytest.mark.parametrize(
    "name", ["../../evil.png", "/etc/evil.png", "..\\evil.png", "evil.png\x00.dcm", "a\n.png"]
)
def test_no_name_becomes_a_path(name: str, tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    got = taken(inside, (name, PICTURE), ("all.zip", archive((name.replace("\x00", "_"), PICTURE))))
    assert len(got) == 2
    assert all(file.path.parent == inside for file in got)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert all("/" not in file.name and "\\" not in file.name and file.name.isprintable() for file in got)


def test_an_archive_is_unpacked_without_its_clutter(tmp_path: Path) -> None:
    clutter = ("study/", "__MACOSX/._1.dcm", "study/.DS_Store", "DICOMDIR")
    packed = archive(("study/1.dcm", DICOM), *((name, b"") for name in clutter))
    got = taken(tmp_path, ("all.zip", packed))
    assert [(file.name, file.kind) for file in got] == [("1.dcm", Kind.DICOM)]
    assert len(list(tmp_path.iterdir())) == 1, "the archive itself is gone"


def test_an_archive_in_an_archive_is_not_unpacked(tmp_path: Path) -> None:
    (got,) = taken(tmp_path, ("a.zip", archive(("b.zip", archive(("c.png", PICTURE))))))
    assert got.kind is Kind.ZIP


def test_what_expands_beyond_the_limit_is_stopped_while_it_expands(tmp_path: Path) -> None:
    bomb = archive(*((f"{k}.dcm", bytes(1 << 20)) for k in range(8)))
    assert len(bomb) < 1 << 16
    with pytest.raises(UploadRefused, match="more than 4 MB, unpacked"):
        taken(tmp_path, ("bomb.zip", bomb), maximum_upload_mb=4)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4 << 20


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    packed = archive(*((f"{k}.png", PICTURE) for k in range(6)))
    with pytest.raises(UploadRefused, match="more than 5 files"):
        taken(tmp_path, ("all.zip", packed), maximum_files=5)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    packed = bytearray(archive(("a.png", PICTURE * 50), method=zipfile.ZIP_STORED))
    packed[2000] ^= 255
    with pytest.raises(UploadRefused, match="it is damaged"):
        taken(tmp_path, ("a.zip", bytes(packed)))
    with pytest.raises(UploadRefused, match="it is damaged"):
        taken(tmp_path, ("a.zip", b"PK\x03\x04 and no more"))


def test_nothing_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UploadRefused, match="there is no file in it"):
        taken(tmp_path)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_picture_is_read_as_grey_of_its_depth(depth: type, tmp_path: Path) -> None:
    values = np.linspace(0, np.iinfo(depth).max, 64 * 48).reshape(64, 48).astype(depth)
    path = tmp_path / "a"
    path.write_bytes(cv2.imencode(".png", values)[1].tobytes())
    assert (read_picture(path).voxels[0] == values).all()


def test_a_picture_that_would_be_huge_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + b"IHDR"
    path = tmp_path / "huge"
    path.write_bytes(header + (60_000).to_bytes(4, "big") * 2 + bytes(20))
    with pytest.raises(UploadRefused, match="60000 x 60000"):
        read_picture(path)
    wide = bytearray(cv2.imencode(".jpg", np.zeros((32, 32), np.uint8))[1].tobytes())
    start = wide.index(b"\xff\xc0")
    wide[start + 5 : start + 9] = (50_000).to_bytes(2, "big") * 2
    path.write_bytes(wide)
    with pytest.raises(UploadRefused, match="50000 x 50000"):
        read_picture(path)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (PICTURE[:60], "damaged"),
        (b"\xff\xd8\xff\xe0\x00", "damaged"),
        (b"\x89PNG", "damaged"),
        (cv2.imencode(".png", np.full((32, 32), 7, np.uint8))[1].tobytes(), "blank"),
        (cv2.imencode(".png", np.eye(8, dtype=np.uint8))[1].tobytes(), "8 x 8"),
    ],
)
def test_a_picture_of_no_use_is_refused(data: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(UploadRefused, match=why):
        read_picture(tmp_path / "a")


@pytest.mark.parametrize("name", [".", "./", "/"])
def test_a_member_without_a_name_is_passed_over(name: str, tmp_path: Path) -> None:
    (got,) = taken(tmp_path, ("a.zip", archive((name, b""), ("a.png", PICTURE))))
    assert got.name == "a.png"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_the_library_would_expand_without_a_limit_is_refused(method: int, tmp_path: Path) -> None:
    bomb = archive(("a.dcm", bytes(16 << 20)), method=method)
    assert len(bomb) < 20_000
    with pytest.raises(UploadRefused, match="another way than deflate"):
        taken(tmp_path, ("bomb.zip", bomb), maximum_upload_mb=4)


def test_an_archive_whose_list_of_files_is_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    names = archive(*((f"{'n' * 200}{k}", b"") for k in range(6000)), method=zipfile.ZIP_STORED)
    with pytest.raises(UploadRefused, match="more than 5 files"):
        taken(tmp_path, ("all.zip", names), maximum_files=5)


def test_a_member_whose_compressed_bytes_are_damaged_is_refused(tmp_path: Path) -> None:
    packed = bytearray(archive(("a.png", np.random.default_rng(0).bytes(2000))))
    packed[40:60] = b"\xff" * 20
    with pytest.raises(UploadRefused, match="it is damaged"):
        taken(tmp_path, ("a.zip", bytes(packed)))


def test_a_deflated_data_set_counts_as_what_it_becomes(tmp_path: Path) -> None:
    bomb = dicom_file(bytes(16 << 20), DeflatedExplicitVRLittleEndian)
    assert len(bomb) < 1 << 17
    with pytest.raises(UploadRefused, match="more than 4 MB, unpacked"):
        taken(tmp_path, ("a.dcm", bomb), maximum_upload_mb=4)
    (got,) = taken(tmp_path, ("a.dcm", dicom_file(bytes(100), DeflatedExplicitVRLittleEndian)))
    assert got.kind is Kind.DICOM
