"""Whose images a result was made from, who made it, and the attributes that say so.

highdicom reads patient and study attributes from the source images, and refuses headers that
every PACS holds: some character sets, a missing AccessionNumber, a birth date such as
19700000. It is given stand-ins without a patient instead, and the identity of the source is
written into the finished object, byte for byte.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import NamedTuple, Self

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import PersonName

from dicom_node import __version__
from dicom_node.analysis.findings import Algorithm
from dicom_node.errors import ResultInvalid
from dicom_node.results.result_set import Kind

MANUFACTURER = "dicom-node"
RESEARCH_USE = "RESEARCH USE ONLY"

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
_SERIES_DESCRIPTIONS = {
    Kind.SEG: f"Tumour segmentation, {RESEARCH_USE}",
    Kind.SC: f"Tumour summary picture, {RESEARCH_USE}",
    Kind.SR: f"Tumour measurements, {RESEARCH_USE}",
}
_SERIES_OFFSETS = {Kind.SR: 1, Kind.SEG: 2, Kind.SC: 3}


class Instance(NamedTuple):
    """An instance that can be referred to."""

    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Source:
    """The images that a result was made from, as their headers tell.

    Attributes
    ----------
    headers : at least one, never altered
    instances : each once, in the order of the headers
    """

    headers: tuple[Dataset, ...]
    instances: tuple[Instance, ...]

    @classmethod
    def of_headers(cls, headers: Sequence[Dataset]) -> Self:
        """Take headers of one patient and study.

        Raises
        ------
        ResultInvalid
            When there is none, or one lacks a UID that a reference to it needs.
        """
        if not headers:
            raise ResultInvalid("a result needs at least one header of its source")
        for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            if not all(header.get(keyword) for header in headers):
                raise ResultInvalid(f"the source has an instance without {keyword}")
        instances = (
            Instance(str(h.SeriesInstanceUID), str(h.SOPClassUID), str(h.SOPInstanceUID)) for h in headers
        )
        return cls(tuple(headers), tuple(dict.fromkeys(instances)))

    @property
    def header(self) -> Dataset:
        """The one whose patient and study attributes are copied."""
        return self.headers[0]

    @property
    def study_instance_uid(self) -> str:
        """StudyInstanceUID."""
        return str(self.header.StudyInstanceUID)

    @property
    def series_instance_uid(self) -> str:
        """SeriesInstanceUID of the first header."""
        return str(self.header.SeriesInstanceUID)

    @cached_property
    def identity(self) -> dict[BaseTag, bytes]:
        """The encoded values of the identity attributes that the source has."""
        return identity_of(self.header)


@dataclass(frozen=True)
class Provenance:
    """All that a result object's UIDs, dates and equipment follow from.

    Attributes
    ----------
    source : Source
    algorithm : Algorithm
    site_salt : keeps the UIDs of two nodes apart
    configuration_digest : of the settings that decided the outcome
    made_at : aware; the same for every object of a result
    outcome : tells a failed result from a later successful one of the same images
    """

    source: Source
    algorithm: Algorithm
    site_salt: str
    configuration_digest: str
    made_at: datetime
    outcome: str = "analysed"

    def __post_init__(self) -> None:
        """Refuse a naive time: it would depend on the machine."""
        if self.made_at.tzinfo is None:
            raise ValueError("made_at must be an aware datetime")

    def uid(self, what: str) -> str:
        """Derive a UID (PS3.5 B.2): the same inputs always give the same one."""
        parts = (
            self.site_salt,
            self.source.series_instance_uid,
            *sorted(instance.sop_instance_uid for instance in self.source.instances),
            self.algorithm.weights_sha256,
            self.configuration_digest,
            self.outcome,
            what,
        )
        return _hashed_uid(*parts)

    def instance_uid(self, kind: Kind) -> str:
        """SOPInstanceUID of the object of this kind."""
        return self.uid(f"{kind} instance")

    def series_uid(self, kind: Kind) -> str:
        """SeriesInstanceUID of the object of this kind."""
        return self.uid(f"{kind} series")

    @property
    def device_uid(self) -> str:
        """DeviceUID: another set of weights is another device."""
        return _hashed_uid("device", self.algorithm.weights_sha256)

    @property
    def local_time(self) -> datetime:
        """``made_at`` in the source's own time zone where it names one.

        TimezoneOffsetFromUTC holds for every date and time of an object (PS3.3 C.12.1.1),
        so that the copied study time and ours must be of one zone.
        """
        zone = raw_text(self.source.header, "TimezoneOffsetFromUTC")
        stated = re.fullmatch(r"([+-])(\d\d)(\d\d)", zone)
        if stated is None:
            return self.made_at
        sign = -1 if stated[1] == "-" else 1
        offset = sign * timedelta(hours=int(stated[2]), minutes=int(stated[3]))
        return self.made_at.astimezone(timezone(offset))


def ascii_text(text: str, longest: int | None = None) -> str:
    """Text that means the same in every character set a source may have, without a backslash."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().replace("\\", "/")
    return plain if longest is None else plain[:longest]


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
    return {tag: _encoded(dataset, tag, encodings) for tag in map(Tag, sorted(only)) if tag in dataset}


