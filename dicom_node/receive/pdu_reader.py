"""Whole PDUs from a socket, each within a deadline and none longer than agreed."""

from __future__ import annotations

import struct
import time

from dicom_node.receive.channel import Channel
from dicom_node.receive.protocol import Overdue, ProtocolError

# An A-ASSOCIATE-RQ with 128 contexts of many transfer syntaxes and a SAML assertion fits
LONGEST_OPENING_BYTES = 1 << 18
_HEADER = struct.Struct(">BxL")


class PDUReader:
    """Reads PDUs (PS3.8 9.3.1) with few and large system calls.

    Parameters
    ----------
    channel : Channel
    maximum_pdu : int
        The longest variable field of a P-DATA-TF, in bytes.
    pdu_timeout_s : float
        For a whole PDU from its first byte; a fixed end, so that one byte a second does not
        put it off.
    """

    def __init__(self, channel: Channel, maximum_pdu: int, pdu_timeout_s: float) -> None:
        self._channel = channel
        self._pdu_timeout_s = pdu_timeout_s
        longest = max(LONGEST_OPENING_BYTES, maximum_pdu) + _HEADER.size
        # Room for two, so that the start of the next PDU seldom has to be moved
        self._buffer = memoryview(bytearray(2 * longest))
        self._start = self._stop = 0

    @property
    def has_read(self) -> bool:
        """Whether the peer has sent anything at all."""
        return self._stop > 0

    @property
    def next_byte(self) -> int | None:
        """What the next PDU begins with; None while nothing of it is there."""
        return self._buffer[self._start] if self._stop > self._start else None

    def read(self, longest: int, idle_timeout_s: float) -> tuple[int, memoryview]:
        """Return the type of the next PDU and the whole PDU, valid until the next call.

        Parameters
        ----------
        longest : int
            The longest variable field that is taken, in bytes.
        idle_timeout_s : float
            For the first byte.

        Raises
        ------
        ConnectionLost, Overdue, ProtocolError
        """
        deadline: float | None = None
        while True:
            have = self._stop - self._start
            wanted = _HEADER.size
            if have >= wanted:
                kind, length = _HEADER.unpack_from(self._buffer, self._start)
                if length > longest:
                    raise ProtocolError(f"a PDU of {length} bytes is longer than {longest}")
                wanted += length
                if have >= wanted:
                    pdu = self._buffer[self._start : self._start + wanted]
                    self._start += wanted
                    return kind, pdu
            if have and deadline is None:
                deadline = time.monotonic() + self._pdu_timeout_s
            self._make_room(wanted)
            timeout_s = idle_timeout_s if deadline is None else deadline - time.monotonic()
            if timeout_s <= 0:
                raise Overdue("a PDU did not arrive within receive.pdu_timeout_s")
            self._stop += self._channel.receive_into(self._buffer[self._stop :], timeout_s)

    def _make_room(self, wanted: int) -> None:
        have = self._stop - self._start
        if self._start and (not have or self._start + wanted > len(self._buffer)):
            self._buffer[:have] = self._buffer[self._start : self._stop]
            self._start, self._stop = 0, have
