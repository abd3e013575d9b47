"""What a folder holds: MR series, and the SEG objects that lie on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import MediaStorageDirectoryStorage

from dicom_node.errors import SeriesRefused
from dicom_node.series.geometry import order_stack
from dicom_node.series.headers import MULTI_FRAME, SINGLE_FRAME, Frame, frames_of, read_header
from dicom_node.series.stacks import split_stacks
from training.prepare.place import draw
from training.prepare.segmentation import SEGMENTATION, Segmentation, read_segmentation

_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "StudyDate", "SeriesNumber",
    "FrameOfReferenceUID", "PatientID", "PatientName", "PatientBirthDate",
]  # fmt: skip


@dataclass(frozen=True)
class Instance:
    """What a first look at a file tells.

    Attributes
    ----------
    patient : identifies the patient; never leaves the memory
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    order: tuple[str, int]
    patient: str


def scan(folder: Path) -> tuple[list[Instance], list[tuple[str, str]], int]:
    """Instances once each, the files that cannot be read, and how many objects are of other kinds."""
    found: dict[str, Instance] = {}
    unreadable: list[tuple[str, str]] = []
    others = 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        try:
            header = pydicom.dcmread(path, specific_tags=list(_TAGS), stop_before_pixels=True)
        except InvalidDicomError:
            unreadable.append((name, "no DICOM file"))
            continue
        except Exception as error:  # noqa: BLE001 - a damaged header lets any kind out
            unreadable.append((name, f"cannot be read ({type(error).__name__})"))
            continue
        if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            continue
        try:
            instance = _instance(path, header)
        except (AttributeError, ValueError, TypeError):
            unreadable.append((name, "its header lacks UIDs or is damaged"))
            continue
        if instance.sop_class_uid in SINGLE_FRAME | MULTI_FRAME | SEGMENTATION:
            found.setdefault(instance.sop_instance_uid, instance)
        else:
            others += 1
    return list(found.values()), unreadable, others


def _instance(path: Path, header: Dataset) -> Instance:
    number = header.get("SeriesNumber")
    return Instance(
        path=path,
        sop_class_uid=str(header.SOPClassUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        study_uid=str(header.StudyInstanceUID),
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID") or ""),
        order=(str(header.get("StudyDate") or ""), int(number) if number is not None else 0),
        patient=_patient_of(header),
    )


def _patient_of(header: Dataset) -> str:
    """Who, for the split; an object that names nobody is of its study's patient."""
    for keywords in (("PatientID",), ("PatientName", "PatientBirthDate")):
        if header.get(keywords[0]):
            return "\0".join((keywords[0], *(str(header.get(keyword) or "").strip() for keyword in keywords)))
    return f"study\0{header.StudyInstanceUID}"


def assign(
    instances: Iterable[Instance], images: Mapping[str, Sequence[Instance]]
) -> tuple[dict[str, list[Segmentation]], list[tuple[str, str]]]:
    """SEG objects by the series that they lie on, and those that lie on none."""
    series_of = {member.sop_instance_uid: uid for uid, members in images.items() for member in members}
    labels: defaultdict[str, list[Segmentation]] = defaultdict(list)
    unused: list[tuple[str, str]] = []
    for instance in instances:
        try:
            segmentation = read_segmentation(instance.path)
            owners = _owners(segmentation, instance, images, series_of)
        except SeriesRefused as refusal:
            unused.append((f"SEG {instance.sop_instance_uid}", str(refusal)))
            continue
        for uid in owners:
            labels[uid].append(segmentation)
    return dict(labels), unused


def _owners(
    segmentation: Segmentation,
    instance: Instance,
    images: Mapping[str, Sequence[Instance]],
    series_of: Mapping[str, str],
) -> set[str]:
    """Series that its frames were made from, else that it names, else the one on whose grid it lies."""
    referenced = segmentation.referenced_instances
    if owners := {series_of[uid] for uid in referenced if uid in series_of}:
        return owners
    if owners := segmentation.referenced_series & images.keys():
        return owners
    if referenced or segmentation.referenced_series:
        raise SeriesRefused("the images that it refers to are not in the folder")
    fitting = {
        uid
        for uid, members in images.items()
        if members[0].frame_of_reference_uid == instance.frame_of_reference_uid != ""
        and _fits(segmentation, members)
    }
    if len(fitting) != 1:
        raise SeriesRefused(f"it refers to no images, and {len(fitting)} series have its grid")
    return fitting


def _fits(segmentation: Segmentation, members: Iterable[Instance]) -> bool:
    try:
        (group,) = split_stacks(frames_in(members))
        return bool(draw(segmentation, segmentation.segments, order_stack(group)).any())
    except (SeriesRefused, ValueError):
        return False


def frames_in(members: Iterable[Instance]) -> list[Frame]:
    """Read the headers of a series.

    Raises
    ------
    SeriesRefused
        Names the file that cannot be read.
    """
    return [frame for member in members for frame in frames_of(member.path, read_header(member.path))]
