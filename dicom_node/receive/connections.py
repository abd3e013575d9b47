"""The connections that this process serves, each in a thread of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

from dicom_node.receive.connection import Connection, Service
from dicom_node.receive.upper_layer import Address
from dicom_node.settings import Receive
from dicom_node.tls import ServerTLS

# Before the next connection is taken when there are no more threads
_PAUSE_S = 0.1

_log = structlog.get_logger()


class Connections:
    """Serves connections that were accepted elsewhere.

    Parameters
    ----------
    service : Service
    tls : ServerTLS, optional
        For connections that are to speak it.
    on_closed : callable
        Gets the id of each connection that is over.
    """

    def __init__(self, service: Service, tls: ServerTLS | None, on_closed: Callable[[int], None]) -> None:
        self._service = service
        self._tls = tls
        self._on_closed = on_closed
        self._connections: dict[int, Connection] = {}
        self._changing = threading.Lock()

    def use(self, settings: Receive) -> None:
        """Let in by other rules, from the next connection on."""
        self._service = replace(self._service, settings=settings)

    def take(self, accepted: socket.socket, peer: Address, connection_id: int, is_secured: bool) -> None:
        """Serve a connection until it ends."""
        tls = self._tls if is_secured else None
        try:
            connection = Connection(self._service, accepted, peer, connection_id, tls)
        except OSError:  # the peer is gone already
            accepted.close()
            self._on_closed(connection_id)
            return
        with self._changing:
            self._connections[connection_id] = connection
        thread = threading.Thread(
            target=self._run, args=(connection,), name=f"association-{connection_id}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads for now
            accepted.close()
            self._forget(connection)
            _log.exception("thread_failed")
            time.sleep(_PAUSE_S)

    def drain(self) -> None:
        """Let messages that have begun be answered, and end each connection after that."""
        with self._changing:
            for connection in self._connections.values():
                connection.drain()

    def cut(self, connection_ids: Iterable[int]) -> None:
        """End connections now."""
        with self._changing:
            for connection_id in connection_ids:
                if connection := self._connections.get(connection_id):
                    connection.cut()

    def _run(self, connection: Connection) -> None:
        try:
            connection.run()
        except Exception as error:  # noqa: BLE001 - a fault of ours ends one association, not the node
            _log.error("association_failed", association=connection.id, error=type(error).__name__)
        finally:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        with self._changing:
            self._connections.pop(connection.id, None)
        self._on_closed(connection.id)
