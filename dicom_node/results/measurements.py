"""The measurement groups of the report (TID 1411, 1410 and 1501 of PS3.16).

A viewer that merges groups by their tracking UID needs image coordinates in each merged
group, or shows nothing at all: hence two groups per lesion, one of them planar, and
coordinates for the detector too.
"""

from __future__ import annotations

import cv2
import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CoordinatesForMeasurement,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    ReferencedSegment,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.analysis.findings import Findings, Lesion
from dicom_node.results import codes
from dicom_node.results.identity import ascii_text
from dicom_node.results.marks import tracking_identifier, tracking_uid
from dicom_node.results.provenance import MANUFACTURER, Provenance
from dicom_node.results.segmentation import algorithm_parameters
from dicom_node.series.volume import MRVolume

Group = (
    PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
    | MeasurementsAndQualitativeEvaluations
)

_FINE = 3
"""Sub-pixels per pixel side when an outline is traced: the smallest number that gives a
single pixel an outline with an area."""


_BRACKET = 0.04
"""Depth of the mark at the detector's slice, as a part of the image's width."""


def measurement_groups(
    volume: MRVolume, findings: Findings, provenance: Provenance, segmentation: Dataset | None
) -> list[Group]:
    """Make the groups of all lesions, then that of the detector.

    Parameters
    ----------
    segmentation : the SEG that holds the lesions, or None where none is made
    """
    algorithm = _algorithm(findings)
    groups: list[Group] = []
    for lesion in findings.lesions:
        tracking = TrackingIdentifier(
            uid=tracking_uid(lesion, provenance),
            identifier=tracking_identifier(lesion, findings.algorithm.finding),
        )
        if segmentation is not None:
            groups.append(_volumetric(lesion, tracking, algorithm, segmentation, provenance))
        groups.append(
            _planar(lesion, tracking, algorithm, volume, findings, with_volume=segmentation is None)
        )
    groups.append(_detector(volume, findings, provenance, algorithm))
    return groups


def outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Trace the largest connected part of a mask, (rows, columns).

    Returns
    -------
    (n, 2) : closed, (column, row) in image coordinates, where the first pixel's upper left
        corner is (0, 0) and its centre (0.5, 0.5) (PS3.3 C.18.6.1.1)
    """
    fine = mask.astype(np.uint8).repeat(_FINE, axis=0).repeat(_FINE, axis=1)
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = max(contours, key=cv2.contourArea)[:, 0, :]
    points = (np.vstack([largest, largest[:1]]) + 0.5) / _FINE
    result: NDArray[np.float64] = points.astype(np.float64)
    return result


def _algorithm(findings: Findings) -> AlgorithmIdentification:
    """TID 4019."""
    algorithm = findings.algorithm
    return AlgorithmIdentification(
        name=ascii_text(algorithm.name, 64),
        version=ascii_text(algorithm.version, 64),
        parameters=[f"{ascii_text(n)}={ascii_text(v)}" for n, v in algorithm_parameters(findings)],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=MANUFACTURER,
    )


def _volumetric(
    lesion: Lesion,
    tracking: TrackingIdentifier,
    algorithm: AlgorithmIdentification,
    segmentation: Dataset,
    provenance: Provenance,
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    """TID 1411: the segment, its volume and the segmenter's probabilities."""
    segment = ReferencedSegment(
        sop_class_uid=segmentation.SOPClassUID,
        sop_instance_uid=segmentation.SOPInstanceUID,
        segment_number=lesion.number,
        source_series=SourceSeriesForSegmentation(provenance.source.series_instance_uid),
    )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_segment=segment,
        finding_type=codes.finding_type(provenance.algorithm.finding),
        finding_category=codes.ABNORMAL_STRUCTURE,
        finding_sites=[FindingSite(codes.BRAIN)],
        algorithm_id=algorithm,
        measurements=[
            Measurement(codes.VOLUME, round(lesion.volume_ml, 4), codes.CUBIC_CENTIMETRE),
            *_probabilities(lesion),
        ],
    )


