"""Write the generated tables of docs/conformance.md from the code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from made import HERE, fill, table, write
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.implementation import IMPLEMENTATION_CLASS_UID
from dicom_node.receive.admission import Rejection
from dicom_node.receive.contexts import SOP_CLASSES, TRANSFER_SYNTAXES
from dicom_node.receive.status import EventStatus, Status
from dicom_node.results import codes
from dicom_node.results.identity import IDENTITY
from dicom_node.results.older_report import OLDER_CLASSES
from dicom_node.tls import SUITES_OF_1_2

_RESULT = {1: "permanent", 2: "transient"}


def pages() -> dict[Path, str]:
    """The page as it should be."""
    page = HERE / "conformance.md"
    return {page: fill(page.read_text(), _tables())}


def _tables() -> dict[str, str]:
    sent = (
        SegmentationStorage,
        ParametricMapStorage,
        SecondaryCaptureImageStorage,
        KeyObjectSelectionDocumentStorage,
        Comprehensive3DSRStorage,
        *OLDER_CLASSES,
    )
    coded = {
        value.value + value.scheme_designator: value
        for value in vars(codes).values()
        if isinstance(value, Code)
    }
    return {
        "implementation": table(
            ("implementation class UID", "version name"),
            [(IMPLEMENTATION_CLASS_UID, "DICOM_NODE_ and the version")],
        ),
        "accepted": table(("SOP class", "UID"), _named(SOP_CLASSES))
        + "\n"
        + table(("transfer syntax", "UID"), _named(TRANSFER_SYNTAXES)),
        "statuses": table(
            ("status", "meaning"),
            [(f"{status:04X}H", status.name.replace("_", " ").lower()) for status in Status],
        ),
        "events": table(
            ("status", "meaning"),
            [(f"{status:04X}H", status.name.replace("_", " ").lower()) for status in EventStatus],
        ),
        "rejections": table(
            ("reason", "result", "source", "reason code"),
            [
                (r.name.replace("_", " ").lower(), _RESULT[r.value[0]], str(r.value[1]), str(r.value[2]))
                for r in Rejection
            ],
        ),
        "tls": table(
            ("version", "cipher suites (OpenSSL's names)"),
            [("TLS 1.3", "all"), *(("TLS 1.2", suite) for suite in SUITES_OF_1_2)],
        ),
        "sent": table(("SOP class", "UID"), _named(sent)),
        "identity": table(
            ("attribute", "tag"),
            [(dictionary_description(k), f"({t >> 16:04X},{t & 0xFFFF:04X})") for k, t in _tags(IDENTITY)],
        ),
        "codes": table(
            ("code", "scheme", "meaning"),
            [(c.value, c.scheme_designator, c.meaning) for c in coded.values()],
        ),
    }


def _tags(keywords: Iterable[str]) -> list[tuple[str, int]]:
    return [(keyword, tag_for_keyword(keyword) or 0) for keyword in keywords]


def _named(uids: Iterable[UID]) -> list[tuple[str, str]]:
    return [(uid.name, str(uid)) for uid in uids]


if __name__ == "__main__":
    write(pages())
