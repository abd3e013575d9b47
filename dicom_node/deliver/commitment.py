"""Storage commitment, our side (PS3.4 Annex J): asking an archive to answer for what it stored.

The request carries a transaction UID; the report on it comes by N-EVENT-REPORT, on the same
association or on one that the archive opens to our receiver, soon, late, twice or never.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.dimse_messages import N_EVENT_REPORT_RQ
from pynetdicom.dsutils import decode
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from dicom_node.deliver.cstore import Peer, associate
from dicom_node.errors import DeliveryRefused, DestinationUnavailable
from dicom_node.receive.event_report import EventReport

PUSH_MODEL = UID(StorageCommitmentPushModel)
WELL_KNOWN_INSTANCE = UID(StorageCommitmentPushModelInstance)

_REQUEST_COMMITMENT = 1  # the action type (PS3.4 J.3.2)
_ALL_COMMITTED, _SOME_FAILED = 1, 2  # the event types (PS3.4 J.3.3)
EVENT_TYPES = (_ALL_COMMITTED, _SOME_FAILED)

# N-ACTION statuses (PS3.7 10.1.4.1.10)
_WARNINGS = range(0xB000, 0xC000)
_COME_AGAIN = {0x0110, 0x0213}  # processing failure, resource limitation

# Failure reasons (PS3.3 C.14.1.1)
REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class and instance do not fit",
    0x0122: "SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}
NOT_NAMED = 0
"""Stands for the reason of an instance that a report passes over."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an archive says of one transaction.

    Attributes
    ----------
    committed : SOP Instance UIDs that it answers for
    failed : the others that it names, with the reason
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]


def ask(
    peer: Peer,
    open_transaction: Callable[[], str],
    objects: Sequence[tuple[str, str]],
    on_report: Callable[[EventReport], int],
    hold_s: float,
) -> str:
    """Ask a peer to commit itself to objects that it has stored.

    Parameters
    ----------
    open_transaction : makes the transaction UID known wherever a report is taken, and returns it
    objects : SOP class UID and SOP Instance UID of each
    on_report : gets a report that comes on this association and returns the status to answer
    hold_s : how long the association is kept open for it

    Returns
    -------
    The transaction UID.

    Raises
    ------
    DestinationUnavailable
        No connection, no answer, or a transient refusal: ask again, with a new transaction UID. A
        report on this one may come all the same.
    DeliveryRefused
        The peer does not offer storage commitment, or refuses for good.
    """
    coming, answered = threading.Event(), threading.Event()

    def note_coming(event: evt.Event) -> None:
        if isinstance(event.message, N_EVENT_REPORT_RQ):
            coming.set()

    def take(event: evt.Event) -> tuple[int, None]:
        return on_report(_as_report(event, peer)), None

    def note_sent(_event: evt.Event) -> None:
        if coming.is_set():  # before that, what was sent is not the answer to a report
            answered.set()

    contexts = {PUSH_MODEL: {ImplicitVRLittleEndian, ExplicitVRLittleEndian}}
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_DIMSE_RECV, note_coming),
        (evt.EVT_N_EVENT_REPORT, take),
        (evt.EVT_PDU_SENT, note_sent),
    ]
    association = associate(peer, contexts, handlers)
    try:
        transaction_uid = open_transaction()
        try:
            answer, _ = association.send_n_action(
                _request(transaction_uid, objects), _REQUEST_COMMITMENT, PUSH_MODEL, WELL_KNOWN_INSTANCE
            )
        except (ValueError, RuntimeError) as error:  # the association ended
            raise DestinationUnavailable(f"{peer} ended the association") from error
        status = answer.get("Status")
        if status is None:
            raise DestinationUnavailable(f"{peer} gave no answer to the request to commit")
        if status != 0x0000 and status not in _WARNINGS:
            text = f"{peer} does not take the request to commit (status {status:04X}H)"
            raise DestinationUnavailable(text) if status in _COME_AGAIN else DeliveryRefused(text)
        if not answered.wait(hold_s) and coming.is_set():  # a release would cut the answer off
            answered.wait(peer.timeout_s)
        if association.is_established:
            association.release()
        return transaction_uid
    finally:
        if association.is_established:
            association.abort()


def _as_report(event: evt.Event, peer: Peer) -> EventReport:
    request = event.request
    information = request.EventInformation  # type: ignore[union-attr]
    return EventReport(
        str(request.AffectedSOPClassUID),
        str(request.AffectedSOPInstanceUID),  # type: ignore[union-attr]
        int(request.EventTypeID or 0),  # type: ignore[union-attr]
        information.getvalue() if information else b"",
        str(event.context.transfer_syntax),
        peer.ae_title,
    )


def _request(transaction_uid: str, objects: Sequence[tuple[str, str]]) -> Dataset:
    """Build the action information (PS3.4 Table J.3-1)."""
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = [_reference(*each) for each in objects]
    return request


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def read_report(report: EventReport) -> Report:
    """Decode the event information (PS3.4 Table J.3-2).

    Raises
    ------
    ValueError
        It is none.
    """
    syntax = UID(report.transfer_syntax)
    try:
        data_set = decode(BytesIO(report.data_set), syntax.is_implicit_VR, syntax.is_little_endian)
        transaction_uid = str(data_set.TransactionUID)
        committed = {
            str(item.ReferencedSOPInstanceUID) for item in data_set.get("ReferencedSOPSequence") or ()
        }
        failed = {
            str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason") or NOT_NAMED)
            for item in data_set.get("FailedSOPSequence") or ()
        }
    except Exception as error:  # noqa: BLE001 - the decoder raises whatever hostile bytes provoke
        raise ValueError(f"the event information cannot be read ({type(error).__name__})") from None
    return Report(transaction_uid, frozenset(committed - failed.keys()), failed)


def reference_of(path: Path) -> tuple[str, str]:
    """SOP class UID and SOP Instance UID of a file."""
    header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    return str(header.SOPClassUID), str(header.SOPInstanceUID)
