"""Proof that a result lies where the findings lie: two ways to each place must agree.

One way goes from the label array through the volume's affine. The other goes only through
what the written object says: its functional groups, or the image and the coordinates that it
refers to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.analysis.findings import Findings, Lesion
from dicom_node.errors import ResultInvalid
from dicom_node.results import codes
from dicom_node.series.volume import MRVolume

_TOLERANCE_VOXELS = 0.5
_TOLERANCE_ML = 1e-3


class Place(NamedTuple):
    """Where a lesion is by its labels: number of voxels and centroid in mm (LPS)."""

    voxels: int
    centroid_mm: NDArray[np.float64]


Places = Mapping[int, Place]


def places_of(volume: MRVolume, labels: NDArray[np.uint16]) -> dict[int, Place]:
    """Where each label is, by the volume's affine."""
    counts: defaultdict[int, int] = defaultdict(int)
    sums: defaultdict[int, NDArray[np.float64]] = defaultdict(lambda: np.zeros(3))
    for index in np.flatnonzero(labels.any(axis=(1, 2))):
        rows, columns = np.nonzero(labels[index])
        values = labels[index][rows, columns]
        for number in np.unique(values):
            own = values == number
            count = int(np.count_nonzero(own))
            counts[int(number)] += count
            sums[int(number)] += (index * count, rows[own].sum(), columns[own].sum())
    return {n: Place(counts[n], volume.patient_mm((sums[n] / counts[n])[None])[0]) for n in counts}


def prove_segments(segmentation: Dataset, volume: MRVolume, findings: Findings, places: Places) -> None:
    """Each segment has the voxels and the centroid of its lesion, and no lesion is missing.

    Raises
    ------
    ResultInvalid
        Names the segment and what differs.
    """
    frames = segmentation.pixel_array.reshape(-1, *volume.shape[1:])
    slice_of = _slices_by_frame(volume)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    counts: defaultdict[int, int] = defaultdict(int)
    moments: defaultdict[int, NDArray[np.float64]] = defaultdict(lambda: np.zeros(3))
    for mask, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        identification = _macro("SegmentIdentificationSequence", groups, shared)  # shared by one segment
        number = int(identification.ReferencedSegmentNumber)
        index = slice_of[_named(groups.DerivationImageSequence[0].SourceImageSequence[0])]
        if not np.array_equal(mask.view(np.bool_), findings.labels[index] == number):
            raise ResultInvalid(f"seg: a frame of segment {number} is not its lesion on the source slice")
        counts[number] += int(np.count_nonzero(mask))
        moments[number] += _moment_mm(mask, groups, shared)
    if counts.keys() != places.keys():
        raise ResultInvalid("seg: its segments are not the lesions")
    to_voxels = np.linalg.inv(volume.affine[:3, :3])
    for number, (count, centroid_mm) in places.items():
        if counts[number] != count:
            raise ResultInvalid(f"seg: segment {number} has not as many voxels as its lesion")
        apart = np.abs(to_voxels @ (moments[number] / count - centroid_mm))
        if not (apart <= _TOLERANCE_VOXELS).all():
            raise ResultInvalid(f"seg: the centroid of segment {number} is {apart.max():.1f} voxels off")


def prove_map(made: Dataset, volume: MRVolume, findings: Findings) -> None:
    """Each frame holds the probabilities of its source slice, and lies where it lies; none is missing.

    The centre of all probability is computed from the frames' functional groups and real world
    values, and held against the array and the volume's affine.

    Raises
    ------
    ResultInvalid
        Says what differs.
    """
    frames = np.frombuffer(made.FloatPixelData, "<f4").reshape(-1, *volume.shape[1:])
    slice_of = _slices_by_frame(volume)
    shared = made.SharedFunctionalGroupsSequence[0]
    seen: list[int] = []
    total, moment = 0.0, np.zeros(3)
    for values, groups in zip(frames, made.PerFrameFunctionalGroupsSequence, strict=True):
        mapping = _macro("RealWorldValueMappingSequence", groups, shared)
        real = values.astype(np.float64) * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
        index = slice_of[_named(groups.DerivationImageSequence[0].SourceImageSequence[0])]
        if not np.array_equal(real, findings.probability[index]):
            raise ResultInvalid("pm: a frame does not hold the probabilities of its source slice")
        seen.append(index)
        total += float(real.sum())
        moment += _moment_mm(real, groups, shared)
    if seen != list(range(len(volume.frames))):
        raise ResultInvalid("pm: its frames are not the slices of the source, each once and in their order")
    if total == 0.0:
        return
    per_row = findings.probability.sum(axis=2, dtype=np.float64)
    per_column = findings.probability.sum(axis=1, dtype=np.float64)
    indices = (
        per_row.sum(axis=1) @ np.arange(len(seen)),
        per_row.sum(axis=0) @ np.arange(per_row.shape[1]),
        per_column.sum(axis=0) @ np.arange(per_column.shape[1]),
    )
    apart = moment / total - volume.patient_mm(np.array([indices]) / total)[0]
    off = np.abs(np.linalg.inv(volume.affine[:3, :3]) @ apart).max()
    if not off <= _TOLERANCE_VOXELS:
        raise ResultInvalid(f"pm: the centre of its probabilities is {off:.1f} voxels off")


