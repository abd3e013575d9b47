"""A connected socket on which every wait has an end."""

from __future__ import annotations

import socket
import ssl
import struct

from dicom_node.receive.protocol import ConnectionLost, Overdue

_TIMEVAL = struct.Struct("@ll")


class Channel:
    """Bytes from and to a peer, within deadlines.

    Python keeps a timeout by two more system calls, one to set it and one to wait; the kernel
    keeps its own for nothing. Below TLS that would end the wait for a record, not the call, so
    there it is Python's.

    Parameters
    ----------
    connection : socket.socket
    send_timeout_s : float
        For whatever is sent, by this class or by others.
    """

    def __init__(self, connection: socket.socket, send_timeout_s: float) -> None:
        self._connection = connection
        self._send_timeout_s = send_timeout_s
        self._receive_timeout_s: float | None = None
        self._is_secured = isinstance(connection, ssl.SSLSocket)
        connection.settimeout(send_timeout_s if self._is_secured else None)
        if not self._is_secured:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(send_timeout_s))

    def receive_into(self, buffer: memoryview, timeout_s: float) -> int:
        """Wait for bytes and return how many came, one at least.

        Raises
        ------
        ConnectionLost, Overdue
        """
        try:
            if self._is_secured:
                count = self._receive_secured(buffer, timeout_s)
            else:
                if timeout_s != self._receive_timeout_s:
                    self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(timeout_s))
                    self._receive_timeout_s = timeout_s
                count = self._connection.recv_into(buffer)
        except (TimeoutError, BlockingIOError):
            raise Overdue("the peer was silent for too long") from None
        except OSError:
            raise ConnectionLost("the connection was reset") from None
        if not count:
            raise ConnectionLost("the peer closed the connection")
        return count

    def send(self, encoded: bytes) -> None:
        """Send all.

        Raises
        ------
        ConnectionLost, Overdue
        """
        try:
            self._connection.sendall(encoded)
        except (TimeoutError, BlockingIOError):
            raise Overdue("the peer does not read its answer") from None
        except OSError:
            raise ConnectionLost("the connection was reset") from None

    def _receive_secured(self, buffer: memoryview, timeout_s: float) -> int:
        self._connection.settimeout(timeout_s)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(self._send_timeout_s)


def _timeval(timeout_s: float) -> bytes:
    """Encode for SO_RCVTIMEO and SO_SNDTIMEO (socket(7)), where nought would mean no end."""
    seconds, rest = divmod(max(round(timeout_s * 1e6), 1), 1_000_000)
    return _TIMEVAL.pack(seconds, rest)
