"""The patient and the study of a result: copied from its source, byte for byte.

highdicom reads patient and study attributes from the source images, and refuses headers that
every PACS holds: some character sets, a missing AccessionNumber, a birth date such as
19700000. It is given stand-ins without a patient instead, and what the source says is
written into the finished object.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from copy import deepcopy

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
)
"""Type 2 (PS3.3 C.7.1.1, C.7.2.1): present in every object, empty when the source has none."""

IDENTITY = (
    *REQUIRED,
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    # Patient (PS3.3 C.7.1.1)
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "PatientBirthTime",
    "PatientBirthDateInAlternativeCalendar",
    "PatientAlternativeCalendar",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    # General Study (PS3.3 C.7.2.1)
    "StudyInstanceUID",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "ProcedureCodeSequence",
    # Patient Study (PS3.3 C.7.2.2)
    "AdmittingDiagnosesDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "Occupation",
    "AdditionalPatientHistory",
    "AdmissionID",
    # Clinical Trial Subject and Study (PS3.3 C.7.1.3, C.7.2.3)
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)
"""What is copied: the patient and the study, nothing of the source's series or equipment."""

IDENTITY_TAGS = frozenset(Tag(tag_for_keyword(keyword) or 0) for keyword in IDENTITY)
_CHARACTER_SET = Tag("SpecificCharacterSet")
_TEXT = frozenset(("LO", "SH", "LT", "ST", "UC", "UT"))
_IN_ASCII = str.maketrans(
    {"\\": "/", "\u2265": ">=", "\u2264": "<=", "\u00b1": "+/-", "\u00d7": "x", "\u00df": "ss"}
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
    | dict.fromkeys("\u2018\u2019", "'")
    | dict.fromkeys("\u201c\u201d", '"')
)


def ascii_text(text: str, longest: int | None = None) -> str:
    """Text that means the same in every character set a source may have, without a backslash."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_IN_ASCII))
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return bare.encode("ascii", "replace").decode()[:longest]


@contextmanager
def any_character_set() -> Iterator[None]:
    """Silence pydicom where the source's character set is wrong: it is only copied."""
    with warnings.catch_warnings():
        for message in ("Unknown encoding", ".*Specific Character Set", "Failed to (en|de)code"):
            warnings.filterwarnings("ignore", message, UserWarning)
        yield


@any_character_set()
def identity_of(dataset: Dataset, only: Collection[int] = IDENTITY_TAGS) -> dict[BaseTag, bytes]:
    """Encode the patient and study attributes of a data set, all or some.

    Values that were never decoded come out as they were read, whatever their character set
    says; others are encoded again.
    """
    encodings = _encodings(dataset)
    return {
        tag: _encoded(dataset, tag, encodings) for tag in map(Tag, sorted(only)) if _is_there(dataset, tag)
    }


def copy_identity(source: Dataset, dataset: Dataset) -> None:
    """Give a data set the patient and study of a source header, and its character set.

    All text that the data set has of its own must be ASCII.
    """
    for tag in IDENTITY_TAGS:
        dataset.pop(tag, None)
    for keyword in REQUIRED:
        setattr(dataset, keyword, None)
    encodings = _encodings(source)
    for tag, value in identity_of(source).items():
        vr = dictionary_VR(tag)
        if vr == "SQ" or tag == _CHARACTER_SET:
            dataset.add(deepcopy(source[tag]))
        elif vr == "PN":
            name = PersonName(value, encodings, validation_mode=IGNORE)
            dataset.add(DataElement(tag, vr, name, already_converted=True))
        elif vr in _TEXT:
            dataset.add(DataElement(tag, vr, value, already_converted=True))
        else:
            dataset.add(DataElement(tag, vr, value.decode("latin-1"), already_converted=True))


def raw_text(dataset: Dataset, keyword: str) -> str:
    """The value as it was read: decoding it could warn or raise."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    if tag not in dataset:
        return ""
    return _encoded(dataset, tag, ["iso8859"]).decode("latin-1").strip(" \0")


def _is_there(dataset: Dataset, tag: BaseTag) -> bool:
    """Whether a data set has an element; a sequence that is too damaged to be read does not count."""
    if tag not in dataset or dictionary_VR(tag) != "SQ":
        return tag in dataset
    try:
        dataset[tag]
    except Exception:  # noqa: BLE001 - pydicom lets many kinds out of a damaged sequence
        return False
    return True


def _encodings(dataset: Dataset) -> list[str]:
    """Python's names of the character sets, as pydicom's writer derives them."""
    return convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6")


def _encoded(dataset: Dataset, tag: BaseTag, encodings: list[str]) -> bytes:
    element = dataset.get_item(tag)
    if element.is_raw and dictionary_VR(tag) != "SQ":
        value: bytes | None = element.value
        return value or b""
    buffer = DicomBytesIO()
    buffer.is_little_endian = True
    buffer.is_implicit_VR = True
    write_data_element(buffer, dataset[tag], encodings)
    return buffer.getvalue()[8:]
