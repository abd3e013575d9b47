"""Nothing leaves unproven: what each object must hold before it may be sent.

The objects are read back from disk, so that what is proven is what will be sent. Messages
name the object and what failed, never a value of the patient.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.tag import Tag

from dicom_node.analysis.findings import Findings
from dicom_node.errors import ResultInvalid
from dicom_node.results.identity import IDENTITY_TAGS, any_character_set, identity_of, raw_text
from dicom_node.results.proof_of_place import (
    places_of,
    prove_key_images,
    prove_map,
    prove_report_places,
    prove_segments,
)
from dicom_node.results.provenance import RESEARCH_USE, Source
from dicom_node.results.result_set import Kind, ResultSet
from dicom_node.series.headers import MULTI_FRAME
from dicom_node.series.volume import MRVolume

_UID = re.compile(r"(?=.{1,64}$)(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
"""PS3.5 9.1."""

_SAME_PERSON = frozenset((Tag("PatientID"), Tag("StudyInstanceUID")))


@dataclass(frozen=True)
class _Target:
    """An instance that may be referred to.

    Attributes
    ----------
    frames, segments : the numbers that a reference may name; None where it must name none
    """

    sop_class_uid: str
    frames: frozenset[int] | None = None
    segments: frozenset[int] | None = None


@any_character_set()
def prove_results(
    paths: Mapping[Kind, Path],
    volume: MRVolume,
    findings: Findings,
    predecessor: ResultSet | None = None,
) -> None:
    """Prove the objects made of one analysed volume.

    Raises
    ------
    ResultInvalid
        Names the object and what failed.
    """
    source = Source.of_headers(volume.headers)
    objects = _read(paths)
    _prove_common(objects, source, predecessor)
    places = places_of(volume, findings.labels)
    if places.keys() != {lesion.number for lesion in findings.lesions}:
        raise ResultInvalid("the lesions are not those of the labels")
    if Kind.SEG in objects:
        try:
            prove_segments(objects[Kind.SEG], volume, findings, places)
        except (AttributeError, KeyError, IndexError, ValueError) as error:
            _fail(Kind.SEG, f"its frames cannot be read back ({type(error).__name__})")
    if Kind.PM in objects:
        try:
            prove_map(objects[Kind.PM], volume, findings)
        except (AttributeError, KeyError, IndexError, ValueError) as error:
            _fail(Kind.PM, f"its frames cannot be read back ({type(error).__name__})")
    if Kind.KOS in objects:
        prove_key_images(objects[Kind.KOS], volume, findings)
    prove_report_places(objects[Kind.SR], volume, findings, places)


@any_character_set()
def prove_failure(
    paths: Mapping[Kind, Path], headers: Sequence[Dataset], predecessor: ResultSet | None = None
) -> None:
    """Prove the objects that report a failure.

    Raises
    ------
    ResultInvalid
        Names the object and what failed.
    """
    source = Source.of_headers(headers)
    _prove_common(_read(paths), source, predecessor)


def _fail(kind: Kind, what: str) -> NoReturn:
    raise ResultInvalid(f"{kind}: {what}")


def _read(paths: Mapping[Kind, Path]) -> dict[Kind, Dataset]:
    if Kind.SR not in paths:
        _fail(Kind.SR, "the report is missing")
    return {kind: dcmread(path) for kind, path in paths.items()}


def _prove_common(objects: Mapping[Kind, Dataset], source: Source, predecessor: ResultSet | None) -> None:
    _prove_one_person(source)
    _prove_uids(objects, source)
    targets = _targets(objects, source)
    for kind, dataset in objects.items():
        _prove_identity(kind, dataset, source)
        _prove_wording(kind, dataset)
        _prove_references(kind, dataset, targets, predecessor)
    _prove_evidence(objects, source)


def _prove_one_person(source: Source) -> None:
    """The source is of one patient and study: otherwise a copy of one header is wrong for another."""
    persons = [identity_of(header, only=_SAME_PERSON) for header in source.headers]
    # padding is no part of a value, and is lost where another station has decoded it
    bare = [{tag: value.rstrip(b" \0") for tag, value in person.items()} for person in persons]
    if any(person != bare[0] for person in bare):
        raise ResultInvalid("the source's headers are not all of one patient and study")


def _prove_uids(objects: Mapping[Kind, Dataset], source: Source) -> None:
    taken = {source.study_instance_uid}
    for instance in source.instances:
        taken |= {instance.series_uid, instance.sop_instance_uid}
    for kind, dataset in objects.items():
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            uid = raw_text(dataset, keyword)
            if not _UID.fullmatch(uid):
                _fail(kind, f"{keyword} is not a UID")
            if uid in taken:
                _fail(kind, f"{keyword} is already that of something else")
            taken.add(uid)
        meta = dataset.file_meta
        if meta.MediaStorageSOPInstanceUID != dataset.SOPInstanceUID:
            _fail(kind, "the file meta information names another instance")
        if meta.MediaStorageSOPClassUID != dataset.SOPClassUID:
            _fail(kind, "the file meta information names another SOP class")


def _prove_identity(kind: Kind, dataset: Dataset, source: Source) -> None:
    """Patient and study are the source's, byte for byte; what the source lacks is empty."""
    made = identity_of(dataset)
    for tag in made.keys() | source.identity.keys():
        if made.get(tag, b"") != source.identity.get(tag, b""):
            _fail(kind, f"{keyword_for_tag(tag)} is not the source's")


