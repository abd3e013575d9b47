"""What one destination gets of a result, and what instead where it refuses something.

A destination that takes no SEG gets the summary picture in its place, and a report that does not
refer to the SEG: at once where its ``outputs`` say so, otherwise when it refuses the SEG. What
it refused is not offered for a while; then it is, so that an archive that learns a class gets it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import structlog
from pydicom.errors import InvalidDicomError

from dicom_node.deliver.commitment import reference_of
from dicom_node.deliver.destination import send_to
from dicom_node.deliver.send import Hooks, Otherwise
from dicom_node.errors import DeliveryRefused
from dicom_node.results.older_report import OLDER_CLASSES, make_older_report
from dicom_node.results.report_after import name_predecessor, original_of, read_told
from dicom_node.results.report_without_segmentation import make_report_without_segmentation
from dicom_node.results.result_set import Kind, ResultObject
from dicom_node.settings import AnyDestination
from dicom_node.workflow.acceptance import Acceptance

log = structlog.get_logger()


class Parcel(TypedDict):
    """Files on their way to one destination, as they are kept with a delivery.

    Attributes
    ----------
    paths : in the order of sending
    older : for each path, the same in older SOP classes
    without_seg : in place of all, where the destination refuses the first file, the SEG
    """

    paths: list[str]
    older: list[list[str]]
    without_seg: NotRequired[Parcel]


def pack(
    objects: Iterable[ResultObject], outputs: Collection[Kind], destinations: Collection[AnyDestination]
) -> dict[str, str]:
    """Pack the objects of a result for each destination that gets any, as JSON.

    Every repetition of a delivery gets these files.

    Parameters
    ----------
    objects : in the order of sending
    outputs : of the pipeline; the picture may be among the objects without being wanted
    """
    made = list(objects)
    alike = {destination.outputs for destination in destinations}
    parcels = {allowed: _pack(made, outputs, allowed) for allowed in alike}
    return {d.name: json.dumps(parcels[d.outputs]) for d in destinations if parcels[d.outputs]["paths"]}


def _pack(
    made: Sequence[ResultObject], outputs: Collection[Kind], allowed: Collection[Kind] | None
) -> Parcel:
    takes = {kind for kind in outputs if allowed is None or kind in allowed}
    instead = Kind.SC if any(each.kind is Kind.SEG for each in made) else None
    without_seg = [
        make_report_without_segmentation(each) if each.kind is Kind.SR else each
        for each in made
        if each.kind is not Kind.SEG and (each.kind in takes or each.kind is instead)
    ]
    if Kind.SEG in outputs and Kind.SEG not in takes:
        return _parcel([each for each in without_seg if allowed is None or each.kind in allowed])
    parcel = _parcel([each for each in made if each.kind in takes])
    if instead is not None:
        parcel["without_seg"] = _parcel(without_seg)
    return parcel


def send(destination: AnyDestination, parcel: Parcel, acceptance: Acceptance) -> Iterator[Path]:
    """Send it and yield what was stored, one by one; a file twice, where it had to be sent again.

    Parameters
    ----------
    acceptance : says what need not be offered, and how a predecessor is named; learns from what comes of it

    Raises
    ------
    DestinationUnavailable, PermanentError
        As :func:`send_to`.
    """
    offered = _less(parcel, acceptance.refused_by(destination))
    try:
        yield from _send(destination, offered, acceptance)
    except DeliveryRefused:
        if offered == parcel:
            raise
        acceptance.forget_refusals(destination)
        log.info("all_offered_again", reason="the rest was refused")
        yield from _send(destination, parcel, acceptance)


def _send(destination: AnyDestination, parcel: Parcel, acceptance: Acceptance) -> Iterator[Path]:
    def final(path: Path) -> Path:
        original = original_of(path)
        if original is None or (named := read_told(original)).predecessor is None:
            return path
        own, before = named.own.sop_instance_uid, named.predecessor.sop_instance_uid
        there = acceptance.predecessor_of(destination.name, own, before)
        return path if there is None else name_predecessor(path, there)

    def note(sop_class_uid: str) -> None:
        acceptance.note_refusal(destination, sop_class_uid)

    without_seg = parcel.get("without_seg")
    otherwise = None if without_seg is None else _choices(without_seg)
    for path in send_to(destination, *_choices(parcel), otherwise, Hooks(final, note)):
        original = original_of(path)
        if original is not None:
            report_uid = read_told(original).own.sop_instance_uid
            acceptance.note_stored(destination.name, report_uid, read_told(path).own)
        yield path


def _less(parcel: Parcel, refused: Collection[str]) -> Parcel:
    """The parcel without what is refused, as far as there is something else in its place."""
    paths, without_seg = parcel["paths"], parcel.get("without_seg")
    if not refused or not paths:
        return parcel
    if without_seg is not None and _class_of(paths[0]) in refused:
        return _less(without_seg, refused)
    less = Parcel(paths=[], older=[])
    for path, older in zip(paths, parcel["older"], strict=True):
        first, *others = [c for c in (path, *older) if _class_of(c) not in refused] or [path, *older]
        less["paths"].append(first)
        less["older"].append(others)
    if without_seg is not None:
        less["without_seg"] = _less(without_seg, refused)
    return less


def _class_of(path: str) -> str:
    try:
        return reference_of(Path(path))[0]
    except (OSError, InvalidDicomError):
        return ""  # who sends it says what is wrong with it


def _parcel(objects: Sequence[ResultObject]) -> Parcel:
    older = [[str(path) for path in _in_older_classes(each)] for each in objects]
    return Parcel(paths=[str(each.path) for each in objects], older=older)


def _choices(parcel: Parcel) -> Otherwise:
    paths = [Path(path) for path in parcel["paths"]]
    older = [[Path(path) for path in others] for others in parcel["older"]]
    return Otherwise(paths, dict(zip(paths, older, strict=True)))


def _in_older_classes(made: ResultObject) -> list[Path]:
    """Write a report for destinations that refuse its class."""
    if made.kind is not Kind.SR:
        return []
    return [make_older_report(made, sop_class_uid).path for sop_class_uid in OLDER_CLASSES]
