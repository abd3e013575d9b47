"""Reads what the receiver must know of a data set, and proves that the data set is whole.

A library parser decodes values lazily, so that a data set cut in two passes for a good
one, and costs more than all the rest of a C-STORE. This walk looks at each top-level
element's tag and length, keeps a few values, and ends exactly at the last byte or refuses.
Pixel data that is not compressed is stepped over by its length, so that the first bytes of
an object and their number prove it whole, and most objects need not be read back.
"""

from __future__ import annotations

import mmap
import re
import struct
import sys
import zlib
from dataclasses import dataclass

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.errors import InstanceRefused
from dicom_node.receive.status import Status

Buffer = bytes | bytearray | memoryview | mmap.mmap

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
# No value that is kept comes near it
_LONGEST_VALUE_BYTES = 1024
# Real objects nest fewer than ten sequences; the limit keeps a crafted one off the Python stack.
_DEEPEST = 32

_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_POSITION, _ORIENTATION = 0x00200032, 0x00200037
_SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS = 0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100
_WANTED = frozenset(
    {
        _SOP_CLASS,
        _SOP_INSTANCE,
        _STUDY,
        _SERIES,
        _POSITION,
        _ORIENTATION,
        _SAMPLES,
        _FRAMES,
        _ROWS,
        _COLUMNS,
        _BITS,
        _PIXEL_DATA,
    }
)

# PS3.5 7.1.2: these have a 32-bit length after two reserved bytes, all others a 16-bit one.
_LONG_VR = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VR = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

# As plain strings: each comparison with pydicom's UID costs as much as five elements of the walk
_IMPLICIT, _EXPLICIT = str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)
_BIG_ENDIAN, _DEFLATED = str(ExplicitVRBigEndian), str(DeflatedExplicitVRLittleEndian)
_NATIVE = (_EXPLICIT, _IMPLICIT, _BIG_ENDIAN)

# An element with a 16-bit length, a tag with a 32-bit length, and such a length alone, by byte order
_UNPACKERS = {
    order: tuple(struct.Struct(order + layout).unpack_from for layout in ("HH2sH", "HHL", "L"))
    for order in "<>"
}

