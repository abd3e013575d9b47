"""The report in an older SR class, for a destination that refuses Comprehensive 3D SR.

The content is the same: it has image coordinates only, no coordinates in space, and all its
relationships are by value, which Enhanced SR (PS3.3 A.35.2) allows too.
"""

from __future__ import annotations

from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage

from dicom_node.durable import flush_folder
from dicom_node.results.files import result_object, write_durably
from dicom_node.results.identity import any_character_set
from dicom_node.results.provenance import hashed_uid
from dicom_node.results.result_set import Kind, ResultObject

OLDER_CLASSES = (ComprehensiveSRStorage, EnhancedSRStorage)
"""To be tried in this order."""

_NAMES = {ComprehensiveSRStorage: "sr-comprehensive.dcm", EnhancedSRStorage: "sr-enhanced.dcm"}


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
    dataset.SOPInstanceUID = hashed_uid(report.sop_instance_uid, sop_class_uid)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path = report.path.with_name(_NAMES[dataset.SOPClassUID])
    part = path.with_name(f"{path.name}.part")
    write_durably(dataset, part)
    part.replace(path)
    flush_folder(path.parent)
    return result_object(Kind.SR, dataset, path)
