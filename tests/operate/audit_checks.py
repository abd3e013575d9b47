"""Audit messages held against the schema of PS3.15 A.5.1.

Elements, their order and number, attributes and permitted values.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from xml.etree import ElementTree as ET

CODED = {"csd-code", "codeSystemName", "originalText"}
BOOLEAN = "true|false"
# Element: its children in order as (name, least, most), its attributes as (pattern, is required)
SCHEMA: dict[str, tuple[list[tuple[str, int, float]], dict[str, tuple[str, bool]]]] = {
    "AuditMessage": (
        [
            ("EventIdentification", 1, 1),
            ("ActiveParticipant", 1, float("inf")),
            ("AuditSourceIdentification", 1, 1),
            ("ParticipantObjectIdentification", 0, float("inf")),
        ],
        {},
    ),
    "EventIdentification": (
        [("EventID", 1, 1), ("EventTypeCode", 0, float("inf"))],
        {
            "EventActionCode": ("[CRUDE]", False),
            "EventDateTime": (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", True),
            "EventOutcomeIndicator": ("0|4|8|12", True),
        },
    ),
    "ActiveParticipant": (
        [("RoleIDCode", 0, float("inf"))],
        {
            "UserID": (r"\S.*", True),
            "AlternativeUserID": (r"\S.*", False),
            "UserName": (r"\S.*", False),
            "UserIsRequestor": (BOOLEAN, True),
            "NetworkAccessPointID": (r"\S+", False),
            "NetworkAccessPointTypeCode": ("[1-5]", False),
        },
    ),
    "AuditSourceIdentification": (
        [("AuditSourceTypeCode", 0, float("inf"))],
        {"AuditSourceID": (r"\S+", True), "AuditEnterpriseSiteID": (r"\S+", False)},
    ),
    "ParticipantObjectIdentification": (
        [
            ("ParticipantObjectIDTypeCode", 1, 1),
            ("ParticipantObjectName", 1, 1),
            ("ParticipantObjectDetail", 0, float("inf")),
            ("ParticipantObjectDescription", 0, float("inf")),
        ],
        {
            "ParticipantObjectID": (r"\S.*", True),
            "ParticipantObjectTypeCode": ("[1-4]", False),
            "ParticipantObjectTypeCodeRole": (r"[1-9]|1\d|2[0-6]", False),
        },
    ),
    "ParticipantObjectDetail": ([], {"type": (r"\S.*", True), "value": (r"[A-Za-z0-9+/]+=*", True)}),
    "ParticipantObjectDescription": ([("Accession", 0, float("inf")), ("SOPClass", 0, float("inf"))], {}),
    "Accession": ([], {"Number": (r"\S.*", True)}),
    "SOPClass": ([], {"UID": (r"[0-9.]+", False), "NumberOfInstances": (r"\d+", True)}),
    "ParticipantObjectName": ([], {}),
    **{
        name: ([], dict.fromkeys(CODED, (r"\S.*", True)))
        for name in ("EventID", "EventTypeCode", "RoleIDCode", "ParticipantObjectIDTypeCode")
    },
}


def check(element: ET.Element) -> None:
    """Hold an element, and what is in it, against the schema."""
    children, attributes = SCHEMA[element.tag]
    order = [name for name, _, _ in children]
    tags = [child.tag for child in element]
    assert all(tag in order for tag in tags), tags
    assert tags == sorted(tags, key=order.index), tags
    for name, least, most in children:
        assert least <= tags.count(name) <= most, (element.tag, name)
    assert set(element.keys()) <= attributes.keys(), element.attrib
    for name, (pattern, is_required) in attributes.items():
        value = element.get(name)
        assert (value is not None) or not is_required, (element.tag, name)
        assert value is None or re.fullmatch(pattern, value), (element.tag, name, value)
    for child in element:
        check(child)


def codes(root: ET.Element, path: str) -> list[str]:
    return [each.get("csd-code") for each in root.findall(path)]


def messages_of(path: Path) -> list[ET.Element]:
    return [ET.fromstring(line) for line in path.read_text().splitlines()]  # noqa: S314 - ours


def summary(root: ET.Element) -> tuple[str, list[str], str, str]:
    event = root.find("EventIdentification")
    (kind,) = codes(event, "EventID")
    return (
        kind,
        codes(event, "EventTypeCode"),
        event.get("EventActionCode"),
        event.get("EventOutcomeIndicator"),
    )


def alert_of(root: ET.Element) -> str:
    """What a security alert says."""
    detail = root.find("ParticipantObjectIdentification/ParticipantObjectDetail")
    return base64.b64decode(detail.get("value")).decode()
