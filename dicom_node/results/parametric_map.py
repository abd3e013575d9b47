"""The segmenter's probabilities as a Parametric Map (PS3.3 A.75) of floats on the grid of the source.

Floats, because viewers refuse one of 16 bits. It is large: four bytes for each pixel.
"""

from __future__ import annotations

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom import Dataset

from dicom_node.analysis.findings import Findings
from dicom_node.results import codes
from dicom_node.results.provenance import Provenance, stamp
from dicom_node.results.result_set import Kind
from dicom_node.results.source_grid import arguments, name_dimensions, refer_to_source
from dicom_node.series.volume import MRVolume


def make_parametric_map(volume: MRVolume, findings: Findings, provenance: Provenance) -> Dataset:
    """Make one frame for each slice; one that the segmenter did not see is 0 throughout.

    OHIF lays a map over its source only when it has as many frames.
    """
    used = range(len(volume.frames))
    made = ParametricMap(
        **arguments(volume, used, provenance, Kind.PM),
        pixel_array=findings.probability,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_probability(findings)],
        voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label="PROBABILITY",
        content_description=f"Segmenter's probability of {findings.algorithm.finding.label}",
        derivation=codes.SEGMENTED,
    )
    made.ContentCreatorName = None
    made.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_anatomy()]  # dcmqi reads none without
    refer_to_source(made, volume, provenance)
    _order_frames(made, volume)
    name_dimensions(made, provenance.uid("pm dimensions"))
    stamp(made, provenance, Kind.PM)
    return made


def _order_frames(made: Dataset, volume: MRVolume) -> None:
    """Store the frames in the order of the volume's slices.

    highdicom stores them the other way round; dcmqi and OHIF put them into a volume in the order of the file.
    """
    groups = list(made.PerFrameFunctionalGroupsSequence)
    place = {(f.sop_instance_uid, f.frame_number): index for index, f in enumerate(volume.frames)}
    sources = [each.DerivationImageSequence[0].SourceImageSequence[0] for each in groups]
    slices = [place[s.ReferencedSOPInstanceUID, s.get("ReferencedFrameNumber")] for s in sources]
    order = np.argsort(slices)
    frames = np.frombuffer(made.FloatPixelData, np.float32).reshape(len(groups), -1)
    made.FloatPixelData = frames[order].tobytes()
    made.PerFrameFunctionalGroupsSequence = [groups[index] for index in order]
    for number, each in enumerate(made.PerFrameFunctionalGroupsSequence, start=1):
        each.FrameContentSequence[0].DimensionIndexValues = number


def _anatomy() -> Dataset:
    """Frame Anatomy (PS3.3 C.7.6.16.2.8)."""
    region = Dataset()
    region.CodeValue = codes.BRAIN.value
    region.CodingSchemeDesignator = codes.BRAIN.scheme_designator
    region.CodeMeaning = codes.BRAIN.meaning
    item = Dataset()
    item.AnatomicRegionSequence = [region]
    item.FrameLaterality = "U"
    return item


def _probability(findings: Findings) -> RealWorldValueMapping:
    """Real World Value Mapping (PS3.3 C.7.6.16.2.11): the stored value is the probability."""
    return RealWorldValueMapping(
        lut_label="PROBABILITY",
        lut_explanation=f"Probability of {findings.algorithm.finding.label}",
        unit=codes.COUNT,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.PROBABILISTIC_SEGMENTATION,
    )