def prove_key_images(selection: Dataset, volume: MRVolume, findings: Findings) -> None:
    """What is selected is the largest slice of each lesion, or the detector's top slice.

    Raises
    ------
    ResultInvalid
        It is another image.
    """
    wanted = {lesion.largest_slice for lesion in findings.lesions} or {findings.top_slice}
    frames = {(volume.frames[i].sop_instance_uid, volume.frames[i].frame_number) for i in wanted}
    images = (item for item in selection.ContentSequence if item.ValueType == "IMAGE")
    if {_named(item.ReferencedSOPSequence[0]) for item in images} != frames:
        raise ResultInvalid("kos: it does not select the slices with findings")


def prove_report_places(report: Dataset, volume: MRVolume, findings: Findings, places: Places) -> None:
    """Each lesion's volume and outline in the report are those of the labels.

    Raises
    ------
    ResultInvalid
        Names the lesion and what differs.
    """
    title = findings.algorithm.finding.title
    by_name = {f"{title} {lesion.number}": lesion for lesion in findings.lesions}
    outlined: set[str] = set()
    measured: set[str] = set()
    for group in _groups(report):
        name = next((str(i.TextValue) for i in group.ContentSequence if i.ValueType == "TEXT"), "")
        if (lesion := by_name.get(name)) is None:
            continue
        for item in group.ContentSequence:
            if item.ValueType == "SCOORD":
                _prove_outline(item, lesion, volume, findings)
                outlined.add(name)
            elif item.ValueType == "NUM" and _concept(item) == codes.VOLUME.value:
                _prove_volume(item, lesion, places[lesion.number].voxels * volume.voxel_ml)
                measured.add(name)
    if outlined != by_name.keys() or measured != by_name.keys():
        raise ResultInvalid("sr: not every lesion has an outline and a volume")


def _slices_by_frame(volume: MRVolume) -> dict[tuple[str, int | None], int]:
    return {(f.sop_instance_uid, f.frame_number): index for index, f in enumerate(volume.frames)}


def _named(reference: Dataset) -> tuple[str, int | None]:
    """Instance and frame that a reference names."""
    number = reference.get("ReferencedFrameNumber")
    return str(reference.ReferencedSOPInstanceUID), None if number is None else int(number)


def _macro(keyword: str, groups: Dataset, shared: Dataset) -> Dataset:
    """A functional group macro of a frame, its own or the shared one (PS3.3 C.7.6.16.1.1)."""
    found: Dataset = (groups if keyword in groups else shared)[keyword][0]
    return found


def _moment_mm(
    weights: NDArray[np.uint8 | np.float64], groups: Dataset, shared: Dataset
) -> NDArray[np.float64]:
    """Sum of the positions of a frame's voxels, by PS3.3 C.7.6.2.1.1 from its functional groups.

    Parameters
    ----------
    weights : of each voxel, (rows, columns); of a mask 0 and 1
    """
    plane = _macro("PlanePositionSequence", groups, shared)
    origin = np.array(plane.ImagePositionPatient, np.float64)
    orientation = _macro("PlaneOrientationSequence", groups, shared)
    cosines = np.array(orientation.ImageOrientationPatient, np.float64)
    measures = _macro("PixelMeasuresSequence", groups, shared)
    row_mm, column_mm = (float(value) for value in measures.PixelSpacing)
    per_row = weights.sum(axis=1, dtype=np.float64)
    per_column = weights.sum(axis=0, dtype=np.float64)
    along_row = cosines[:3] * column_mm * (per_column @ np.arange(per_column.size))
    along_column = cosines[3:] * row_mm * (per_row @ np.arange(per_row.size))
    moment: NDArray[np.float64] = origin * per_row.sum() + along_row + along_column
    return moment


def _groups(report: Dataset) -> Iterator[Dataset]:
    """Measurement Group containers of the Imaging Measurements (TID 1500)."""
    for item in report.ContentSequence:
        if item.ValueType == "CONTAINER" and _concept(item) == codes.IMAGING_MEASUREMENTS.value:
            yield from item.ContentSequence


def _concept(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def _prove_outline(item: Dataset, lesion: Lesion, volume: MRVolume, findings: Findings) -> None:
    """The outline refers to the lesion's largest slice and fits into its bounding box there."""
    frame = volume.frames[lesion.largest_slice]
    if _named(item.ContentSequence[0].ReferencedSOPSequence[0]) != (
        frame.sop_instance_uid,
        frame.frame_number,
    ):
        raise ResultInvalid(f"sr: the outline of lesion {lesion.number} refers to another slice")
    points = np.array(item.GraphicData, np.float64).reshape(-1, 2)
    rows, columns = np.nonzero(findings.labels[lesion.largest_slice] == lesion.number)
    if rows.size == 0:
        raise ResultInvalid(f"sr: lesion {lesion.number} is not on the slice of its outline")
    # a pixel reaches from its index to its index + 1 (PS3.3 C.18.6.1.1)
    low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
    if not ((points >= low).all() and (points <= high).all()):
        raise ResultInvalid(f"sr: the outline of lesion {lesion.number} leaves the lesion")


def _prove_volume(item: Dataset, lesion: Lesion, counted_ml: float) -> None:
    stated = float(item.MeasuredValueSequence[0].NumericValue)
    if abs(stated - counted_ml) > max(_TOLERANCE_ML, 1e-3 * counted_ml):
        raise ResultInvalid(f"sr: the volume of lesion {lesion.number} is not that of its voxels")
