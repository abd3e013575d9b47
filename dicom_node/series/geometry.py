"""Order, spacing and affine of a stack of frames, or why it is no volume."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import SeriesRefused
from dicom_node.series.headers import Frame

ORIENTATION_JITTER = 1e-4  # direction cosines within it are one orientation
GAP_TOLERANCE = 0.10  # of the median distance between slices
SPACING_MM = (0.05, 20.0)  # between pixels; outside it the header is wrong
DUPLICATE_MM = 1e-3  # positions nearer than this are the same


@dataclass(frozen=True)
class Stack:
    """Frames that form one volume, ordered along the normal, and its affine.

    Attributes
    ----------
    frames : in slice order
    affine : float64, (4, 4), maps (column, row, slice, 1) to LPS mm (PS3.3 C.7.6.2.1.1)
    remarks : sentences for the report
    """

    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]
    remarks: tuple[str, ...] = ()


def orientation_of(frame: Frame) -> NDArray[np.float64]:
    """Unit vectors along growing column and growing row index, (2, 3).

    Raises
    ------
    SeriesRefused
        When ImageOrientationPatient is missing or is no pair of perpendicular unit vectors.
    """
    cosines = frame.numbers("ImageOrientationPatient", 6)
    if cosines is None:
        raise SeriesRefused("an image has no ImageOrientationPatient: its place in the patient is not known")
    axes = np.array(cosines).reshape(2, 3)
    if not np.isfinite(axes).all() or np.abs(axes @ axes.T - np.eye(2)).max() > 1e-2:
        raise SeriesRefused("ImageOrientationPatient is no pair of perpendicular unit vectors")
    return axes


def position_of(frame: Frame) -> NDArray[np.float64]:
    """Centre of the first pixel in LPS mm, (3,).

    Raises
    ------
    SeriesRefused
        When ImagePositionPatient is missing.
    """
    position = frame.numbers("ImagePositionPatient", 3)
    if position is None or not np.isfinite(position).all():
        raise SeriesRefused("an image has no ImagePositionPatient: its place in the patient is not known")
    return np.array(position)


def matrix_of(frame: Frame) -> tuple[int, int]:
    """Rows and columns.

    Raises
    ------
    SeriesRefused
        When one is missing or zero.
    """
    rows, columns = frame.number("Rows"), frame.number("Columns")
    if not rows or not columns:
        raise SeriesRefused("an image has no Rows or no Columns")
    return int(rows), int(columns)


def order_stack(frames: Sequence[Frame]) -> Stack:
    """Order frames along their normal and prove that they form one volume.

    Raises
    ------
    SeriesRefused
        Names the first thing that frames do not share, or the gap or the duplicate.
    """
    if len(frames) < 2:
        raise SeriesRefused("a single image is no volume: the distance between slices is not known")
    if len({frame.reference for frame in frames}) < len(frames):
        raise SeriesRefused("images have the same SOPInstanceUID: a result could not say which one it means")
    _same(frames, "matrix sizes", matrix_of)
    _same(frames, "frames of reference", lambda f: f.text("FrameOfReferenceUID"))
    spacing = frames[0].numbers("PixelSpacing", 2)
    if spacing is None or not (np.isfinite(spacing).all() and min(spacing) > 0):
        raise SeriesRefused("PixelSpacing is missing or not positive: sizes in mm are not known")
    if not (SPACING_MM[0] <= min(spacing) and max(spacing) <= SPACING_MM[1]):
        raise SeriesRefused(f"PixelSpacing {spacing[0]:g} x {spacing[1]:g} mm is not that of a head")
    _same(frames, "pixel spacings", lambda f: tuple(round(v, 4) for v in f.numbers("PixelSpacing", 2) or ()))

    axes, jitter = _common_orientation(frames)
    normal = np.cross(axes[0], axes[1])
    positions = np.array([position_of(f) for f in frames])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    positions, heights = positions[order], heights[order]
    steps = np.diff(heights)
    if (steps < DUPLICATE_MM).any():
        raise SeriesRefused(f"{int((steps < DUPLICATE_MM).sum()) + 1} images lie at the same position")
    median = float(np.median(steps))
    worst = int(np.abs(steps - median).argmax())
    if abs(steps[worst] - median) > GAP_TOLERANCE * median:
        raise SeriesRefused(
            f"slices {worst + 1} and {worst + 2} are {steps[worst]:.2f} mm apart, others {median:.2f} mm: "
            "a slice is missing or spacing is uneven"
        )
    drift = float(np.abs(heights - np.linspace(heights[0], heights[-1], len(heights))).max())
    if drift > median / 2:
        raise SeriesRefused(f"slices lie up to {drift:.2f} mm from where even spacing would have them")
    sideways = positions - positions[0] - np.outer(heights - heights[0], normal)
    if np.linalg.norm(sideways, axis=1).max() > min(spacing) / 2:
        raise SeriesRefused("slices are shifted or sheared against their normal (a tilted gantry)")

    affine = np.eye(4)
    affine[:3, 0] = axes[0] * spacing[1]
    affine[:3, 1] = axes[1] * spacing[0]
    affine[:3, 2] = normal * (heights[-1] - heights[0]) / (len(heights) - 1)
    affine[:3, 3] = positions[0]
    remarks = (f"ImageOrientationPatient varied by {jitter:.1g} and was averaged.",) if jitter > 1e-7 else ()
    return Stack(tuple(frames[i] for i in order), affine, remarks)


def _same(frames: Sequence[Frame], what: str, of: Callable[[Frame], Hashable]) -> None:
    kinds = len({of(f) for f in frames})
    if kinds > 1:
        raise SeriesRefused(f"the series mixes {kinds} {what}")


def _common_orientation(frames: Sequence[Frame]) -> tuple[NDArray[np.float64], float]:
    """Mean direction cosines, made exactly perpendicular, and how far frames stray from them."""
    each = np.array([orientation_of(f) for f in frames])
    jitter = float(np.abs(each - each[0]).max())
    if jitter > ORIENTATION_JITTER:
        raise SeriesRefused("the series mixes orientations")
    row, column = each.mean(axis=0)
    row = row / np.linalg.norm(row)
    column = column - row * (column @ row)
    return np.array([row, column / np.linalg.norm(column)]), jitter
