"""The report without its references to the SEG, for a destination that does not take the SEG.

It says the same: what stood with a segment, the volume and the probabilities, stands with the outline.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage

from dicom_node.errors import ResultInvalid
from dicom_node.results import codes
from dicom_node.results.identity import any_character_set
from dicom_node.results.older_report import write_form
from dicom_node.results.provenance import hashed_uid
from dicom_node.results.result_set import ResultObject


@any_character_set()
def make_report_without_segmentation(report: ResultObject) -> ResultObject:
    """Write it beside the original; the same report gives the same bytes.

    A report that has no segments is another instance too, so that the first version of a result and
    the second, which names it, are in one form at this destination.

    Raises
    ------
    ResultInvalid
        A reference to the SEG is left.
    """
    dataset = dcmread(report.path)
    for item in dataset.ContentSequence:
        if item.ValueType == "CONTAINER" and _concept(item) == codes.IMAGING_MEASUREMENTS.value:
            item.ContentSequence = _without_segments(list(item.ContentSequence))
    for study in dataset.CurrentRequestedProcedureEvidenceSequence:
        study.ReferencedSeriesSequence = [
            series
            for series in study.ReferencedSeriesSequence
            if not any(map(_is_segmentation, series.ReferencedSOPSequence))
        ]
    made = write_form(dataset, report, "without-seg", lambda uid: hashed_uid(uid, "without segmentation"))
    if any(_is_segmentation(item) for item in _items(dataset)):
        made.path.unlink()
        raise ResultInvalid("sr: a reference to the segmentation is left in the report without one")
    return made


def _without_segments(groups: list[Dataset]) -> list[Dataset]:
    """Move the measurements of each segment to the outline with the same tracking UID."""
    moved: dict[str, list[Dataset]] = {}
    kept = []
    for group in groups:
        items = group.ContentSequence
        if any(_is_segmentation(reference) for item in items for reference in _items(item)):
            moved[_tracking_uid(group)] = [item for item in items if item.ValueType == "NUM"]
        else:
            kept.append(group)
    for group in kept:
        group.ContentSequence = [*group.ContentSequence, *moved.pop(_tracking_uid(group), ())]
    if moved:
        raise ResultInvalid("sr: a segment has no outline that could take its measurements")
    return kept


def _tracking_uid(group: Dataset) -> str:
    return next(str(item.UID) for item in group.ContentSequence if item.ValueType == "UIDREF")


def _concept(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def _is_segmentation(reference: Dataset) -> bool:
    return bool(reference.get("ReferencedSOPClassUID") == SegmentationStorage)


def _items(item: Dataset) -> Iterator[Dataset]:
    """An item and all below."""
    yield item
    for element in item:
        if element.VR == "SQ":
            for below in element.value:
                yield from _items(below)
