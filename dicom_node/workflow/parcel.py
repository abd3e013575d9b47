"""What one destination gets of a result, and what instead where it refuses something.

A destination that takes no SEG gets the summary picture in its place, and a report that does not
refer to the SEG: at once where its ``outputs`` say so, otherwise when it refuses the SEG. What
is refused is asked anew with each delivery, so that an archive that learns a class gets it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

from dicom_node.deliver.destination import send_to
from dicom_node.deliver.send import Otherwise
from dicom_node.results.older_report import OLDER_CLASSES, make_older_report
from dicom_node.results.report_without_segmentation import make_report_without_segmentation
from dicom_node.results.result_set import Kind, ResultObject
from dicom_node.settings import AnyDestination


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


def send(destination: AnyDestination, parcel: Parcel) -> Iterator[Path]:
    """Send it and yield what was stored, one by one.

    Raises
    ------
    DestinationUnavailable, PermanentError
        As :func:`send_to`.
    """
    without_seg = parcel.get("without_seg")
    otherwise = None if without_seg is None else _choices(without_seg)
    return send_to(destination, *_choices(parcel), otherwise)


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
