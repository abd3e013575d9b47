"""The slices to look at, as a Key Object Selection (PS3.3 A.35.4, TID 2010 of PS3.16).

It names images of the source only, never another result: so it is right for an archive that takes
some of the results and not others.
"""

from __future__ import annotations

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom import Dataset

from dicom_node.analysis.findings import Findings
from dicom_node.results import codes
from dicom_node.results.provenance import MANUFACTURER, RESEARCH_USE, Provenance, stamp, stand_in
from dicom_node.results.report import observer_of
from dicom_node.results.result_set import Kind
from dicom_node.series.volume import FrameReference, MRVolume


def make_key_objects(volume: MRVolume, findings: Findings, provenance: Provenance) -> Dataset:
    """Select the key slices, in their order."""
    keys = [volume.frames[index] for index in key_slices(findings)]
    label = findings.algorithm.finding.label
    images = [_stand_in_of(frame, provenance) for frame in keys]
    content = KeyObjectSelection(
        document_title=codes.OF_INTEREST,
        referenced_objects=images,
        observer_device_context=observer_of(provenance),
        description=f"Slices on which the models see most of each region of {label}. {RESEARCH_USE}.",
    )
    content[0].ContinuityOfContent = "SEPARATE"
    items = content[0].ContentSequence
    for item, frame in zip((i for i in items if i.ValueType == "IMAGE"), keys, strict=True):
        if frame.frame_number is not None:
            item.ReferencedSOPSequence[0].ReferencedFrameNumber = frame.frame_number
    made = KeyObjectSelectionDocument(
        evidence=list({image.SOPInstanceUID: image for image in images}.values()),
        content=content,
        series_instance_uid=provenance.series_uid(Kind.KOS),
        series_number=1,
        sop_instance_uid=provenance.instance_uid(Kind.KOS),
        instance_number=1,
        manufacturer=MANUFACTURER,
    )
    stamp(made, provenance, Kind.KOS)
    return made


def key_slices(findings: Findings) -> list[int]:
    """The largest slice of each region; the detector's top slice where it alone sees something."""
    if findings.lesions:
        return sorted({lesion.largest_slice for lesion in findings.lesions})
    return [findings.top_slice] if findings.slice_positive.any() else []


def _stand_in_of(frame: FrameReference, provenance: Provenance) -> Dataset:
    ds = stand_in(provenance)
    ds.SOPClassUID = frame.sop_class_uid
    ds.SOPInstanceUID = frame.sop_instance_uid
    ds.Rows = ds.Columns = 1  # that it is an image is all that is asked
    return ds
