"""Files that people send: taken under names of our own, unpacked within limits, told apart by their content.

No name that is sent becomes a path. What is too large is refused before it is read, and what an archive
holds is counted while it is unpacked.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dicom_node.errors import PermanentError
from dicom_node.settings import Web

_CHUNK = 1 << 20
_OVERHEAD = 1 << 20  # of a form around its files
_DICOM_AT = 128


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
        if "transfer-encoding" in headers and not length:
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
    for kind, magic in (
        (Kind.PNG, b"\x89PNG\r\n\x1a\n"),
        (Kind.JPEG, b"\xff\xd8\xff"),
        (Kind.ZIP, b"PK\x03\x04"),
    ):
        if start.startswith(magic):
            return kind
    return Kind.OTHER


class _Budget:
    """What may still be taken."""

    def __init__(self, bytes_: int, files: int) -> None:
        self._left_bytes, self._left_files = bytes_, files
        self._bytes, self._files = bytes_, files

    def count_file(self) -> int:
        self._left_files -= 1
        if self._left_files < 0:
            raise UploadRefused(f"more than {self._files} files; send fewer (web.maximum_files)")
        return self._files - self._left_files

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
    return Received(name, path, kind_of(path))


def _unpacked(received: Received, folder: Path, budget: _Budget) -> Iterator[Received]:
    if received.kind is not Kind.ZIP:
        yield received
        return
    try:
        with zipfile.ZipFile(received.path) as archive:
            for member in archive.infolist():
                if member.is_dir() or _is_clutter(member.filename):
                    continue
                with archive.open(member) as file:
                    # an archive in an archive stays what it is: a file of no use
                    yield _write(file, _name(member.filename), folder, budget)  # type: ignore[arg-type]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        why = (
            "it has a password"
            if isinstance(error, RuntimeError) and "password" in str(error)
            else "it is damaged"
        )
        raise UploadRefused(f"a zip file cannot be unpacked: {why}") from None
    finally:
        received.path.unlink(missing_ok=True)


def _is_clutter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or parts[-1] in (".DS_Store", "Thumbs.db", "DICOMDIR")


def _name(given: str) -> str:
    """The last part of a name, to be shown."""
    last = PurePosixPath(given.replace("\\", "/")).name
    return "".join(c for c in last if c.isprintable())[:80] or "file"


def remove(folder: Path) -> None:
    """Delete what was taken."""
    shutil.rmtree(folder, ignore_errors=True)