def stamp(dataset: Dataset, provenance: Provenance, kind: Kind) -> None:
    """Give a finished object its identity, series, equipment, dates and file meta information."""
    _copy_identity(dataset, provenance.source)
    dataset.SOPInstanceUID = provenance.instance_uid(kind)
    dataset.InstanceNumber = 1
    dataset.SeriesInstanceUID = provenance.series_uid(kind)
    dataset.SeriesNumber = _series_number(provenance.source.header, kind)
    dataset.SeriesDescription = _SERIES_DESCRIPTIONS[kind]
    if kind is not Kind.SR:
        # without a body part, the paired-structure condition of Laterality cannot be decided
        dataset.BodyPartExamined = "BRAIN"
        dataset.ContentQualification = "RESEARCH"
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = ascii_text(provenance.algorithm.name, 64)
    dataset.SoftwareVersions = [__version__, ascii_text(provenance.algorithm.version, 64)]
    dataset.DeviceSerialNumber = provenance.algorithm.weights_sha256[:16] or "0"
    dataset.ContributingEquipmentSequence = [_equipment(provenance)]
    date, time = f"{provenance.local_time:%Y%m%d}", f"{provenance.local_time:%H%M%S}"
    dataset.InstanceCreationDate = dataset.SeriesDate = dataset.ContentDate = date
    dataset.InstanceCreationTime = dataset.SeriesTime = dataset.ContentTime = time
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta


def stand_in(provenance: Provenance) -> Dataset:
    """A header without a patient, enough for highdicom to build upon; ``stamp`` follows."""
    ds = Dataset()
    for keyword in REQUIRED:
        setattr(ds, keyword, None)
    ds.StudyInstanceUID = provenance.source.study_instance_uid
    ds.SeriesInstanceUID = provenance.source.series_instance_uid
    ds.Modality = "MR"
    return ds


def _hashed_uid(*parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _encodings(dataset: Dataset) -> list[str]:
    """Python's names of the character sets, as pydicom's writer derives them."""
    return convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6")


def raw_text(dataset: Dataset, keyword: str) -> str:
    """The value as it was read: decoding it could warn or raise."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    if tag not in dataset:
        return ""
    return _encoded(dataset, tag, ["iso8859"]).decode("latin-1").strip(" \0")


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


def _copy_identity(dataset: Dataset, source: Source) -> None:
    for tag in IDENTITY_TAGS:
        dataset.pop(tag, None)
    for keyword in REQUIRED:
        setattr(dataset, keyword, None)
    encodings = _encodings(source.header)
    for tag, value in source.identity.items():
        vr = dictionary_VR(tag)
        if vr == "SQ" or tag == _CHARACTER_SET:
            dataset.add(deepcopy(source.header[tag]))
        elif vr == "PN":
            name = PersonName(value, encodings, validation_mode=IGNORE)
            dataset.add(DataElement(tag, vr, name, already_converted=True))
        elif vr in _TEXT:
            dataset.add(DataElement(tag, vr, value, already_converted=True))
        else:
            dataset.add(DataElement(tag, vr, value.decode("latin-1"), already_converted=True))


def _series_number(header: Dataset, kind: Kind) -> int:
    """Keep results beside their source in a sorted list: source 7 gives 701, 702, 703."""
    stated = re.fullmatch(r"\+?(\d{1,7})", raw_text(header, "SeriesNumber"))
    return (int(stated[1]) if stated else 0) * 100 + _SERIES_OFFSETS[kind]


def _equipment(provenance: Provenance) -> Dataset:
    """Contributing Equipment (PS3.3 C.12.1.1.5): the node, as (109102, DCM, Processing Equipment)."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = ascii_text(provenance.algorithm.name, 64)
    item.SoftwareVersions = [__version__, ascii_text(provenance.algorithm.version, 64)]
    item.DeviceUID = provenance.device_uid
    item.ContributionDescription = RESEARCH_USE
    return item
