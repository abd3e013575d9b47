"""N-EVENT-REPORT (PS3.7 10.1.1): the value that travels from the receiver to whoever asked for a report."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.receive.status import EventStatus

# A report names each instance in about 150 bytes; results are a few instances each
LONGEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class EventReport:
    """A report as it came; nothing of the data set has been looked at.

    Attributes
    ----------
    event_type : EventTypeID
    data_set : encoded in the transfer syntax
    """

    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    data_set: bytes
    transfer_syntax: str
    calling_ae_title: str


def nobody_asked(_report: EventReport) -> EventStatus:
    """Answer a report where nothing asks for any."""
    return EventStatus.INVALID_ARGUMENT_VALUE