def _planar(
    lesion: Lesion,
    tracking: TrackingIdentifier,
    algorithm: AlgorithmIdentification,
    volume: MRVolume,
    findings: Findings,
    *,
    with_volume: bool,
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """TID 1410: the outline on the slice of the largest area, and the two axes there."""
    index = lesion.largest_slice
    region = ImageRegion(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=outline(findings.labels[index] == lesion.number),
        source_image=_region_source(volume, index),
    )
    measurements = [
        Measurement(codes.LONG_AXIS, round(lesion.long_axis.length_mm, 2), codes.MILLIMETRE),
        Measurement(
            codes.PERPENDICULAR_AXIS, round(lesion.perpendicular_axis.length_mm, 2), codes.MILLIMETRE
        ),
    ]
    if with_volume:
        measurements += [
            Measurement(codes.VOLUME, round(lesion.volume_ml, 4), codes.CUBIC_CENTIMETRE),
            *_probabilities(lesion),
        ]
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_region=region,
        finding_type=codes.finding_type(findings.algorithm.finding),
        finding_category=codes.ABNORMAL_STRUCTURE,
        finding_sites=[FindingSite(codes.BRAIN)],
        algorithm_id=algorithm,
        measurements=measurements,
    )


def _detector(
    volume: MRVolume, findings: Findings, provenance: Provenance, algorithm: AlgorithmIdentification
) -> MeasurementsAndQualitativeEvaluations:
    """TID 1501: what the detector says of the series, shown on its most certain slice, and of each slice.

    Its images are the slices that it called positive, or the most certain one where it called none.
    """
    index, finding = findings.top_slice, findings.algorithm.finding
    rows, columns = volume.shape[1:]
    named = [int(positive) for positive in np.flatnonzero(findings.slice_positive)] or [index]
    frames = [volume.frames[each] for each in named]
    # The detector judges a slice, not a place in it: its coordinates are a bracket along the left edge.
    # Viewers write to the right of what is drawn, which for the whole border is outside of the image
    depth = _BRACKET * columns
    border = CoordinatesForMeasurement(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=np.array([[depth, 0], [0, 0], [0, rows], [depth, rows]], np.float64),
        source_image=_region_source(volume, index),
    )
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=provenance.uid("tracking detector"), identifier=f"{finding.title} detector, whole series"
        ),
        finding_type=codes.finding_type(finding),
        finding_sites=[FindingSite(codes.BRAIN)],
        algorithm_id=algorithm,
        source_images=[
            SourceImageForMeasurementGroup(
                frame.sop_class_uid, frame.sop_instance_uid, _frame_numbers(frame.frame_number)
            )
            for frame in frames
        ],
        measurements=[
            Measurement(
                codes.CERTAINTY,
                _percent(float(findings.slice_probability[index])),
                codes.PERCENT,
                derivation=codes.MAXIMUM,
                referenced_coordinates=[border],
            ),
            Measurement(codes.POSITIVE_SLICES, int(findings.slice_positive.sum()), codes.SLICES),
        ],
    )


def _probabilities(lesion: Lesion) -> list[Measurement]:
    # two concepts, since viewers show the name of a measurement and not how it was derived
    rows = (
        (codes.MEAN_PROBABILITY, codes.MEAN, lesion.mean_probability),
        (codes.CERTAINTY, codes.MAXIMUM, lesion.maximum_probability),
    )
    return [Measurement(name, _percent(value), codes.PERCENT, derivation=how) for name, how, value in rows]


def _percent(probability: float) -> float:
    return round(100.0 * probability, 2)


def _region_source(volume: MRVolume, index: int) -> SourceImageForRegion:
    frame = volume.frames[index]
    return SourceImageForRegion(
        frame.sop_class_uid, frame.sop_instance_uid, _frame_numbers(frame.frame_number)
    )


def _frame_numbers(number: int | None) -> list[int] | None:
    return None if number is None else [number]
