"""The C-STORE SCP: listens on one port or two, and has its connections served, here or by other processes."""

from __future__ import annotations

import socket
from collections.abc import Callable

import structlog

from dicom_node.events import Tell, nobody
from dicom_node.receive.census import Census
from dicom_node.receive.connection import Service, application_entity
from dicom_node.receive.connections import Connections
from dicom_node.receive.doors import Doors
from dicom_node.receive.event_report import EventReport, nobody_asked
from dicom_node.receive.instance import StoredInstance
from dicom_node.receive.processes import Processes
from dicom_node.receive.spool import Spool
from dicom_node.receive.upper_layer import Address
from dicom_node.settings import Receive
from dicom_node.tls import ServerTLS

# For threads to end once their connections are cut
_CUT_S = 2.0

_log = structlog.get_logger()


class Receiver:
    """Receives MR images and answers Success once an image is on disk.

    Parameters
    ----------
    settings : Receive
    spool : Spool
    on_instance : callable
        Gets each instance that is on disk, before Success is answered. If it raises, the association
        is ended, and the sender will send again; where other processes receive, that comes after
        Success for all but the first of a series.
    on_association_end : callable
        Gets the id of an established association and whether it was released.
    on_event_report : callable, optional
        Gets each N-EVENT-REPORT and returns the status to answer.
    on_loss : callable, optional
        Is called when a process that receives has died: the spool may hold an instance that was not told.
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
        on_loss: Callable[[], None] = lambda: None,
        tell: Tell = nobody,
        port: int | None = None,
    ) -> None:
        self._settings = settings
        self._census = Census()
        self._service = Service(
            settings,
            application_entity(settings),
            spool,
            on_instance,
            on_association_end,
            on_event_report,
            self._census.load,
            self._census.dissociate,
            tell,
            lambda: self._is_stopping,
        )
        self._on_loss = on_loss
        self._port = settings.port if port is None else port
        self._tls = ServerTLS(settings.tls) if settings.tls else None
        self._doors = Doors(settings.host, self._take)
        self._serving: Connections | Processes | None = None
        self._is_stopping = False

    @property
    def port(self) -> int:
        """The port that is listened on; with TLS if ``receive.tls.port`` is the same."""
        return self._port

    def use(self, settings: Receive) -> None:
        """Let in by other rules, from the next connection on; addresses, ports, TLS and processes stay."""
        self._settings = settings
        if self._serving is not None:
            self._serving.use(settings)

    @property
    def is_listening(self) -> bool:
        """Whether new associations are taken."""
        return self._doors.are_open and not self._is_stopping

    def start(self) -> None:
        """Listen.

        Raises
        ------
        OSError
            The address cannot be bound.
        ConfigurationError
            The spool's file system is none for several processes.
        """
        self._is_stopping = False
        self._serving = self._begin()
        tls = self._settings.tls
        try:
            if tls is None or tls.port != self._settings.port:
                self._port = self._doors.open(self._port, is_secured=False)
            if tls is not None and tls.port != self._settings.port:
                self._doors.open(tls.port, is_secured=True)
            elif tls is not None:
                self._port = self._doors.open(self._port, is_secured=True)
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
        self._is_stopping = True
        if self._serving is None:
            return
        leaving = self._census.present()
        self._serving.drain()
        if late := self._census.await_leaving(leaving, timeout_s):
            _log.warning("receiver_cut", connections=len(late))
            self._cut(late)

    def stop(self, timeout_s: float) -> None:
        """Drain, and listen no more.

        Parameters
        ----------
        timeout_s : float
            As for `drain`.
        """
        if self._serving is None:
            return
        self.drain(timeout_s)
        self._close()
        _log.info("receiver_stopped")

    def _begin(self) -> Connections | Processes:
        if count := self._settings.process_count:
            self._service.spool.share()
            return Processes(self._service, count, self._gone, self._on_loss)
        return Connections(self._service, self._tls, self._gone)

    def _close(self) -> None:
        self._doors.close()
        self._cut(self._census.present())
        if isinstance(self._serving, Processes):
            self._serving.close()
        self._serving = None

    def _cut(self, connection_ids: set[int]) -> None:
        if self._serving is not None:
            self._serving.cut(connection_ids)
            self._census.await_leaving(connection_ids, _CUT_S)

    def _take(self, accepted: socket.socket, peer: Address, is_secured: bool) -> None:
        connection_id = self._census.enter(peer[0], self._settings)
        if connection_id is None or self._serving is None:
            accepted.close()
        else:
            self._serving.take(accepted, peer, connection_id, is_secured)

    def _gone(self, connection_id: int) -> None:
        self._census.leave([connection_id])
