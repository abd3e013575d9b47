"""C-STORE on an established association: fragments to a part file, then durable, then the answer.

N-EVENT-REPORT comes this way too; it is short, and its fragments are kept in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import structlog

from dicom_node import events
from dicom_node.errors import InstanceRefused, StorageExhausted
from dicom_node.events import Tell, nobody
from dicom_node.receive.commands import (
    C_ECHO_RQ,
    C_STORE_RQ,
    N_EVENT_REPORT_RQ,
    Command,
    read_command,
    response,
)
from dicom_node.receive.contexts import EVENT_CLASS, SOP_CLASSES
from dicom_node.receive.event_report import LONGEST_BYTES, EventReport
from dicom_node.receive.instance import Incoming, StoredInstance
from dicom_node.receive.part10 import AETitles
from dicom_node.receive.part_file import PartFile
from dicom_node.receive.protocol import ProtocolError
from dicom_node.receive.spool import Spool
from dicom_node.receive.status import Status

_PDU_HEADER_BYTES = 6
_PDV = struct.Struct(">LBB")
_IS_COMMAND, _IS_LAST = 0x01, 0x02
# Command sets have a few hundred bytes
_LONGEST_COMMAND_BYTES = 16384
# As plain strings, which are compared in no time; pydicom's are not
_STORED = frozenset(map(str, SOP_CLASSES))

_log = structlog.get_logger()


class DataPath:
    """Takes the P-DATA-TF PDUs of one association (PS3.8 9.3.5, Annex E; PS3.7 9.1.1).

    A refused request is answered after its data set was read to the end and thrown away,
    as the peer cannot read an answer before; but a data set that then grows by the limit
    for one object again is not waited for.

    Parameters
    ----------
    spool : Spool
    contexts : presentation context id to abstract and transfer syntax
    titles : AETitles
    association_id : int
    maximum_object_bytes : int
    peer_maximum_pdu : int
        0 for any.
    send : callable
        Sends encoded PDUs.
    echo : callable
        Answers a C-ECHO-RQ, given the context id and the encoded command set.
    on_instance : callable
        Gets each instance that is on disk, before Success is answered: if it raises, the
        sender is not told that all is well.
    on_event_report : callable
        Gets each N-EVENT-REPORT and returns the status to answer.

    Attributes
    ----------
    has_refused : whether any instance was refused
    """

    def __init__(
        self,
        spool: Spool,
        contexts: dict[int, tuple[str, str]],
        titles: AETitles,
        association_id: int,
        *,
        maximum_object_bytes: int,
        peer_maximum_pdu: int,
        send: Callable[[bytes], None],
        echo: Callable[[int, bytes], None],
        on_instance: Callable[[StoredInstance], None],
        on_event_report: Callable[[EventReport], int],
        tell: Tell = nobody,
    ) -> None:
        self._spool = spool
        self._contexts = contexts
        self._titles = titles
        self._association_id = association_id
        self._maximum_object_bytes = maximum_object_bytes
        self._peer_maximum_pdu = peer_maximum_pdu
        self._send = send
        self._echo = echo
        self._on_instance = on_instance
        self._on_event_report = on_event_report
        self._tell = tell
        self._encoded_command = bytearray()
        self._context_id = 0
        self._command: Command | None = None
        self._report: bytearray | None = None
        self._part: PartFile | None = None
        self._refusal: InstanceRefused | None = None
        self._thrown_away_bytes = 0
        self.has_refused = False

    @property
    def is_within_message(self) -> bool:
        """Whether a message has begun and is not yet answered."""
        return bool(self._encoded_command) or self._command is not None

    def receive(self, pdu: memoryview) -> None:
        """Take in a P-DATA-TF PDU.

        Raises
        ------
        ProtocolError
            The peer broke the protocol.
        """
        position = _PDU_HEADER_BYTES
        while position < len(pdu):
            if position + _PDV.size > len(pdu):
                raise ProtocolError("a PDV is cut short")
            length, context_id, control = _PDV.unpack_from(pdu, position)
            end = position + 4 + length
            if length < 2 or end > len(pdu):
                raise ProtocolError("a PDV does not fit its PDU")
            if self.is_within_message and context_id != self._context_id:
                raise ProtocolError("a message is spread over two presentation contexts")
            self._context_id = context_id
            fragment = pdu[position + _PDV.size : end]
            if control & _IS_COMMAND:
                self._receive_command(fragment, is_last=bool(control & _IS_LAST))
            else:
                self._receive_data(fragment, is_last=bool(control & _IS_LAST))
            position = end

    def close(self) -> None:
        """Remove what was being received."""
        if self._part is not None:
            self._part.discard()
            self._part = None

    def _receive_command(self, fragment: memoryview, *, is_last: bool) -> None:
        if self._command is not None:
            raise ProtocolError("a command came where a data set was announced")
        self._encoded_command += fragment
        if len(self._encoded_command) > _LONGEST_COMMAND_BYTES:
            raise ProtocolError("a command set is too long")
        if not is_last:
            return
        encoded, self._encoded_command = bytes(self._encoded_command), bytearray()
        command = read_command(encoded)
        if self._context_id not in self._contexts:
            raise ProtocolError("a message came on a presentation context that was not accepted")
        if command.field == C_STORE_RQ:
            self._begin(command)
        elif command.field == N_EVENT_REPORT_RQ and self._contexts[self._context_id][0] == EVENT_CLASS:
            self._begin_report(command)
        elif command.field == C_ECHO_RQ and not command.has_data_set:
            self._echo(self._context_id, encoded)
        else:
            raise ProtocolError(f"operation {command.field:04X}H was not negotiated")

    def _begin(self, command: Command) -> None:
        self._command, self._refusal, self._thrown_away_bytes = command, None, 0
        abstract_syntax, transfer_syntax = self._contexts[self._context_id]
        incoming = Incoming(
            command.sop_class_uid,
            command.sop_instance_uid,
            transfer_syntax,
            self._titles.called,
            self._titles.calling,
            self._association_id,
        )
        if command.sop_class_uid != abstract_syntax or abstract_syntax not in _STORED:
            wrong_class = "the SOP class is not that of the presentation context"
            self._refuse(InstanceRefused(wrong_class, Status.SOP_CLASS_NOT_SUPPORTED))
        else:
            try:
                self._part = self._spool.begin(incoming)
            except (InstanceRefused, StorageExhausted) as error:
                self._refuse(error)
        if not command.has_data_set:
            self._finish()

    def _begin_report(self, command: Command) -> None:
        self._command, self._report = command, bytearray()
        if not command.has_data_set:
            self._finish_report(command, self._report)

    def _receive_data(self, fragment: memoryview, *, is_last: bool) -> None:
        if self._command is None:
            raise ProtocolError("a data set came without a command")
        if self._report is not None:
            self._report += fragment
            if len(self._report) > LONGEST_BYTES:
                raise ProtocolError("a report does not end")
            if is_last:
                self._finish_report(self._command, self._report)
            return
        if self._part is not None:
            try:
                self._part.write(fragment)
            except (InstanceRefused, StorageExhausted) as error:
                self._refuse(error)
        else:
            self._thrown_away_bytes += len(fragment)
            if self._thrown_away_bytes > self._maximum_object_bytes:
                raise ProtocolError("a refused data set does not end")
        if is_last:
            self._finish()

    def _finish(self) -> None:
        """Commit and answer."""
        if self._part is not None:
            try:
                self._on_instance(self._part.commit())
                self._part = None
            except (InstanceRefused, StorageExhausted) as error:
                self._refuse(error)
        command, refusal = self._command, self._refusal
        self._command = None
        if command is None:
            return
        status, comment = (refusal.status, str(refusal)) if refusal else (Status.SUCCESS, "")
        self._send(response(command, self._context_id, status, comment, self._peer_maximum_pdu))

    def _finish_report(self, command: Command, data_set: bytearray) -> None:
        """Hand in a report and answer."""
        self._command = self._report = None
        report = EventReport(
            command.sop_class_uid,
            command.sop_instance_uid,
            command.event_type,
            bytes(data_set),
            self._contexts[self._context_id][1],
            self._titles.calling,
        )
        status = self._on_event_report(report)
        self._send(response(command, self._context_id, status, "", self._peer_maximum_pdu))

    def _refuse(self, error: InstanceRefused | StorageExhausted) -> None:
        self.close()
        if isinstance(error, StorageExhausted):
            error = InstanceRefused(str(error), Status.OUT_OF_RESOURCES)
        self._refusal = error
        self.has_refused = True
        _log.warning(
            "instance_refused",
            association=self._association_id,
            calling_ae_title=self._titles.calling,
            status=f"{error.status:04X}H",
            reason=str(error),
        )
        self._tell(events.InstanceRefused(self._association_id, error.status))
