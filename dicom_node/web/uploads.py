"""Files that people send: taken under names of our own, unpacked within limits, told apart by their content.

No name that is sent becomes a path. What is too large is refused before it is read, and what an archive
holds is counted while it is unpacked.
"""

from __future__ import annotations

import errno
import io
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn

from pydicom.filereader import data_element_generator, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dicom_node.errors import PermanentError
from dicom_node.settings import Web

_CHUNK = 1 << 20
_OVERHEAD = 1 << 20  # of a form around its files
_DIRECTORY_BYTES = 1 << 10  # for each file of an archive, in its list of them
_DICOM_AT = 128
_TRANSFER_SYNTAX = 0x00020010
_DEFLATED = DeflatedExplicitVRLittleEndian.encode()
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others are unpacked without a limit by the library


class UploadRefused(PermanentError):
    """Files cannot be taken; the message says why, and what can be."""

    remedy = "send PNG, JPEG, DICOM, or a zip of them"


class Kind(StrEnum):
    """What a file is, by its first bytes."""

    PNG = "PNG"
    JPEG = "JPEG"
    DICOM = "DICOM"
    ZIP = "zip"
    OTHER = "other"


_MAGIC = ((Kind.PNG, b"\x89PNG\r\n\x1a\n"), (Kind.JPEG, b"\xff\xd8\xff"), (Kind.ZIP, b"PK\x03\x04"))


@dataclass(frozen=True, slots=True)
class Received:
    """A file that was taken.

    Attributes
    ----------
    name : that it had, to be shown
    path : that it has here
    """

    name: str
    path: Path
    kind: Kind


class Limit:
    """ASGI middleware: refuses a body that is larger than may be, or of which nobody says how large it is."""

    def __init__(self, app: ASGIApp, maximum_bytes: int) -> None:
        self._app = app
        self._maximum_bytes = maximum_bytes + _OVERHEAD

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers:  # it counts for more than a length that is sent with it
            return PlainTextResponse("send the length of the body with it\n", 411)
        if length and (not length.isdecimal() or int(length) > self._maximum_bytes):
            return PlainTextResponse(f"at most {self._maximum_bytes >> 20} MB at once\n", 413)
        return None


def take(files: Iterable[tuple[str, BinaryIO]], folder: Path, limits: Web) -> list[Received]:
    """Write files into a folder, and unpack archives among them.

    Raises
    ------
    UploadRefused
        They are too many, too large, no file at all, or an archive is damaged.
    """
    budget = _Budget(limits.maximum_upload_mb << 20, limits.maximum_files)
    taken: list[Received] = []
    for name, file in files:
        taken += _unpacked(_write(file, _name(name), folder, budget), folder, budget)
    if not taken:
        raise UploadRefused("there is no file in it; send PNG, JPEG, DICOM, or a zip of them")
    return taken


def kind_of(path: Path) -> Kind:
    """Tell what a file is."""
    with path.open("rb") as file:
        start = file.read(_DICOM_AT + 4)
    if start[_DICOM_AT:] == b"DICM":
        return Kind.DICOM
    for kind, magic in _MAGIC:
        if start.startswith(magic):
            return kind
    return Kind.OTHER


class _Budget:
    """What may still be taken."""

    def __init__(self, bytes_: int, files: int) -> None:
        self._left_bytes, self._left_files = bytes_, files
        self._bytes, self.files = bytes_, files

    def count_file(self) -> int:
        self._left_files -= 1
        if self._left_files < 0:
            self.refuse_files()
        return self.files - self._left_files

    def refuse_files(self) -> NoReturn:
        raise UploadRefused(f"more than {self.files} files; send fewer (web.maximum_files)")

    def count_bytes(self, count: int) -> None:
        self._left_bytes -= count
        if self._left_bytes < 0:
            mb = self._bytes >> 20
            raise UploadRefused(f"more than {mb} MB, unpacked; send less (web.maximum_upload_mb)")


def _write(file: BinaryIO, name: str, folder: Path, budget: _Budget) -> Received:
    path = folder / f"{budget.count_file():05d}"
    with path.open("wb") as target:
        while chunk := file.read(_CHUNK):
            budget.count_bytes(len(chunk))
            target.write(chunk)
    kind = kind_of(path)
    if kind is Kind.DICOM:
        _count_inflated(path, budget)
    return Received(name, path, kind)


def _count_inflated(path: Path, budget: _Budget) -> None:
    """Count what a deflated data set becomes (PS3.5 A.5): whoever reads it inflates it as a whole."""
    with path.open("rb") as file:
        try:
            read_preamble(file, force=False)
            elements = data_element_generator(file, False, True, stop_when=lambda tag, *_: tag.group != 2)
            meta = {int(element.tag): element.value for element in elements}
            if _DEFLATED not in (meta.get(_TRANSFER_SYNTAX) or b""):
                return
            stream = zlib.decompressobj(-zlib.MAX_WBITS)
            while chunk := stream.unconsumed_tail or file.read(_CHUNK):
                budget.count_bytes(len(stream.decompress(chunk, _CHUNK)))
        except UploadRefused:
            raise
        except Exception:  # noqa: BLE001 - a damaged file lets any kind out, and is not read later either
            return


def _unpacked(received: Received, folder: Path, budget: _Budget) -> Iterator[Received]:
    if received.kind is not Kind.ZIP:
        yield received
        return
    try:
        with _Careful(received.path, budget) as packed, zipfile.ZipFile(packed) as archive:
            for member in _members(archive):
                with archive.open(member) as file:
                    # an archive in an archive stays what it is: a file of no use
                    yield _write(file, _name(member.filename), folder, budget)  # type: ignore[arg-type]
    except UploadRefused:
        raise
    except Exception as error:  # zipfile lets out what its parts do
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # of the disk, not of the archive
        why = (
            "it has a password"
            if isinstance(error, RuntimeError) and "password" in str(error)
            else "it is damaged"
        )
        raise UploadRefused(f"a zip file cannot be unpacked: {why}") from None
    finally:
        received.path.unlink(missing_ok=True)


def _members(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    for member in archive.infolist():
        if member.is_dir() or _is_clutter(member.filename):
            continue
        if member.compress_type not in _METHODS:
            raise UploadRefused("a zip file is packed in another way than deflate; pack it anew")
        yield member


class _Careful(io.FileIO):
    """An archive whose list of files is not read, which is done at once, where it is too long."""

    def __init__(self, path: Path, budget: _Budget) -> None:
        super().__init__(path)
        self._budget = budget

    def read(self, size: int | None = -1) -> bytes | None:  # type: ignore[override]
        if size is not None and size > _CHUNK + self._budget.files * _DIRECTORY_BYTES:
            self._budget.refuse_files()
        return super().read(size)


def _is_clutter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not parts or "__MACOSX" in parts or parts[-1] in (".DS_Store", "Thumbs.db", "DICOMDIR")


def _name(given: str) -> str:
    """The last part of a name, to be shown."""
    last = PurePosixPath(given.replace("\\", "/")).name
    return "".join(c for c in last if c.isprintable())[:80] or "file"


def remove(folder: Path) -> None:
    """Delete what was taken."""
    shutil.rmtree(folder, ignore_errors=True)
