"""Command sets (PS3.7 6.3, 9.3.1, 10.3.1, E.1): requests unpacked and responses packed by hand.

A response is the same few bytes each time; built through a library data set it costs more
than the storing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dicom_node.receive.protocol import P_DATA_TF, ProtocolError

C_STORE_RQ, C_ECHO_RQ, N_EVENT_REPORT_RQ = 0x0001, 0x0030, 0x0100
_IS_RESPONSE = 0x8000
# A command set is implicit VR little endian; all its tags are in group 0000
_ELEMENT = struct.Struct("<HHL")
_US = struct.Struct("<HHLH")
_SOP_CLASS, _FIELD, _MESSAGE, _ANSWERED, _DATA_SET_TYPE = 0x0002, 0x0100, 0x0110, 0x0120, 0x0800
_STATUS, _COMMENT, _SOP_INSTANCE, _EVENT_TYPE = 0x0900, 0x0902, 0x1000, 0x1002
_NO_DATA_SET = 0x0101
_PDV = struct.Struct(">LBB")
_PDU = struct.Struct(">BxL")


@dataclass(frozen=True, slots=True)
class Command:
    """What is read of a request's command set; UIDs as they came, only without padding."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str
    event_type: int = 0


def read_command(encoded: bytes | bytearray) -> Command:
    """Decode a command set.

    Raises
    ------
    ProtocolError
        It cannot be decoded, or lacks what each request has.
    """
    values: dict[int, bytes] = {}
    position = 0
    try:
        while position < len(encoded):
            group, element, length = _ELEMENT.unpack_from(encoded, position)
            position += _ELEMENT.size + length
            if group or position > len(encoded):
                raise ProtocolError("a command set is damaged")
            values[element] = bytes(encoded[position - length : position])
        field, message_id, kind = (
            int.from_bytes(values[element], "little") for element in (_FIELD, _MESSAGE, _DATA_SET_TYPE)
        )
    except (struct.error, KeyError):
        raise ProtocolError("a command set is damaged") from None
    return Command(
        field,
        message_id & 0xFFFF,
        kind != _NO_DATA_SET,
        _text(values, _SOP_CLASS),
        _text(values, _SOP_INSTANCE),
        int.from_bytes(values.get(_EVENT_TYPE, b""), "little") & 0xFFFF,
    )


def response(command: Command, context_id: int, status: int, comment: str, longest: int) -> bytes:
    """Encode C-STORE-RSP or N-EVENT-REPORT-RSP as one or more P-DATA-TF PDUs.

    Parameters
    ----------
    comment : str
        Why a request was refused, for the peer's log, or empty; cut to 64 characters (VR LO).
    longest : int
        The peer's maximum PDU length, 0 for any.
    """
    elements = b"".join(
        (
            _ui(_SOP_CLASS, command.sop_class_uid),
            _US.pack(0, _FIELD, 2, _IS_RESPONSE | command.field),
            _US.pack(0, _ANSWERED, 2, command.message_id),
            _US.pack(0, _DATA_SET_TYPE, 2, _NO_DATA_SET),
            _US.pack(0, _STATUS, 2, status),
            _padded(_COMMENT, comment[:64].encode("ascii", "replace"), b" ") if comment else b"",
            _ui(_SOP_INSTANCE, command.sop_instance_uid),
            _US.pack(0, _EVENT_TYPE, 2, command.event_type) if command.field == N_EVENT_REPORT_RQ else b"",
        )
    )
    message = _ELEMENT.pack(0, 0, 4) + struct.pack("<L", len(elements)) + elements
    step = longest - _PDV.size if longest > _PDV.size else len(message)
    pdus = []
    for start in range(0, len(message), step):
        part = message[start : start + step]
        is_last = start + step >= len(message)
        pdus.append(_PDU.pack(P_DATA_TF, len(part) + _PDV.size))
        pdus.append(_PDV.pack(len(part) + 2, context_id, 0x03 if is_last else 0x01))
        pdus.append(part)
    return b"".join(pdus)


def _text(values: dict[int, bytes], element: int) -> str:
    return values.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")


def _ui(element: int, value: str) -> bytes:
    # A UID that is none is not sent back: both elements are optional in a response
    encoded = value.encode("ascii", "replace")
    return _padded(element, encoded, b"\0") if len(encoded) <= 64 else b""


def _padded(element: int, value: bytes, padding: bytes) -> bytes:
    if len(value) % 2:
        value += padding
    return _ELEMENT.pack(0, element, len(value)) + value
