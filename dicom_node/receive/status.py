"""The C-STORE response statuses that the receiver answers with."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """C-STORE response status (PS3.4 Table B.2-1, PS3.7 9.1.1.1.9 and Annex C)."""

    SUCCESS = 0x0000
    INVALID_OBJECT_INSTANCE = 0x0117
    """The SOP Instance UID breaks the rules for UIDs (PS3.7 C.5.8)."""
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    """The SOP class is not that of the presentation context (PS3.7 C.5.20)."""
    OUT_OF_RESOURCES = 0xA700
    """No room, or larger than the limit for one object; the sender may try again later."""
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    """The data set cannot be parsed, is cut short, or lacks what every image has."""
    UIDS_DISAGREE = 0xC001
    """The data set's UIDs are missing, not UIDs, or not those of the command."""


class EventStatus(IntEnum):
    """N-EVENT-REPORT response statuses that the receiver gives (PS3.7 10.1.1.1.8, Annex C)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_EVENT_TYPE = 0x0113
    INVALID_ARGUMENT_VALUE = 0x0115
    """Nobody asked for it."""
    NO_SUCH_SOP_CLASS = 0x0118
