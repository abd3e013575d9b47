"""The lesions as a BINARY Segmentation (PS3.3 A.51) on the grid of the source.

BINARY, because viewers of today hang on FRACTIONAL or draw LABELMAP black.
"""

from __future__ import annotations

from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from pydicom import Dataset
from pydicom.uid import MRImageStorage
from pydicom.valuerep import format_number_as_ds

from dicom_node.analysis.finding_kind import FindingKind
from dicom_node.analysis.findings import Findings, Lesion
from dicom_node.results import codes
from dicom_node.results.identity import ascii_text
from dicom_node.results.provenance import MANUFACTURER, Provenance, stamp, stand_in
from dicom_node.results.result_set import Kind
from dicom_node.series.volume import FrameReference, MRVolume

_COLOURS = (
    CIELabColor(54.0, 81.0, 70.0),  # red, for the largest lesion
    CIELabColor(88.0, -79.0, 81.0),  # green
    CIELabColor(97.0, -16.0, 93.0),  # yellow
    CIELabColor(91.0, -51.0, -15.0),  # cyan
    CIELabColor(60.0, 93.0, -61.0),  # magenta
    CIELabColor(75.0, 24.0, 79.0),  # orange
)


def tracking_identifier(lesion: Lesion, finding: FindingKind) -> str:
    """The name that a lesion has in the SEG and in the SR."""
    return f"{finding.title} {lesion.number}"


def tracking_uid(lesion: Lesion, provenance: Provenance) -> str:
    """The UID that a lesion has in the SEG and in the SR."""
    return provenance.uid(f"tracking {lesion.number}")


def make_segmentation(volume: MRVolume, findings: Findings, provenance: Provenance) -> Dataset:
    """Make one segment per lesion; frames without a voxel are left out.

    highdicom sorts frames by position and is free to do so: what a frame was made from is in
    its Derivation Image functional group, and that is where readers must look.
    """
    last = max(lesion.slices[1] for lesion in findings.lesions)
    first = min(lesion.slices[0] for lesion in findings.lesions)
    used = range(first, last + 1)
    segmentation = Segmentation(
        source_images=_slice_stand_ins(volume, used, provenance),
        pixel_array=findings.labels[first : last + 1],
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(lesion, findings, provenance) for lesion in findings.lesions],
        series_instance_uid=provenance.series_uid(Kind.SEG),
        series_number=1,
        sop_instance_uid=provenance.instance_uid(Kind.SEG),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions="0",
        device_serial_number="0",
        content_label="TUMOUR",
        content_description=f"Regions that the segmenter called {findings.algorithm.finding.label}",
    )
    _refer_to_source(segmentation, volume, provenance)
    _name_dimensions(segmentation, provenance.uid("seg dimensions"))
    stamp(segmentation, provenance, Kind.SEG)
    return segmentation


def _describe(lesion: Lesion, findings: Findings, provenance: Provenance) -> SegmentDescription:
    """Segment Description macro (PS3.3 C.8.20.4)."""
    algorithm = findings.algorithm
    identification = AlgorithmIdentificationSequence(
        name=ascii_text(algorithm.name, 64),
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=ascii_text(algorithm.version, 64),
        source=MANUFACTURER,
        parameters={ascii_text(name): ascii_text(value) for name, value in algorithm_parameters(findings)},
    )
    return SegmentDescription(
        segment_number=lesion.number,
        segment_label=tracking_identifier(lesion, algorithm.finding),
        segmented_property_category=codes.ABNORMAL_STRUCTURE,
        segmented_property_type=codes.finding_type(algorithm.finding),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=identification,
        tracking_uid=tracking_uid(lesion, provenance),
        tracking_id=tracking_identifier(lesion, algorithm.finding),
        anatomic_regions=[codes.BRAIN],
        display_color=_COLOURS[(lesion.number - 1) % len(_COLOURS)],
    )


def algorithm_parameters(findings: Findings) -> tuple[tuple[str, str], ...]:
    """What decided the outcome, the weights included."""
    return (*findings.algorithm.parameters, ("weights_sha256", findings.algorithm.weights_sha256))


def _slice_stand_ins(volume: MRVolume, used: range, provenance: Provenance) -> list[Dataset]:
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

    From the Image Plane module (PS3.3 C.7.6.2) of a single-frame source or the functional
    groups (PS3.3 C.7.6.16) of a multi-frame one.
    """
    number = volume.frames[index].frame_number
    if number is None:
        return volume.headers[index]
    header = volume.headers[0]
    groups = (header.PerFrameFunctionalGroupsSequence[number - 1], header.SharedFunctionalGroupsSequence[0])
    plane = Dataset()
    for macro in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
        plane.update(next(group[macro][0] for group in groups if macro in group))
    return plane


def _refer_to_source(segmentation: Dataset, volume: MRVolume, provenance: Provenance) -> None:
    """Put references to the source in the place of those to the stand-ins."""
    frames = {_stand_in_uid(index): frame for index, frame in enumerate(volume.frames)}
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        for derivation in groups.DerivationImageSequence:
            for item in derivation.SourceImageSequence:
                # segments that share a slice share the item: it may be done already
                if (frame := frames.get(item.ReferencedSOPInstanceUID)) is not None:
                    _refer(item, frame)
    instances = [image_reference(i.sop_class_uid, i.sop_instance_uid) for i in provenance.source.instances]
    series = Dataset()
    series.SeriesInstanceUID = provenance.source.series_instance_uid
    series.ReferencedInstanceSequence = instances
    segmentation.ReferencedSeriesSequence = [series]
    # the same list again, without a purpose that few readers know
    segmentation.pop("SourceImageSequence", None)


def image_reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """SOP Instance Reference macro (PS3.3 10.8)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def _refer(item: Dataset, frame: FrameReference) -> None:
    item.ReferencedSOPClassUID = frame.sop_class_uid
    item.ReferencedSOPInstanceUID = frame.sop_instance_uid
    if frame.frame_number is not None:
        item.ReferencedFrameNumber = frame.frame_number


def _name_dimensions(segmentation: Dataset, uid: str) -> None:
    """Replace the random UID of the dimension organization (PS3.3 C.7.6.17)."""
    for item in segmentation.DimensionOrganizationSequence:
        item.DimensionOrganizationUID = uid
    for item in segmentation.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid
