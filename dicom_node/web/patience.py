"""Slow senders are cut off: a browser sends a request's head at once, and its body without long pauses."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 20.0  # from the connection, or from the first byte after an answer, to the end of a request's head
PAUSE_S = 60.0  # within a body
MOST_CONNECTIONS = 256  # at one time; a browser opens six


class Patience(H11Protocol):
    """The protocol of one connection; uvicorn itself waits for ever where this one closes it.

    Between an answer and the next request it waits for ``timeout_keep_alive``.
    """

    head_s, pause_s, most_connections = HEAD_S, PAUSE_S, MOST_CONNECTIONS
    _deadline: asyncio.TimerHandle | None = None
    _is_of_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head, unless there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.abort()
            return
        self._wait(self.head_s, is_of_head=True)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and see what is to come."""
        super().data_received(data)
        state = self.conn.their_state
        if state is h11.IDLE:  # not a whole head
            if self._deadline is None:
                self._wait(self.head_s, is_of_head=True)
        elif state is h11.SEND_BODY:
            self._wait(self.pause_s, is_of_head=False)
        else:
            self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._forget()
        super().connection_lost(exc)

    def _wait(self, seconds: float, *, is_of_head: bool) -> None:
        self._forget()
        self._is_of_head = is_of_head
        self._deadline = self.loop.call_later(seconds, self._too_late)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self.flow.read_paused and not self._is_of_head:  # we do not read: whoever sends is not late
            self._wait(self.pause_s, is_of_head=False)
        else:
            self.transport.abort()
