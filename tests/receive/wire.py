"""A peer made of bytes: it says what a library would not let it say (PS3.8 9.3, PS3.7 E.1)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import Self

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

VERIFICATION = "1.2.840.10008.1.1"
IMAGES, ECHO = 1, 3
ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 2, 3, 4, 5, 6, 7


def pdu(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(value)) + value


def pdv(context: int, control: int, value: bytes) -> bytes:
    return struct.pack(">LBB", len(value) + 2, context, control) + value


def associate_rq(
    called: str = "DICOM_NODE",
    calling: str = "WIRE",
    syntax: UID = ExplicitVRLittleEndian,
    sop_class: str = MRImageStorage,
    maximum_pdu: int = 16384,
) -> bytes:
    """Propose the SOP class on context 1 and Verification on context 3."""

    def item(kind: int, value: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(value)) + value

    def context(number: int, abstract: str, transfer: str) -> bytes:
        syntaxes = item(0x30, abstract.encode()) + item(0x40, transfer.encode())
        return item(0x20, bytes([number, 0, 0, 0]) + syntaxes)

    user = item(0x51, struct.pack(">L", maximum_pdu)) + item(0x52, b"1.2.3.4")
    return pdu(
        1,
        struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
        + item(0x10, b"1.2.840.10008.3.1.1.1")
        + context(IMAGES, sop_class, syntax)
        + context(ECHO, VERIFICATION, ImplicitVRLittleEndian)
        + item(0x50, user),
    )


def command(
    instance: str, sop_class: str = MRImageStorage, field: int = 1, message: int = 7, data_set: int = 1
) -> bytes:
    """Encode a request's command set."""

    def element(number: int, value: bytes) -> bytes:
        value += bytes(len(value) % 2)
        return struct.pack("<HHL", 0, number, len(value)) + value

    elements = element(0x0002, sop_class.encode())
    elements += element(0x0100, struct.pack("<H", field)) + element(0x0110, struct.pack("<H", message))
    elements += element(0x0800, struct.pack("<H", data_set))
    if instance:
        elements += element(0x1000, instance.encode())
    return element(0x0000, struct.pack("<L", len(elements))) + elements


class Peer:
    """A raw connection to a receiver."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(source, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def read(self) -> tuple[int, bytes]:
        """Return the type and value of the next PDU; (0, b"") once the connection is closed."""
        try:
            head = self._exactly(6)
            if not head:
                return 0, b""
            kind, length = struct.unpack(">BxL", head)
            return kind, self._exactly(length)
        except ConnectionResetError:
            return 0, b""

    def associate(self, **arguments: object) -> Self:
        self.send(associate_rq(**arguments))
        kind, _ = self.read()
        assert kind == ASSOCIATE_AC
        return self

    def store(self, instance: str, data_set: bytes, pieces: int = 1, **arguments: object) -> int:
        """Send a C-STORE in this many P-DATA-TF PDUs and return the status of the response."""
        self.begin(instance, **arguments)
        step = -(-len(data_set) // pieces) or 1
        starts = range(0, max(len(data_set), 1), step)
        self.send(*(self.fragment(data_set[s : s + step], is_last=s == starts[-1]) for s in starts))
        return self.status()

    def begin(self, instance: str, **arguments: object) -> None:
        self.send(pdu(P_DATA, pdv(IMAGES, 0x03, command(instance, **arguments))))

    def fragment(self, data: bytes, *, is_last: bool = False) -> bytes:
        return pdu(P_DATA, pdv(IMAGES, 0x02 if is_last else 0x00, data))

    def status(self) -> int:
        """Read a response and return its status; -1 if the association was aborted or closed."""
        kind, value = self.read()
        if kind != P_DATA:
            return -1
        elements = dict(_elements(value[6:]))
        assert elements[0x0120] == b"\x07\x00"
        return struct.unpack("<H", elements[0x0900])[0]

    def release(self) -> None:
        self.send(pdu(RELEASE_RQ, bytes(4)))
        assert self.read()[0] == RELEASE_RP

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count and (more := self.socket.recv(count - len(got))):
            got += more
        return got


def _elements(encoded: bytes) -> Iterable[tuple[int, bytes]]:
    position = 0
    while position < len(encoded):
        _, number, length = struct.unpack_from("<HHL", encoded, position)
        yield number, encoded[position + 8 : position + 8 + length]
        position += 8 + length
