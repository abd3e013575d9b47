"""The report in an older SR class, for a destination that refuses Comprehensive 3D SR.

The content is the same: it has image coordinates only, no coordinates in space, and all its
relationships are by value, which Enhanced SR (PS3.3 A.35.2) allows too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage

from dicom_node.durable import flush_folder
from dicom_node.results.files import result_object, write_durably
from dicom_node.results.identity import any_character_set
from dicom_node.results.provenance import hashed_uid
from dicom_node.results.result_set import Kind, ResultObject

OLDER_CLASSES = (ComprehensiveSRStorage, EnhancedSRStorage)
"""To be tried in this order."""

_NAMES = {ComprehensiveSRStorage: "comprehensive", EnhancedSRStorage: "enhanced"}


@any_character_set()
def make_older_report(report: ResultObject, sop_class_uid: str) -> ResultObject:
    """Write the report in another class beside the original; the same report gives the same bytes.

    Parameters
    ----------
    report : the Comprehensive 3D SR of a result
    sop_class_uid : one of ``OLDER_CLASSES``

    Raises
    ------
    ValueError
        For any other class.
    """
    if sop_class_uid not in OLDER_CLASSES:
        raise ValueError(f"a report cannot be written as SOP class {sop_class_uid}")
    dataset = dcmread(report.path)
    dataset.SOPClassUID = sop_class_uid
    # another class is another instance (PS3.5 9.1)
    return write_form(
        dataset, report, _NAMES[dataset.SOPClassUID], lambda uid: hashed_uid(uid, sop_class_uid)
    )


def write_form(
    dataset: Dataset, report: ResultObject, name: str, rename: Callable[[str], str]
) -> ResultObject:
    """Write a changed copy of a report beside it, as an instance of its own.

    A destination that gets this form of a report is taken to have got it of the report's predecessor
    too; see :mod:`dicom_node.results.report_after` for one that did not.

    Parameters
    ----------
    name : added to that of the file
    rename : gives the SOP Instance UID of this form for that of the original
    """
    dataset.SOPInstanceUID = rename(report.sop_instance_uid)
    for study in dataset.get("PredecessorDocumentsSequence", ()):
        for series in study.ReferencedSeriesSequence:
            for reference in series.ReferencedSOPSequence:
                reference.ReferencedSOPClassUID = dataset.SOPClassUID
                reference.ReferencedSOPInstanceUID = rename(reference.ReferencedSOPInstanceUID)
    path = report.path.with_name(f"{report.path.stem}-{name}.dcm")
    write_beside(dataset, path)
    return result_object(Kind.SR, dataset, path)


def write_beside(dataset: Dataset, path: Path) -> None:
    """Write a form of a report, which has its UID already; under its name it is whole."""
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    part = path.with_name(f"{path.name}.part")
    write_durably(dataset, part)
    part.replace(path)
    flush_folder(path.parent)