def _prove_wording(kind: Kind, dataset: Dataset) -> None:
    if not str(dataset.get("SeriesDescription", "")).endswith(RESEARCH_USE):
        _fail(kind, f"SeriesDescription does not end in {RESEARCH_USE}")


def _targets(objects: Mapping[Kind, Dataset], source: Source) -> dict[str, _Target]:
    """All that a result may refer to: its source and its own objects."""
    targets = {}
    for header in source.headers:
        # not asked of a single-frame image, which has none to refer to whatever it says
        frames = int(header.NumberOfFrames) if header.SOPClassUID in MULTI_FRAME else 0
        numbers = frozenset(range(1, frames + 1)) or None
        targets[str(header.SOPInstanceUID)] = _Target(str(header.SOPClassUID), numbers)
    for dataset in objects.values():
        segments = frozenset(int(item.SegmentNumber) for item in dataset.get("SegmentSequence", ()))
        targets[str(dataset.SOPInstanceUID)] = _Target(str(dataset.SOPClassUID), segments=segments or None)
    return targets


def _prove_references(
    kind: Kind, dataset: Dataset, targets: Mapping[str, _Target], predecessor: ResultSet | None
) -> None:
    earlier = (
        {o.sop_instance_uid: _Target(o.sop_class_uid) for o in predecessor.objects} if predecessor else {}
    )
    for keyword, items in _sequences(dataset):
        if Tag(keyword) in IDENTITY_TAGS:
            continue  # copied: what it refers to is the source's matter
        allowed = earlier if keyword == "PredecessorDocumentsSequence" else targets
        for item in items:
            for reference in _references(item):
                _prove_reference(kind, reference, allowed)


def _prove_reference(kind: Kind, reference: Dataset, allowed: Mapping[str, _Target]) -> None:
    target = allowed.get(str(reference.ReferencedSOPInstanceUID))
    if target is None:
        _fail(kind, "it refers to an instance that is neither in the source nor in the result")
    if target.sop_class_uid != reference.get("ReferencedSOPClassUID"):
        _fail(kind, "it refers to an instance by a wrong SOP class")
    for keyword, known in (
        ("ReferencedFrameNumber", target.frames),
        ("ReferencedSegmentNumber", target.segments),
    ):
        if keyword in reference and not _numbers(reference, keyword) <= (known or frozenset()):
            _fail(kind, f"it refers to a {keyword} that does not exist")


def _numbers(item: Dataset, keyword: str) -> set[int]:
    value = item[keyword].value
    return {int(value)} if item[keyword].VM == 1 else {int(number) for number in value}


def _sequences(dataset: Dataset) -> Iterator[tuple[str, Sequence[Dataset]]]:
    """The sequences directly below; other elements are not decoded, which takes most of the time."""
    for tag in dataset.keys():  # noqa: SIM118 - iterating a data set decodes every element
        if dataset.get_item(tag).VR == "SQ":
            yield dataset[tag].keyword, dataset[tag].value


def _references(item: Dataset) -> Iterator[Dataset]:
    """Walk an item and all below for references to instances."""
    if "ReferencedSOPInstanceUID" in item:
        yield item
    for _, items in _sequences(item):
        for below in items:
            yield from _references(below)


def _prove_evidence(objects: Mapping[Kind, Dataset], source: Source) -> None:
    """Current Requested Procedure Evidence (PS3.3 C.17.2) is what it must be, in its series.

    Of the report every image and the SEG, of the key images those that it selects.
    """
    study = source.study_instance_uid
    images = {(study, instance.series_uid, instance.sop_instance_uid) for instance in source.instances}
    needed = set(images)
    if (made := objects.get(Kind.SEG)) is not None:
        needed.add((study, str(made.SeriesInstanceUID), str(made.SOPInstanceUID)))
    if _evidence_of(objects[Kind.SR]) != needed:
        _fail(Kind.SR, "its evidence is not the source and the segmentation")
    if (selection := objects.get(Kind.KOS)) is not None:
        selected = {
            str(reference.ReferencedSOPInstanceUID)
            for item in selection.ContentSequence
            for reference in _references(item)
        }
        if _evidence_of(selection) != {image for image in images if image[2] in selected}:
            _fail(Kind.KOS, "its evidence is not what it selects")


def _evidence_of(document: Dataset) -> set[tuple[str, str, str]]:
    """Study, series and instance of each item."""
    return {
        (str(study.StudyInstanceUID), str(series.SeriesInstanceUID), str(item.ReferencedSOPInstanceUID))
        for study in document.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
