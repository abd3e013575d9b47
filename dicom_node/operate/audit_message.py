"""Audit messages as XML (DICOM PS3.15 A.5.1): who did what to whose images, from where to where.

They name patients, as the standard has it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, IntEnum
from xml.etree import ElementTree as ET


class Code(Enum):
    """Codes of PS3.16 CID 400 to 404: value, code system, meaning."""

    APPLICATION_ACTIVITY = ("110100", "DCM", "Application Activity")
    BEGIN_TRANSFERRING = ("110102", "DCM", "Begin Transferring DICOM Instances")
    INSTANCES_ACCESSED = ("110103", "DCM", "DICOM Instances Accessed")
    INSTANCES_TRANSFERRED = ("110104", "DCM", "DICOM Instances Transferred")
    SECURITY_ALERT = ("110113", "DCM", "Security Alert")
    USER_AUTHENTICATION = ("110114", "DCM", "User Authentication")
    APPLICATION_START = ("110120", "DCM", "Application Start")
    APPLICATION_STOP = ("110121", "DCM", "Application Stop")
    LOGIN = ("110122", "DCM", "Login")
    LOGOUT = ("110123", "DCM", "Logout")
    NODE_AUTHENTICATION = ("110126", "DCM", "Node Authentication")
    SECURITY_CONFIGURATION = ("110129", "DCM", "Security Configuration")
    USER_ATTRIBUTES = ("110137", "DCM", "User Security Attributes Changed")
    APPLICATION = ("110150", "DCM", "Application")
    DESTINATION = ("110152", "DCM", "Destination Role ID")
    SOURCE = ("110153", "DCM", "Source Role ID")
    STUDY = ("110180", "DCM", "Study Instance UID")
    NODE_ID = ("110182", "DCM", "Node ID")
    PATIENT_NUMBER = ("2", "RFC-3881", "Patient Number")


class Outcome(IntEnum):
    """Of an event."""

    SUCCESS = 0
    MINOR_FAILURE = 4


@dataclass(frozen=True)
class Participant:
    """Somebody or something that took part.

    Attributes
    ----------
    user_id : an AE title, a user's name
    address : a host's name or IP address
    other_id : such as the process id
    """

    user_id: str
    is_requestor: bool
    role: Code | None = None
    address: str = ""
    other_id: str = ""


@dataclass(frozen=True)
class Study:
    """Images of one study; ``sop_classes`` has how many of each class."""

    study_instance_uid: str
    patient_id: str
    patient_name: str
    accession_number: str = ""
    sop_classes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """An audit message.

    Attributes
    ----------
    action : C, R, U, D or E (create, read, update, delete, execute)
    alert : what a security alert is about, in words, and the node that it is about
    """

    event: Code
    action: str
    participants: Sequence[Participant]
    kind: Code | None = None
    outcome: Outcome = Outcome.SUCCESS
    studies: Sequence[Study] = ()
    alert: tuple[str, str] | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def to_xml(message: Message, source: str) -> str:
    """Write a message in one line; ``source`` names this node."""
    root = ET.Element("AuditMessage")
    event = ET.SubElement(
        root,
        "EventIdentification",
        EventActionCode=message.action,
        EventDateTime=message.at.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=str(int(message.outcome)),
    )
    _code(event, "EventID", message.event)
    if message.kind is not None:
        _code(event, "EventTypeCode", message.kind)
    for participant in message.participants:
        _participant(root, participant)
    ET.SubElement(root, "AuditSourceIdentification", AuditSourceID=source)
    for study in message.studies:
        _study(root, study)
    patients = {study.patient_id: study.patient_name for study in message.studies}
    for patient_id, name in patients.items():
        patient = _object(root, patient_id, kind="1", role="1", code=Code.PATIENT_NUMBER)
        ET.SubElement(patient, "ParticipantObjectName").text = _printable(name)
    if message.alert is not None:
        words, node = message.alert
        subject = _object(root, node, kind="2", role="13", code=Code.NODE_ID)
        ET.SubElement(subject, "ParticipantObjectName").text = _printable(node)
        value = base64.b64encode(words.encode()).decode()
        ET.SubElement(subject, "ParticipantObjectDetail", type="Alert Description", value=value)
    return ET.tostring(root, encoding="unicode")


def _participant(root: ET.Element, participant: Participant) -> None:
    given = {
        "UserID": _printable(participant.user_id),
        "UserIsRequestor": str(participant.is_requestor).lower(),
    }
    if participant.other_id:
        given["AlternativeUserID"] = participant.other_id
    if participant.address:
        given["NetworkAccessPointID"] = participant.address
        given["NetworkAccessPointTypeCode"] = "2" if _is_address(participant.address) else "1"
    element = ET.SubElement(root, "ActiveParticipant", given)
    if participant.role is not None:
        _code(element, "RoleIDCode", participant.role)


def _study(root: ET.Element, study: Study) -> None:
    element = _object(root, study.study_instance_uid, kind="2", role="3", code=Code.STUDY)
    ET.SubElement(element, "ParticipantObjectName").text = study.study_instance_uid
    description = ET.SubElement(element, "ParticipantObjectDescription")
    if study.accession_number:
        ET.SubElement(description, "Accession", Number=_printable(study.accession_number))
    for uid, count in sorted(study.sop_classes.items()):
        ET.SubElement(description, "SOPClass", UID=uid, NumberOfInstances=str(count))


def _object(root: ET.Element, name: str, *, kind: str, role: str, code: Code) -> ET.Element:
    element = ET.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_printable(name),
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )
    _code(element, "ParticipantObjectIDTypeCode", code)
    return element


def _code(parent: ET.Element, name: str, code: Code) -> None:
    value, system, meaning = code.value
    ET.SubElement(parent, name, {"csd-code": value, "codeSystemName": system, "originalText": meaning})


def _is_address(text: str) -> bool:
    return ":" in text or text.replace(".", "").isdecimal()


def _printable(text: str) -> str:
    """Leave out what XML cannot hold; an attribute must hold something."""
    return "".join(c for c in text if c.isprintable()).strip() or "unknown"


def count(classes: Iterable[str]) -> dict[str, int]:
    """Count how many there are of each."""
    found: dict[str, int] = {}
    for each in classes:
        found[each] = found.get(each, 0) + 1
    return found
