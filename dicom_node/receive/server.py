"""The C-STORE SCP: listens on one port or two, and keeps count of its connections."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
from pynetdicom import AE

from dicom_node.events import Tell, nobody
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.receive.admission import Load
from dicom_node.receive.connection import Connection, Service
from dicom_node.receive.event_report import EventReport, nobody_asked
from dicom_node.receive.instance import StoredInstance
from dicom_node.receive.spool import Spool
from dicom_node.receive.upper_layer import Address
from dicom_node.settings import Receive
from dicom_node.tls import ServerTLS

_BACKLOG = 128
# Before accept is tried again when the process is out of descriptors or memory
_PAUSE_S = 0.1
# The limits are on associations: whoever asks for one too many is told so. Connections that
# do not ask count too, and beyond this multiple of a limit they are closed without a word
_HEADROOM = 2
# For threads to end once their connections are cut
_CUT_S = 2.0

_log = structlog.get_logger()


@dataclass(frozen=True)
class _Door:
    """A port that is listened on, and the thread that accepts there."""

    listener: socket.socket
    acceptor: threading.Thread


class Receiver:
    """Receives MR images and answers Success once an image is on disk.

    Parameters
    ----------
    settings : Receive
    spool : Spool
    on_instance : callable
        Gets each instance that is on disk, before Success is answered, in the connection's
        thread. If it raises, the association is aborted, and the sender will send again.
    on_association_end : callable
        Gets the id of an established association and whether it was released.
    on_event_report : callable, optional
        Gets each N-EVENT-REPORT and returns the status to answer.
    tell : callable, optional
        Gets what happens to associations.
    port : int, optional
        Instead of the settings' one; 0 takes a free one.

    Raises
    ------
    ConfigurationError
        A file of ``receive.tls`` cannot be used.
    """

    def __init__(
        self,
        settings: Receive,
        spool: Spool,
        on_instance: Callable[[StoredInstance], None],
        on_association_end: Callable[[int, bool], None],
        *,
        on_event_report: Callable[[EventReport], int] = nobody_asked,
        tell: Tell = nobody,
        port: int | None = None,
    ) -> None:
        ae = AE()
        ae.maximum_pdu_size = settings.maximum_pdu
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._settings = settings
        self._service = Service(
            settings,
            ae,
            spool,
            on_instance,
            on_association_end,
            on_event_report,
            self._load,
            tell,
            lambda: self._is_stopping,
        )
        self._port = settings.port if port is None else port
        self._tls = ServerTLS(settings.tls) if settings.tls else None
        self._doors: list[_Door] = []
        self._is_stopping = False
        self._connections: set[Connection] = set()
        self._changed = threading.Condition()

    @property
    def port(self) -> int:
        """The port that is listened on; with TLS if ``receive.tls.port`` is the same."""
        return self._port

    def use(self, settings: Receive) -> None:
        """Let in by other rules, from the next connection on; addresses, ports and TLS stay."""
        self._service = replace(self._service, settings=settings)

    @property
    def is_listening(self) -> bool:
        """Whether new associations are taken."""
        alive = [door.acceptor.is_alive() for door in self._doors]
        return bool(alive) and all(alive) and not self._is_stopping

    def start(self) -> None:
        """Listen.

        Raises
        ------
        OSError
            The address cannot be bound.
        """
        self._is_stopping = False
        tls = self._settings.tls
        try:
            if tls is None or tls.port != self._settings.port:
                self._port = self._open(self._port, None)
            if tls is not None and tls.port != self._settings.port:
                self._open(tls.port, self._tls)
            elif tls is not None:
                self._port = self._open(self._port, self._tls)
        except OSError:
            self._close()
            raise

    def drain(self, timeout_s: float) -> None:
        """Let C-STOREs that have begun be answered; associations are rejected from now on, as transient.

        Parameters
        ----------
        timeout_s : float
            After it, what still runs is cut; it was not acknowledged.
        """
        with self._changed:
            self._is_stopping = True
            leaving = set(self._connections)
            for connection in leaving:
                connection.drain()
            if not self._changed.wait_for(lambda: not leaving & self._connections, timeout_s):
                _log.warning("receiver_cut", connections=len(leaving & self._connections))
                self._cut(leaving)

    def stop(self, timeout_s: float) -> None:
        """Drain, and listen no more.

        Parameters
        ----------
        timeout_s : float
            As for `drain`.
        """
        if not self._doors:
            return
        self.drain(timeout_s)
        self._close()
        with self._changed:
            self._cut(set(self._connections))
        _log.info("receiver_stopped")

    def _open(self, port: int, tls: ServerTLS | None) -> int:
        host = self._settings.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        port = int(listener.getsockname()[1])
        acceptor = threading.Thread(
            target=self._accept, args=(listener, tls), name=f"receiver-{port}", daemon=True
        )
        self._doors.append(_Door(listener, acceptor))
        acceptor.start()
        _log.info("receiver_started", host=host, port=port, tls=tls is not None)
        return port

    def _close(self) -> None:
        for door in self._doors:
            # Closing alone would not wake the thread that waits in accept
            with contextlib.suppress(OSError):
                door.listener.shutdown(socket.SHUT_RDWR)
            door.acceptor.join()
            door.listener.close()
        self._doors.clear()

    def _cut(self, connections: set[Connection]) -> None:
        for connection in connections & self._connections:
            connection.cut()
        self._changed.wait_for(lambda: not connections & self._connections, _CUT_S)

    def _accept(self, listener: socket.socket, tls: ServerTLS | None) -> None:
        while True:
            try:
                accepted, peer = listener.accept()
            except OSError as error:
                if listener.fileno() < 0 or not _is_listening(listener):
                    return
                _log.error("accept_failed", error=error.strerror)
                time.sleep(_PAUSE_S)
                continue
            self._take(accepted, peer, tls)

    def _take(self, accepted: socket.socket, peer: Address, tls: ServerTLS | None) -> None:
        if self._is_flooded_by(peer[0]):
            accepted.close()
            return
        try:
            connection = Connection(self._service, accepted, peer, tls)
        except OSError:  # the peer is gone already
            accepted.close()
            return
        with self._changed:
            self._connections.add(connection)
        thread = threading.Thread(
            target=self._run, args=(connection,), name=f"association-{connection.id}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads for now
            with self._changed:
                self._connections.discard(connection)
            accepted.close()
            _log.exception("thread_failed")
            time.sleep(_PAUSE_S)

    def _run(self, connection: Connection) -> None:
        try:
            connection.run()
        except Exception as error:  # noqa: BLE001 - a fault of ours ends one association, not the node
            _log.error("association_failed", association=connection.id, error=type(error).__name__)
        finally:
            with self._changed:
                self._connections.discard(connection)
                self._changed.notify_all()

    def _load(self, asking: Connection) -> Load:
        """Count a connection as an association, and all of them."""
        with self._changed:
            asking.is_association = True
            hosts = [each.host for each in self._connections if each.is_association]
        return Load(len(hosts), hosts.count(asking.host))

    def _is_flooded_by(self, host: str) -> bool:
        with self._changed:
            hosts = [each.host for each in self._connections]
        return (
            len(hosts) >= _HEADROOM * self._settings.maximum_associations
            or hosts.count(host) >= _HEADROOM * self._settings.maximum_associations_per_host
        )


def _is_listening(listener: socket.socket) -> bool:
    return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
