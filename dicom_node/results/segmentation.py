"""The lesions as a BINARY Segmentation (PS3.3 A.51) on the grid of the source.

BINARY, because viewers of today hang on FRACTIONAL or draw LABELMAP black.
"""

from __future__ import annotations

from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from pydicom import Dataset

from dicom_node.analysis.findings import Findings, Lesion
from dicom_node.results import codes
from dicom_node.results.identity import ascii_text
from dicom_node.results.marks import colour_of, tracking_identifier, tracking_uid
from dicom_node.results.provenance import MANUFACTURER, Provenance, stamp
from dicom_node.results.result_set import Kind
from dicom_node.results.source_grid import arguments, name_dimensions, refer_to_source
from dicom_node.series.volume import MRVolume


def make_segmentation(volume: MRVolume, findings: Findings, provenance: Provenance) -> Dataset:
    """Make one segment per lesion; frames without a voxel are left out."""
    last = max(lesion.slices[1] for lesion in findings.lesions)
    first = min(lesion.slices[0] for lesion in findings.lesions)
    used = range(first, last + 1)
    segmentation = Segmentation(
        **arguments(volume, used, provenance, Kind.SEG),
        pixel_array=findings.labels[first : last + 1],
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(lesion, findings, provenance) for lesion in findings.lesions],
        content_label="TUMOUR",
        content_description=f"Regions that the segmenter called {findings.algorithm.finding.label}",
    )
    refer_to_source(segmentation, volume, provenance)
    name_dimensions(segmentation, provenance.uid("seg dimensions"))
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
        display_color=colour_of(lesion.number),
    )


def algorithm_parameters(findings: Findings) -> tuple[tuple[str, str], ...]:
    """What decided the outcome, the weights included."""
    return (*findings.algorithm.parameters, ("weights_sha256", findings.algorithm.weights_sha256))
