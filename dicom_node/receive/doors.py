"""The ports that are listened on."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from dicom_node.receive.upper_layer import Address

_BACKLOG = 128
# Before accept is tried again when the process is out of descriptors or memory
_PAUSE_S = 0.1

_log = structlog.get_logger()

# Gets an accepted connection, its peer, and whether it is to speak TLS
Take = Callable[[socket.socket, Address, bool], None]


@dataclass(frozen=True)
class _Door:
    """A port that is listened on, and the thread that accepts there."""

    listener: socket.socket
    acceptor: threading.Thread


class Doors:
    """Listens on ports and hands on what connects there, in a thread for each port."""

    def __init__(self, host: str, take: Take) -> None:
        self._host = host
        self._take = take
        self._doors: list[_Door] = []

    @property
    def are_open(self) -> bool:
        """Whether every port that was opened is listened on; False if none was."""
        alive = [door.acceptor.is_alive() for door in self._doors]
        return bool(alive) and all(alive)

    def open(self, port: int, *, is_secured: bool) -> int:
        """Listen on a port, 0 for a free one, and return it.

        Raises
        ------
        OSError
            The address cannot be bound.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, port), family=family, backlog=_BACKLOG)
        port = int(listener.getsockname()[1])
        acceptor = threading.Thread(
            target=self._accept, args=(listener, is_secured), name=f"receiver-{port}", daemon=True
        )
        self._doors.append(_Door(listener, acceptor))
        acceptor.start()
        _log.info("receiver_started", host=self._host, port=port, tls=is_secured)
        return port

    def close(self) -> None:
        """Listen no more."""
        for door in self._doors:
            # Closing alone would not wake the thread that waits in accept
            with contextlib.suppress(OSError):
                door.listener.shutdown(socket.SHUT_RDWR)
            door.acceptor.join()
            door.listener.close()
        self._doors.clear()

    def _accept(self, listener: socket.socket, is_secured: bool) -> None:
        while True:
            try:
                accepted, peer = listener.accept()
            except OSError as error:
                if listener.fileno() < 0 or not _is_listening(listener):
                    return
                _log.error("accept_failed", error=error.strerror)
                time.sleep(_PAUSE_S)
                continue
            self._take(accepted, peer, is_secured)


def _is_listening(listener: socket.socket) -> bool:
    return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
