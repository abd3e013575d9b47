"""What lies on the grid of the source, slice by slice, and what each frame was made from.

highdicom sorts frames by position and is free to do so: what a frame was made from is in its
Derivation Image functional group, and that is where readers must look.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from dicom_node.results.provenance import MANUFACTURER, Provenance, stand_in
from dicom_node.results.result_set import Kind
from dicom_node.series.headers import Frame
from dicom_node.series.volume import FrameReference, MRVolume

_REFERENCED_SOP_CLASS_UID = Tag("ReferencedSOPClassUID")
_REFERENCED_SOP_INSTANCE_UID = Tag("ReferencedSOPInstanceUID")


def arguments(volume: MRVolume, used: range, provenance: Provenance, kind: Kind) -> dict[str, Any]:
    """Give what highdicom wants for SEG and Parametric Map alike; `stamp` corrects the equipment."""
    return {
        "source_images": slice_stand_ins(volume, used, provenance),
        "series_instance_uid": provenance.series_uid(kind),
        "series_number": 1,
        "sop_instance_uid": provenance.instance_uid(kind),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MANUFACTURER,
        "software_versions": "0",
        "device_serial_number": "0",
    }


def slice_stand_ins(volume: MRVolume, used: range, provenance: Provenance) -> list[Dataset]:
    """One single-frame header per slice, also where the slices are frames of one instance.

    All have the first slice's orientation: scanners write it with a jitter in the last digits,
    which highdicom takes for several stacks.
    """
    first = plane_of(volume, 0)
    slice_mm = format_number_as_ds(volume.spacing_mm[0])
    made = []
    for index in used:
        ds = stand_in(provenance)
        ds.SOPClassUID = MRImageStorage
        ds.SOPInstanceUID = _stand_in_uid(index)
        ds.FrameOfReferenceUID = frame_of_reference_uid(provenance)
        ds.Rows, ds.Columns = volume.shape[1:]
        ds.ImageOrientationPatient = first.ImageOrientationPatient
        ds.PixelSpacing = first.PixelSpacing
        ds.SliceThickness = first.get("SliceThickness") or slice_mm
        ds.SpacingBetweenSlices = slice_mm
        ds.ImagePositionPatient = plane_of(volume, index).ImagePositionPatient
        made.append(ds)
    return made


def _stand_in_uid(index: int) -> str:
    return f"2.25.{index + 1}"


def frame_of_reference_uid(provenance: Provenance) -> str:
    """The source's, or one of our own for a source that has none."""
    return str(
        provenance.source.header.get("FrameOfReferenceUID") or provenance.lasting_uid("frame of reference")
    )


def plane_of(volume: MRVolume, index: int) -> Dataset:
    """Position, orientation and spacing of one slice, with the digits that the source wrote.

    Read as the volume's geometry was: from the Image Plane module (PS3.3 C.7.6.2) of a single-frame source
    or the functional groups (PS3.3 C.7.6.16) of a multi-frame one. Without a thickness above 0 it has none.
    """
    number = volume.frames[index].frame_number
    frame = Frame(Path(), volume.header_of(index), 0 if number is None else number - 1)
    plane = Dataset()
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        setattr(plane, keyword, frame.get(keyword))
    thickness_mm = frame.number("SliceThickness")
    if thickness_mm is not None and 0 < thickness_mm < math.inf:
        plane.SliceThickness = format_number_as_ds(thickness_mm)
    return plane


def refer_to_source(made: Dataset, volume: MRVolume, provenance: Provenance) -> None:
    """Put references to the source in the place of those to the stand-ins."""
    frames = {_stand_in_uid(index): frame for index, frame in enumerate(volume.frames)}
    for groups in made.PerFrameFunctionalGroupsSequence:
        for derivation in groups.DerivationImageSequence:
            for item in derivation.SourceImageSequence:
                # segments that share a slice share the item: it may be done already
                if (frame := frames.get(item.ReferencedSOPInstanceUID)) is not None:
                    _refer(item, frame)
    instances = [image_reference(i.sop_class_uid, i.sop_instance_uid) for i in provenance.source.instances]
    series = Dataset()
    series.SeriesInstanceUID = provenance.source.series_instance_uid
    series.ReferencedInstanceSequence = instances
    made.ReferencedSeriesSequence = [series]
    # the same list again, without a purpose that few readers know
    made.pop("SourceImageSequence", None)


def image_reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """SOP Instance Reference macro (PS3.3 10.8)."""
    item = Dataset()
    # added as elements: there are hundreds, and attributes are looked up by their names
    item.add(DataElement(_REFERENCED_SOP_CLASS_UID, "UI", UID(sop_class_uid), already_converted=True))
    item.add(DataElement(_REFERENCED_SOP_INSTANCE_UID, "UI", UID(sop_instance_uid), already_converted=True))
    return item


def _refer(item: Dataset, frame: FrameReference) -> None:
    item.ReferencedSOPClassUID = frame.sop_class_uid
    item.ReferencedSOPInstanceUID = frame.sop_instance_uid
    if frame.frame_number is not None:
        item.ReferencedFrameNumber = frame.frame_number


def name_dimensions(made: Dataset, uid: str) -> None:
    """Replace the random UID of the dimension organization (PS3.3 C.7.6.17)."""
    for item in made.DimensionOrganizationSequence:
        item.DimensionOrganizationUID = uid
    for item in made.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid
