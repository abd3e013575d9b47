"""Who made a result from which images, when and with what: UIDs, series, equipment and dates."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import NamedTuple, Self

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node import __version__
from dicom_node.analysis.findings import Algorithm
from dicom_node.errors import ResultInvalid
from dicom_node.results.identity import REQUIRED, ascii_text, copy_identity, identity_of, raw_text
from dicom_node.results.result_set import Kind

MANUFACTURER = "dicom-node"
RESEARCH_USE = "RESEARCH USE ONLY"

_NAMES = {
    Kind.SEG: "segmentation",
    Kind.PM: "probability map",
    Kind.SC: "summary picture",
    Kind.KOS: "key images",
    Kind.SR: "measurements",
}
_SERIES_OFFSETS = {Kind.SR: 1, Kind.SEG: 2, Kind.SC: 3, Kind.PM: 4, Kind.KOS: 5}
_IMAGES = (Kind.SEG, Kind.PM, Kind.SC)


def hashed_uid(*parts: str) -> str:
    """Derive a UID from 128 bits of a hash, in the form of a UUID's (PS3.5 B.2)."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


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
    version : of the result, from 1; its InstanceNumber
    run : tells an analysis from an earlier one of the same images, from 1
    apart : one of several results of a series that mixes patients or studies
    began : date and time of the series (DA, TM) when an earlier version began it
    """

    source: Source
    algorithm: Algorithm
    site_salt: str
    configuration_digest: str
    made_at: datetime
    outcome: str = "analysed"
    version: int = 1
    run: int = 1
    apart: bool = False
    began: tuple[str, str] | None = None

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
            *([f"run {self.run}"] if self.run > 1 else []),
            what,
        )
        return hashed_uid(*parts)

    def lasting_uid(self, what: str) -> str:
        """Derive a UID that the next version will have too, as long as it is made by the same models."""
        if self.apart:
            return self.uid(what)
        parts = (
            self.site_salt,
            self.source.study_instance_uid,
            self.source.series_instance_uid,
            self.algorithm.weights_sha256,
            self.configuration_digest,
            what,
        )
        return hashed_uid(*parts)

    def instance_uid(self, kind: Kind) -> str:
        """SOPInstanceUID of the object of this kind."""
        return self.uid(f"{kind} instance")

    def series_uid(self, kind: Kind) -> str:
        """SeriesInstanceUID of the object of this kind.

        Versions share a series, and viewers show the instance with the highest number of it. But
        a series of pictures is opened at its first one, so that each version gets a series of its own.
        """
        what = f"{kind} series"
        return self.uid(what) if kind is Kind.SC else self.lasting_uid(what)

    @property
    def device_uid(self) -> str:
        """DeviceUID: another set of weights is another device."""
        return hashed_uid("device", self.algorithm.weights_sha256)

    @property
    def local_time(self) -> datetime:
        """``made_at`` in the source's own time zone where it names one.

        TimezoneOffsetFromUTC holds for every date and time of an object (PS3.3 C.12.1.1),
        so that the copied study time and ours must be of one zone.
        """
        zone = raw_text(self.source.header, "TimezoneOffsetFromUTC")
        stated = re.fullmatch(r"([+-])([01]\d|2[0-3])([0-5]\d)", zone)
        if stated is None:
            return self.made_at
        sign = -1 if stated[1] == "-" else 1
        offset = sign * timedelta(hours=int(stated[2]), minutes=int(stated[3]))
        return self.made_at.astimezone(timezone(offset))


def stamp(dataset: Dataset, provenance: Provenance, kind: Kind) -> None:
    """Give a finished object its identity, series, equipment, dates and file meta information."""
    copy_identity(provenance.source.header, dataset)
    dataset.SOPInstanceUID = provenance.instance_uid(kind)
    dataset.InstanceNumber = provenance.version
    dataset.SeriesInstanceUID = provenance.series_uid(kind)
    dataset.SeriesNumber = _series_number(provenance.source.header, kind)
    title = provenance.algorithm.finding.title
    number = f" {provenance.version}" if kind is Kind.SC and provenance.version > 1 else ""
    dataset.SeriesDescription = f"{title} {_NAMES[kind]}{number}, {RESEARCH_USE}"
    if kind in _IMAGES:
        # without a body part, the paired-structure condition of Laterality cannot be decided
        dataset.BodyPartExamined = "BRAIN"
        dataset.ContentQualification = "RESEARCH"
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = ascii_text(provenance.algorithm.name, 64)
    dataset.SoftwareVersions = [__version__, ascii_text(provenance.algorithm.version, 64)]
    dataset.DeviceSerialNumber = provenance.algorithm.weights_sha256[:16] or "0"
    dataset.ContributingEquipmentSequence = [_equipment(provenance)]
    date, time = f"{provenance.local_time:%Y%m%d}", f"{provenance.local_time:%H%M%S}"
    dataset.InstanceCreationDate = dataset.ContentDate = date
    dataset.InstanceCreationTime = dataset.ContentTime = time
    began = provenance.began if kind is not Kind.SC else None
    dataset.SeriesDate, dataset.SeriesTime = began or (date, time)
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


def _series_number(header: Dataset, kind: Kind) -> int:
    """Keep results beside their source in a sorted list: source 7 gives 701, 702 and so on."""
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
