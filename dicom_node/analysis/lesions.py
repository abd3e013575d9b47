"""From probabilities to lesions: connected regions in 3-D with their measurements."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.analysis.findings import Axis, Lesion
from dicom_node.series.volume import MRVolume

_TOUCHING = np.ones((3, 3, 3), bool)  # 26-connected: regions that meet at an edge or corner are one


def find_lesions(
    volume: MRVolume,
    probability: NDArray[np.float32],
    threshold: float,
    minimum_ml: float,
    on_slices: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.uint16], tuple[Lesion, ...]]:
    """Separate and measure the connected regions at or above the threshold.

    Parameters
    ----------
    volume : the grid
    probability : float32, (slices, rows, columns)
    threshold : 0 to 1
    minimum_ml : smaller regions are dropped
    on_slices : bool, (slices,)
        A region that reaches none of these is dropped.

    Returns
    -------
    labels : uint16, (slices, rows, columns)
        0, or the number of the lesion.
    lesions : largest first, numbered from 1
    """
    regions, count = ndimage.label(probability >= threshold, _TOUCHING)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    wanted = sizes * volume.voxel_ml >= minimum_ml
    if on_slices is not None:
        wanted &= np.bincount(regions[on_slices].ravel(), minlength=count + 1)[1:] > 0
    kept = [i for i in np.argsort(-sizes, kind="stable") if wanted[i]]
    numbers = np.zeros(count + 1, np.uint16)
    for number, index in enumerate(kept, start=1):
        numbers[index + 1] = number
    labels = numbers[regions]
    boxes = ndimage.find_objects(labels.astype(np.int32), max_label=len(kept))
    lesions = tuple(
        _measure(volume, probability[box], labels[box] == number, box, number)
        for number, box in enumerate(boxes, start=1)
    )
    return labels, lesions


def _measure(
    volume: MRVolume,
    probability: NDArray[np.float32],
    inside: NDArray[np.bool_],
    box: tuple[slice, slice, slice],
    number: int,
) -> Lesion:
    """Measure a lesion from what lies in its box."""
    origin = np.array([side.start for side in box], float)
    voxels = np.argwhere(inside) + origin
    centroid = volume.patient_mm(voxels.mean(axis=0)[None])[0]
    values = probability[inside]
    largest = int(np.count_nonzero(inside, axis=(1, 2)).argmax())
    _, row_mm, column_mm = volume.spacing_mm
    long_axis, perpendicular = measure_axes(inside[largest], row_mm, column_mm)
    offset = (float(origin[1]), float(origin[2]))
    return Lesion(
        number=number,
        volume_ml=len(voxels) * volume.voxel_ml,
        centroid_mm=(float(centroid[0]), float(centroid[1]), float(centroid[2])),
        slices=(box[0].start, box[0].stop - 1),
        largest_slice=box[0].start + largest,
        long_axis=_shift(long_axis, offset),
        perpendicular_axis=_shift(perpendicular, offset),
        mean_probability=float(values.mean()),
        maximum_probability=float(values.max()),
    )


def _shift(axis: Axis, by: tuple[float, float]) -> Axis:
    (r0, c0), (r1, c1) = axis.start, axis.end
    return Axis((r0 + by[0], c0 + by[1]), (r1 + by[0], c1 + by[1]), axis.length_mm)


def measure_axes(mask: NDArray[np.bool_], row_mm: float, column_mm: float) -> tuple[Axis, Axis]:
    """Measure the longest diameter of a region on a slice, and the longest chord square to it.

    A region reaches to the edges of its pixels, so that a row of n pixels is n pixels long.

    Parameters
    ----------
    mask : bool, (rows, columns), at least one pixel set
    row_mm, column_mm : distance between rows and between columns

    Returns
    -------
    long axis, perpendicular axis
    """
    scale = np.array([row_mm, column_mm])
    hull = _hull_mm(mask, scale)
    spans = np.linalg.norm(hull[:, None] - hull[None], axis=2)
    i, j = np.unravel_index(spans.argmax(), spans.shape)
    along = (hull[j] - hull[i]) / spans[i, j]
    square = np.array([-along[1], along[0]])
    chords = [_chord(hull, vertex, along, square) for vertex in hull]
    start, end = max(chords, key=lambda chord: float(np.linalg.norm(chord[1] - chord[0])))
    return _axis(hull[i], hull[j], scale), _axis(start, end, scale)


def _hull_mm(mask: NDArray[np.bool_], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convex hull of the pixels' edge midpoints, (n, 2) as (row, column) in mm."""
    pixels = np.argwhere(mask)
    steps = np.array([[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]])
    midpoints = (pixels[:, None] + steps[None]).reshape(-1, 2) * scale
    hull = cv2.convexHull(midpoints.astype(np.float32))
    return np.asarray(hull, np.float64).reshape(-1, 2)


def _chord(
    hull: NDArray[np.float64],
    vertex: NDArray[np.float64],
    along: NDArray[np.float64],
    square: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cut the hull by the line through a vertex, square to the long axis."""
    crossings = list(_crossings(hull, vertex, along))
    reach = [float((point - vertex) @ square) for point in crossings]
    return crossings[int(np.argmin(reach))], crossings[int(np.argmax(reach))]


def _crossings(
    hull: NDArray[np.float64], vertex: NDArray[np.float64], along: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    height = (hull - vertex) @ along
    height[np.abs(height) < 1e-6] = 0.0
    yield from hull[height == 0]
    for k in range(len(hull)):
        here, there = height[k], height[(k + 1) % len(hull)]
        if here * there < 0:
            yield hull[k] + (hull[(k + 1) % len(hull)] - hull[k]) * (here / (here - there))


def _axis(start: NDArray[np.float64], end: NDArray[np.float64], scale: NDArray[np.float64]) -> Axis:
    first, last = start / scale, end / scale
    length = float(np.linalg.norm(end - start))
    return Axis((float(first[0]), float(first[1])), (float(last[0]), float(last[1])), length)
