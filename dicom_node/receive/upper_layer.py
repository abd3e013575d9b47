"""pynetdicom's upper layer, stepped by the caller instead of by two polling threads.

pynetdicom decides and encodes all that is not image data: negotiation, C-ECHO, release and
abort go through its ACSE, DIMSE and state machine as ever. Only what drives them is ours:
its reactors look at the socket and at their queues a thousand times a second for each
association and read without a deadline; here the connection's own thread reads a PDU,
hands it in, and the resulting actions run before the call returns.

This is the one module that touches pynetdicom's internals (3.0.4).
"""

from __future__ import annotations

import socket
import struct
from typing import cast

from pynetdicom import AE
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_ASSOCIATE, _PDUPrimitiveType
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_node.receive.part10 import AETitles
from dicom_node.receive.protocol import P_DATA_TF, ProtocolError

Address = tuple[str, int] | tuple[str, int, int, int]

# Waiting for nothing; waiting for the peer to close (PS3.8 9.2, Table 9-5)
_IDLE, _CLOSING = "Sta1", "Sta13"


class _SteppedDUL(DULServiceProvider):
    """A DUL service provider whose thread is never started."""

    def send_pdu(self, primitive: _PDUPrimitiveType) -> None:
        """Send now, not when a reactor looks into the queue."""
        super().send_pdu(primitive)
        self._process_recv_primitive()
        self.run_events()

    def receive(self, encoded: bytes) -> None:
        """Take in one PDU as it came."""
        pdu, event = self._decode_pdu(bytearray(encoded))
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)
        self.run_events()

    def run_events(self) -> None:
        while not self.event_queue.empty():
            self.state_machine.do_action(self.event_queue.get_nowait())
            if self.state_machine.current_state == _IDLE:
                # What is left says that the connection is closed, which has been acted on
                self.event_queue.queue.clear()


class UpperLayer:
    """The acceptor's side of one association (PS3.8 9.2).

    Parameters
    ----------
    ae : AE
        The maximum PDU length and the implementation's identity.
    connection : socket.socket
        Accepted and connected.
    peer, local : address tuples of the socket
    contexts : list of PresentationContext
        What is supported.
    """

    def __init__(
        self,
        ae: AE,
        connection: socket.socket,
        peer: Address,
        local: Address,
        contexts: list[PresentationContext],
    ) -> None:
        association = Association(ae, MODE_ACCEPTOR)
        self._dul = association.dul = _SteppedDUL(association)
        association.set_socket(AssociationSocket(association, client_socket=connection))
        association.acceptor.maximum_length = ae.maximum_pdu_size
        association.acceptor.ae_title = ae.ae_title
        association.acceptor.address_info = AddressInformation.from_tuple(local)
        association.acceptor.implementation_class_uid = ae.implementation_class_uid
        association.acceptor.implementation_version_name = ae.implementation_version_name
        association.acceptor.supported_contexts = contexts
        association.requestor.address_info = AddressInformation.from_tuple(peer)
        self._association = association
        self._dul.run_events()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be done than to wait for the peer to close."""
        return self._dul.state_machine.current_state in (_IDLE, _CLOSING)

    @property
    def contexts(self) -> dict[int, tuple[str, str]]:
        """The accepted presentation contexts: id to abstract and transfer syntax."""
        return {
            cast("int", context.context_id): (str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for context in self._association.accepted_contexts
        }

    @property
    def peer_maximum_pdu(self) -> int:
        """The longest P-DATA-TF that the peer takes; 0 for any."""
        return self._association.requestor.maximum_length or 0

    def request(self, encoded: bytes) -> AETitles | None:
        """Take in what should be an A-ASSOCIATE-RQ; return None if it was answered at once.

        Raises
        ------
        ProtocolError
            The PDU cannot be decoded.
        """
        self.receive(encoded)
        primitive = cast("object", self._dul.receive_pdu())
        if self.is_over or not isinstance(primitive, A_ASSOCIATE):
            return None
        self._association.requestor.primitive = primitive
        return AETitles(called=primitive.called_ae_title or "", calling=primitive.calling_ae_title or "")

    def reject(self, result: int, source: int, reason: int) -> None:
        """Send A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
        self._association.acse.send_reject(result, source, reason)

    def accept(self) -> bool:
        """Negotiate and answer; return whether the association is established."""
        self._association.acse.negotiate_association()
        return self._association.is_established and not self.is_over

    def receive(self, encoded: bytes) -> None:
        """Take in a whole PDU.

        Raises
        ------
        ProtocolError
            It cannot be decoded.
        """
        try:
            self._dul.receive(encoded)
        except Exception as error:  # noqa: BLE001 - the decoder raises whatever hostile bytes provoke
            raise ProtocolError(f"a PDU cannot be decoded ({type(error).__name__})") from None

    def answer_release(self) -> bool:
        """Send A-RELEASE-RP if the peer has asked for the release; return whether it had."""
        if not self._association.acse.is_release_requested():
            return False
        self._association.acse.send_release(is_response=True)
        return True

    def serve_command(self, context_id: int, command_set: bytes) -> None:
        """Let pynetdicom answer a whole command without a data set, such as C-ECHO-RQ.

        Raises
        ------
        ProtocolError
            It is no valid request.
        """
        pdv = struct.pack(">LBB", len(command_set) + 2, context_id, 0x03) + command_set
        self.receive(struct.pack(">BxL", P_DATA_TF, len(pdv)) + pdv)
        context, message = self._association.dimse.get_msg()
        if context is None or message is None or not message.is_valid_request:
            raise ProtocolError("a command is not a valid request")
        self._association._serve_request(message, context)

    def abort(self, *, by_provider: bool) -> None:
        """Send A-ABORT (PS3.8 9.3.8), as the provider for broken protocol, else as the user."""
        if self.is_over:
            return
        if by_provider or not self._association.is_established:
            self._dul.event_queue.put("Evt19")
            self._dul.run_events()
        else:
            self._association.acse.send_abort(0x00)
