"""One accepted connection, in one thread: TLS handshake, opening, association, end.

Every wait has an end: the peer's next byte, a deadline, or the receiver's stop. Between
messages the thread sleeps in the kernel and costs nothing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from pynetdicom import AE

from dicom_node.events import AssociationClosed, AssociationOpened, AssociationRejected, Tell, TLSRefused
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.receive.admission import Load, admit
from dicom_node.receive.channel import Channel
from dicom_node.receive.contexts import supported_contexts
from dicom_node.receive.datapath import DataPath
from dicom_node.receive.event_report import EventReport
from dicom_node.receive.handshake import await_client_hello, shake_hands
from dicom_node.receive.instance import StoredInstance
from dicom_node.receive.part10 import AETitles
from dicom_node.receive.pdu_reader import LONGEST_OPENING_BYTES, PDUReader
from dicom_node.receive.protocol import (
    A_ASSOCIATE_RQ,
    A_RELEASE_RQ,
    P_DATA_TF,
    TLS_HANDSHAKE,
    AssociationFault,
    ConnectionLost,
    NotSecured,
    Overdue,
    ProtocolError,
)
from dicom_node.receive.spool import Spool
from dicom_node.receive.upper_layer import Address, UpperLayer
from dicom_node.settings import Receive
from dicom_node.tls import ServerTLS

# For the peer to close after a release, a rejection or an abort (the ARTIM timer, PS3.8 9.1.5)
_CLOSING_S = 2.0
_MB = 1 << 20

_log = structlog.get_logger()


@dataclass(frozen=True)
class Service:
    """What all connections of a receiver share.

    Attributes
    ----------
    load : counts a connection as an association, by its id, and says how many there are
    dissociate : counts it as one no more
    """

    settings: Receive
    ae: AE
    spool: Spool
    on_instance: Callable[[StoredInstance], None]
    on_association_end: Callable[[int, bool], None]
    on_event_report: Callable[[EventReport], int]
    load: Callable[[int], Load]
    dissociate: Callable[[int], None]
    tell: Tell
    is_stopping: Callable[[], bool]


def application_entity(settings: Receive) -> AE:
    """Return what pynetdicom is to know of us."""
    ae = AE()
    ae.maximum_pdu_size = settings.maximum_pdu
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return ae


class Connection:
    """An accepted connection.

    Parameters
    ----------
    service : Service
    accepted : socket.socket
    peer : the peer's address tuple
    connection_id : int
    tls : of a port that speaks TLS

    Attributes
    ----------
    host : the peer's address
    id : int, never used again by this receiver
    """

    def __init__(
        self,
        service: Service,
        accepted: socket.socket,
        peer: Address,
        connection_id: int,
        tls: ServerTLS | None = None,
    ) -> None:
        self.host = peer[0]
        self.id = connection_id
        self._service = service
        self._settings = service.settings
        self._socket = accepted
        self._peer: Address = peer
        self._local: Address = accepted.getsockname()
        self._tls = tls
        self._security = "none"
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._state = threading.Lock()
        self._is_within_message = False
        self._is_draining = False

    def run(self) -> None:
        """Serve the connection until it ends."""
        try:
            if self._tls is not None:
                self._secure(self._tls)
            self._run_upper_layer()
        except ConnectionLost:  # before a word of TLS: a health check, and not worth a line
            pass
        except NotSecured as fault:
            _log.warning("tls_refused", host=self.host, port=self._local[1], fault=str(fault))
            self._service.tell(TLSRefused(self.host, self._local[1], str(fault)))
        finally:
            self._socket.close()

    def _secure(self, tls: ServerTLS) -> None:
        deadline = time.monotonic() + self._settings.pdu_timeout_s
        await_client_hello(self._socket, self._settings.pdu_timeout_s)
        context = tls.context()
        with self._state:  # whoever ends the connection meanwhile means the socket of the moment
            secured = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
            self._socket = secured
        shake_hands(secured, deadline - time.monotonic())
        self._security = f"{secured.version()}, client {'proven' if secured.getpeercert() else 'unproven'}"

    def _run_upper_layer(self) -> None:
        service, settings = self._service, self._settings
        self._upper_layer = UpperLayer(
            service.ae, self._socket, self._peer, self._local, supported_contexts()
        )
        self._channel = Channel(self._socket, settings.pdu_timeout_s)
        self._reader = PDUReader(self._channel, settings.maximum_pdu, settings.pdu_timeout_s)
        try:
            titles = self._open()
            if titles is not None:
                self._serve(titles)
            self._await_close()
        except AssociationFault as fault:
            # A connection that opens and closes is a health check, and not worth a line
            if not isinstance(fault, ConnectionLost) or self._reader.has_read:
                _log.warning("association_fault", association=self.id, host=self.host, fault=str(fault))
            with contextlib.suppress(OSError):
                self._upper_layer.abort(by_provider=isinstance(fault, ProtocolError))

    def drain(self) -> None:
        """Let a message that has begun be answered, then abort; abort at once if there is none."""
        with self._state:
            self._is_draining = True
            if not self._is_within_message:
                # Wakes the thread; what it sends is not hindered
                self._shut(socket.SHUT_RD)

    def cut(self) -> None:
        """End now."""
        with self._state:
            self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        with contextlib.suppress(OSError):
            # Not SSLSocket's, which would go on in plain text
            socket.socket.shutdown(self._socket, how)

    def _open(self) -> AETitles | None:
        """Negotiate; return the AE titles if the association is established (PS3.8 7.1)."""
        try:
            kind, pdu = self._reader.read(LONGEST_OPENING_BYTES, self._settings.pdu_timeout_s)
        except ProtocolError:
            if self._reader.next_byte == TLS_HANDSHAKE and self._tls is None:
                raise ProtocolError(
                    "it speaks TLS to a port without; switch its TLS off, or send it to receive.tls.port"
                ) from None
            raise
        if kind != A_ASSOCIATE_RQ:
            raise ProtocolError("the first PDU is no A-ASSOCIATE-RQ")
        titles = self._upper_layer.request(bytes(pdu))
        if titles is None:
            return None
        service = self._service
        rejection = admit(
            self._settings,
            titles,
            self.host,
            service.load(self.id),
            has_room=service.spool.has_room(),
            is_stopping=service.is_stopping(),
        )
        if rejection is None:
            return titles if self._upper_layer.accept() else None
        service.dissociate(self.id)
        self._upper_layer.reject(*rejection.value)
        _log.warning(
            "association_rejected",
            host=self.host,
            called_ae_title=titles.called,
            calling_ae_title=titles.calling,
            reason=rejection.name.lower(),
        )
        service.tell(AssociationRejected(self.host, titles.called, titles.calling, rejection.name.lower()))
        return None

    def _serve(self, titles: AETitles) -> None:
        """Receive until the association is released, or raise how else it ended."""
        _log.info(
            "association_established",
            association=self.id,
            host=self.host,
            called_ae_title=titles.called,
            calling_ae_title=titles.calling,
            tls=self._security,
        )
        tell = self._service.tell
        tell(AssociationOpened(self.id, self.host, titles.called, titles.calling, self._security))
        data_path = DataPath(
            self._service.spool,
            self._upper_layer.contexts,
            titles,
            self.id,
            maximum_object_bytes=self._settings.maximum_object_mb * _MB,
            peer_maximum_pdu=self._upper_layer.peer_maximum_pdu,
            send=self._channel.send,
            echo=self._upper_layer.serve_command,
            on_instance=self._service.on_instance,
            on_event_report=self._service.on_event_report,
            tell=tell,
        )
        released = False
        try:
            while not released and not self._upper_layer.is_over:
                released = self._serve_pdu(data_path)
        finally:
            data_path.close()
            self._service.dissociate(self.id)
            _log.info("association_ended", association=self.id, released=released)
            tell(AssociationClosed(self.id, released))
            # After a refusal the series may lack an image, and its short quiet time would be too short
            self._service.on_association_end(self.id, released and not data_path.has_refused)

    def _serve_pdu(self, data_path: DataPath) -> bool:
        """Take in the next PDU; return whether the association was released."""
        kind, pdu = self._reader.read(self._settings.maximum_pdu, self._settings.idle_timeout_s)
        if kind == P_DATA_TF:
            self._note_message(is_within=True)
            data_path.receive(pdu)
            self._note_message(is_within=data_path.is_within_message)
            return False
        if kind == A_RELEASE_RQ and data_path.is_within_message:
            # Answered as a release, it would pass for the clean end of a series that lacks an image
            raise ProtocolError("a release was asked for within a message")
        self._upper_layer.receive(bytes(pdu))
        return self._upper_layer.answer_release()

    def _note_message(self, *, is_within: bool) -> None:
        if is_within and self._is_within_message:  # which no drain ends
            return
        with self._state:
            if self._is_draining:
                raise Overdue("the receiver is stopping")
            self._is_within_message = is_within

    def _await_close(self) -> None:
        """Give the peer time to read the last PDU: closing first could destroy it on its way."""
        with contextlib.suppress(AssociationFault, OSError):
            self._reader.read(0, _CLOSING_S)
