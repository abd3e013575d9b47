"""The start of a DICOM file: preamble and file meta information (PS3.10 7.1), packed by hand.

It is written once for each image, and a library encoder takes longer for it than the
disk does. What is read back was written here, and anything else is refused.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_PREAMBLE = bytes(128) + b"DICM"
# Preamble, prefix, and the group length element: tag, VR, length 4, value
_GROUP_LENGTH = struct.Struct("<132sHH2sHL")
_VERSION = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"
_SHORT = struct.Struct("<HH2sH")


@dataclass(frozen=True, slots=True)
class AETitles:
    """Who sent to whom."""

    called: str
    calling: str


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, titles: AETitles) -> bytes:
    """Return everything before the data set.

    The titles are kept so that a restarted node still knows by which of its AE titles
    a series came.
    """
    elements = b"".join(
        (
            _VERSION,
            _element(0x0002, b"UI", sop_class_uid),
            _element(0x0003, b"UI", sop_instance_uid),
            _element(0x0010, b"UI", transfer_syntax_uid),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _element(0x0016, b"AE", titles.calling),
            _element(0x0017, b"AE", titles.calling),
            _element(0x0018, b"AE", titles.called),
        )
    )
    return _GROUP_LENGTH.pack(_PREAMBLE, 0x0002, 0x0000, b"UL", 4, len(elements)) + elements


@lru_cache(maxsize=256)
def _element(number: int, vr: bytes, value: str) -> bytes:
    """Encode one short element of group 0002, explicit VR little endian, padded to even length."""
    # A calling AE title comes from the peer, and may hold what an AE title must not
    encoded = value.encode("ascii", "replace")
    if len(encoded) % 2:
        encoded += b"\0" if vr == b"UI" else b" "
    return _SHORT.pack(0x0002, number, vr, len(encoded)) + encoded


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What was packed, and where the data set starts in the file."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    titles: AETitles
    data_set_offset: int


def data_set_offset(descriptor: int) -> int:
    """Return where the data set starts in a file that this module began.

    Raises
    ------
    ValueError
        The file is not one of those.
    """
    start = os.pread(descriptor, _GROUP_LENGTH.size, 0)
    if len(start) < _GROUP_LENGTH.size or not start.startswith(_PREAMBLE):
        raise ValueError("no file of this receiver")
    *_, length = _GROUP_LENGTH.unpack(start)
    return _GROUP_LENGTH.size + int(length)


def read_file_meta(descriptor: int) -> FileMeta:
    """Read back what `file_meta` packed.

    Raises
    ------
    ValueError
        It is cut short, or was packed by something else.
    """
    end = data_set_offset(descriptor)
    encoded = os.pread(descriptor, end, 0)
    values: dict[int, str] = {}
    position = _GROUP_LENGTH.size + len(_VERSION)
    while position + _SHORT.size <= len(encoded):
        _, number, _, length = _SHORT.unpack_from(encoded, position)
        position += _SHORT.size + length
        values[number] = encoded[position - length : position].rstrip(b"\0 ").decode("ascii", "replace")
    try:
        return FileMeta(
            values[0x0002], values[0x0003], values[0x0010], AETitles(values[0x0018], values[0x0017]), end
        )
    except KeyError:
        raise ValueError("no file of this receiver") from None


def read_titles(path: Path) -> AETitles:
    """Read back who sent a received file to whom.

    Raises
    ------
    ValueError
        The file is not one that this receiver wrote.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_file_meta(descriptor).titles
    finally:
        os.close(descriptor)