Vector = tuple[float, ...]
# Deflated images are read in memory, one for each association: no MR image comes near it
_LONGEST_INFLATED_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """What the receiver keeps of a data set.

    Attributes
    ----------
    position_mm : (x, y, z) in mm, or None
        Image Position (Patient); a multi-frame image has none at the top level.
    orientation : six direction cosines, or None
        Image Orientation (Patient).
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    position_mm: Vector | None
    orientation: Vector | None


def is_uid(value: str) -> bool:
    """Whether a value is safe and legal as a UID (PS3.5 9.1), and so as a file name.

    Leading zeros in a component are let through: devices in the field write them, and
    they harm nothing here.
    """
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def read_header(data: Buffer, transfer_syntax_uid: str, maximum_bytes: int) -> Header:
    """Walk a data set to its last byte.

    Parameters
    ----------
    data : bytes-like
        The data set without preamble and file meta information.
    transfer_syntax_uid : str
        Its encoding.
    maximum_bytes : int
        A deflated data set may not become larger.

    Raises
    ------
    InstanceRefused
        The data set cannot be parsed, is cut short, or lacks a mandatory value.
    """
    if transfer_syntax_uid == _DEFLATED:
        data = _inflate(data, min(maximum_bytes, _LONGEST_INFLATED_BYTES))
        transfer_syntax_uid = _EXPLICIT
    try:
        values, _ = _walk(data, transfer_syntax_uid, len(data)).data_set()
    except struct.error:
        raise _cut_short() from None
    return _header(values)


def header_at_start(start: Buffer, transfer_syntax_uid: str) -> tuple[Header, int] | None:
    """Read a header from the first bytes of a data set whose pixel data is not compressed.

    Returns the header, and how many bytes the data set has if the pixel data is the last of it.
    None where these bytes do not tell: then `read_header` must judge the whole.
    """
    if transfer_syntax_uid not in _NATIVE:
        return None
    try:
        values, length = _walk(start, transfer_syntax_uid, sys.maxsize).data_set(to_pixels=True)
        return _header(values), length
    except (struct.error, InstanceRefused):
        return None


def _walk(data: Buffer, encoding: str, length: int) -> _Walk:
    return _Walk(
        data,
        length,
        explicit=encoding != _IMPLICIT,
        order=">" if encoding == _BIG_ENDIAN else "<",
        encapsulated=encoding not in _NATIVE,
    )


def _header(values: dict[int, bytes]) -> Header:
    return Header(
        _uid(values, _SOP_CLASS, "SOP Class UID"),
        _uid(values, _SOP_INSTANCE, "SOP Instance UID"),
        _uid(values, _STUDY, "Study Instance UID"),
        _uid(values, _SERIES, "Series Instance UID"),
        _numbers(values.get(_POSITION), 3),
        _numbers(values.get(_ORIENTATION), 6),
    )


class _Walk:
    """One pass over an encoded data set (PS3.5 7.1, 7.5, A.4)."""

    def __init__(self, data: Buffer, length: int, *, explicit: bool, order: str, encapsulated: bool) -> None:
        self._data = data
        self._end = length
        self._explicit = explicit
        self._encapsulated = encapsulated
        self._order = order
        self._short, self._tag_and_length, self._length = _UNPACKERS[order]

    def data_set(self, *, to_pixels: bool = False) -> tuple[dict[int, bytes], int]:
        """Return the kept values, and where the walk ended.

        It ends with the last byte of the data, or with the pixel data, by its length.

        Raises
        ------
        struct.error
            The data ends before the walk does.
        """
        values: dict[int, bytes] = {}
        data, end, explicit, short = self._data, self._end, self._explicit, self._short
        position, has_pixels = 0, False
        while position < end:
            # Nearly all elements are such; the rest goes the long way
            if explicit:
                group, element, vr, length = short(data, position)
                tag, start = group << 16 | element, position + 8
            if not explicit or vr not in _SHORT_VR:
                tag, length, start, vr = self._element(position)
            position = start + length if length != _UNDEFINED else self._after(tag, length, start, vr, 0)
            if tag not in _WANTED:
                continue
            if tag != _PIXEL_DATA:
                values[tag] = self._value(start, length)
                continue
            self._check_pixels(length, start, values)
            if to_pixels:
                return values, position
            has_pixels = True
        if position > end:
            raise _cut_short()
        if not has_pixels:
            raise InstanceRefused("the data set has no pixel data", Status.CANNOT_UNDERSTAND)
        return values, position

    def _value(self, start: int, length: int) -> bytes:
        if length > _LONGEST_VALUE_BYTES:
            return b""
        value = bytes(self._data[start : start + length])
        if len(value) < length:
            raise struct.error
        return value

    def _element(self, position: int) -> tuple[int, int, int, bytes]:
        """Return tag, value length, value start and VR (empty where none is encoded)."""
        if self._explicit:
            group, element, vr, length = self._short(self._data, position)
            if vr in _SHORT_VR:
                return group << 16 | element, length, position + 8, vr
            if vr in _LONG_VR:
                return group << 16 | element, self._length(self._data, position + 8)[0], position + 12, vr
            if group != 0xFFFE:
                raise InstanceRefused("the data set has an unknown VR", Status.CANNOT_UNDERSTAND)
        group, element, length = self._tag_and_length(self._data, position)
        return group << 16 | element, length, position + 8, b""

    def _after(self, tag: int, length: int, start: int, vr: bytes, depth: int) -> int:
        """Return where the next element starts."""
        if length != _UNDEFINED:
            return start + length
        if tag == _PIXEL_DATA and depth == 0:
            return self._after_fragments(start)
        if vr == b"UN":
            # PS3.5 6.2.2: an unknown VR of undefined length is a sequence in implicit little endian
            inner = _Walk(self._data, self._end, explicit=False, order="<", encapsulated=False)
            return inner._after_items(start, depth + 1)
        if vr in (b"SQ", b""):
            return self._after_items(start, depth + 1)
        raise InstanceRefused("an element that is no sequence has no length", Status.CANNOT_UNDERSTAND)

    def _after_items(self, position: int, depth: int) -> int:
        """Return the end of a sequence of undefined length (PS3.5 7.5)."""
        if depth > _DEEPEST:
            raise InstanceRefused("sequences are nested too deep", Status.CANNOT_UNDERSTAND)
        while True:
            group, element, length = self._tag_and_length(self._data, position)
            tag, position = group << 16 | element, position + 8
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM:
                raise InstanceRefused("a sequence holds something else than items", Status.CANNOT_UNDERSTAND)
            position = position + length if length != _UNDEFINED else self._after_item(position, depth)

    def _after_item(self, position: int, depth: int) -> int:
        while True:
            tag, length, start, vr = self._element(position)
            if tag == _ITEM_END:
                return start
            position = self._after(tag, length, start, vr, depth)

    def _after_fragments(self, position: int) -> int:
        """Return the end of encapsulated pixel data (PS3.5 A.4): offset table, fragments, delimiter."""
        fragments = -1
        while True:
            group, element, length = self._tag_and_length(self._data, position)
            tag, position = group << 16 | element, position + 8
            if tag == _SEQUENCE_END and fragments > 0:
                return position
            if tag != _ITEM or length == _UNDEFINED:
                raise InstanceRefused("the encapsulated pixel data is damaged", Status.CANNOT_UNDERSTAND)
            position += length
            fragments += 1

    def _check_pixels(self, length: int, start: int, values: dict[int, bytes]) -> None:
        """Refuse pixel data that does not fill the image (PS3.5 8.1.1, PS3.3 C.7.6.3)."""
        if (length == _UNDEFINED) != self._encapsulated:
            raise InstanceRefused(
                "the pixel data is not encoded as the transfer syntax says", Status.CANNOT_UNDERSTAND
            )
        if self._encapsulated:
            return
        sizes = [self._unsigned(values.get(tag)) for tag in (_ROWS, _COLUMNS, _SAMPLES, _BITS)]
        frames = _numbers(values[_FRAMES], 1) if _FRAMES in values else (1.0,)
        if 0 in sizes or frames is None or frames[0] < 1:
            raise InstanceRefused("the image has no size", Status.CANNOT_UNDERSTAND)
        rows, columns, samples, bits = sizes
        if length < rows * columns * samples * int(frames[0]) * bits // 8 or start + length > self._end:
            raise _cut_short()

    def _unsigned(self, value: bytes | None) -> int:
        if value is None or len(value) != 2:
            return 0
        number: int = struct.unpack(self._order + "H", value)[0]
        return number


def _inflate(data: Buffer, maximum_bytes: int) -> bytes:
    """Undo PS3.5 A.5, which is a raw deflate stream (RFC 1951)."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(data, maximum_bytes + 1)
    except zlib.error:
        raise InstanceRefused("the deflated data set is damaged", Status.CANNOT_UNDERSTAND) from None
    if len(inflated) > maximum_bytes:
        raise InstanceRefused("the inflated data set is larger than the limit", Status.OUT_OF_RESOURCES)
    if not stream.eof:
        raise _cut_short()
    return inflated


def _cut_short() -> InstanceRefused:
    return InstanceRefused("the data set is cut short", Status.CANNOT_UNDERSTAND)


def _uid(values: dict[int, bytes], tag: int, name: str) -> str:
    value = values.get(tag, b"").decode("ascii", "replace").rstrip("\0 ")
    if not is_uid(value):
        raise InstanceRefused(f"the data set's {name} is not a UID", Status.UIDS_DISAGREE)
    return value


def _numbers(value: bytes | None, count: int) -> Vector | None:
    """Decode a decimal or integer string of a known multiplicity, or None where it is not one."""
    if value is None:
        return None
    try:
        numbers = tuple(map(float, value.decode("ascii").rstrip("\0 ").split("\\")))
    except ValueError:
        return None
    return numbers if len(numbers) == count and all(abs(number) < 1e9 for number in numbers) else None
