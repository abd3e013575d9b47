"""A segmentation drawn onto the grid of a stack of MR slices.

Each pixel of a segment goes the way through the patient: from its frame's own position,
orientation and spacing to mm, and from there to the slice at that place. What a frame says it was
made from is a second witness; where the two disagree nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import SeriesRefused
from dicom_node.series.geometry import Stack, position_of
from training.prepare.segmentation import (
    Segment,
    Segmentation,
    SegmentFrame,
    SegmentPlane,
    segment_pixels,
)

IN_PLANE_VOXELS = 0.25  # a pixel's centre may lie so far from that of its voxel
THROUGH_PLANE = 0.10  # of the distance between slices, as for the slices themselves
STEP = 0.01  # voxels per pixel may differ so much from one


def draw(
    segmentation: Segmentation, segments: Sequence[Segment], stack: Stack, *, only_referring: bool = False
) -> NDArray[np.bool_]:
    """Draw segments onto the grid of a stack; FRACTIONAL from a half on.

    Parameters
    ----------
    only_referring : frames that refer to none of the stack's images belong to another stack

    Returns
    -------
    bool, (slices, rows, columns): the union of the segments

    Raises
    ------
    SeriesRefused
        Names the frame that lies on another grid, in another frame of reference, outside of the
        images or elsewhere than what it refers to.
    """
    grid = _Grid(stack)
    mask = np.zeros(grid.shape, bool)
    for number, frame, pixels in segment_pixels(segmentation, segments):
        rows, columns = np.nonzero(pixels)
        if rows.size and not (only_referring and not grid.referenced(frame)):
            name = f"frame {number} of {segmentation.path.name}"
            mask[grid.place(segmentation, frame, pixels.shape, rows, columns, name)] = True
    return mask


class _Grid:
    """The voxels of a stack."""

    def __init__(self, stack: Stack) -> None:
        first = stack.frames[0]
        self.shape = (len(stack.frames), int(first.get("Rows")), int(first.get("Columns")))
        self._to_voxels = np.linalg.inv(stack.affine[:3, :3])
        self._spacing_mm = np.linalg.norm(stack.affine[:3, :3], axis=0)
        # a SEG may have copied what the images say, which at times is the gap between them
        told_mm = first.number("SpacingBetweenSlices") or 0.0
        self._steps_mm = [float(self._spacing_mm[2]), *([told_mm] if told_mm > 0 else [])]
        # where each slice is, which may differ from where the affine has it by what geometry tolerates
        self._positions = np.array([position_of(frame) for frame in stack.frames])
        self._heights = self._positions @ self._to_voxels[2]
        self._frame_of_reference = first.text("FrameOfReferenceUID")
        self._slices: dict[tuple[str, int | None], list[int]] = {}
        for index, frame in enumerate(stack.frames):
            uid, number = frame.reference.sop_instance_uid, frame.reference.frame_number
            self._slices.setdefault((uid, None), []).append(index)
            self._slices.setdefault((uid, number or 1), []).append(index)

    def referenced(self, frame: SegmentFrame) -> set[int]:
        """Slices that a frame was made from."""
        return {index for source in frame.sources for index in self._slices.get(source, ())}

    def place(
        self,
        segmentation: Segmentation,
        frame: SegmentFrame,
        size: tuple[int, ...],
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        name: str,
    ) -> tuple[int, NDArray[np.intp], NDArray[np.intp]]:
        """Slice, rows and columns of the voxels where a frame's pixels lie."""
        referenced = self.referenced(frame)
        if frame.plane is None:
            if len(referenced) != 1 or size != self.shape[1:] or not frame.keeps_places:
                raise SeriesRefused(f"{name} has neither a place in the patient nor one source of its size")
            return referenced.pop(), rows, columns
        index, rows, columns = self._by_geometry(frame.plane, rows, columns, name)
        other_frame = str(segmentation.header.get("FrameOfReferenceUID", "")) != self._frame_of_reference
        if other_frame and index not in referenced:
            raise SeriesRefused(f"{name} is in another frame of reference than the images")
        if referenced and index not in referenced:
            told = ", ".join(str(k + 1) for k in sorted(referenced))
            raise SeriesRefused(f"{name} refers to slice {told} but lies at slice {index + 1}")
        apart = frame.plane.apart_mm
        if apart and min(abs(apart / step - 1) for step in self._steps_mm) > THROUGH_PLANE:
            raise SeriesRefused(
                f"{name} lies on another grid than the images (slices {apart:.3g} mm apart, theirs "
                f"{self._steps_mm[0]:.3g} mm): resample it onto the images first"
            )
        return index, rows, columns

    def _by_geometry(
        self, plane: SegmentPlane, rows: NDArray[np.intp], columns: NDArray[np.intp], name: str
    ) -> tuple[int, NDArray[np.intp], NDArray[np.intp]]:
        steps = self._to_voxels @ np.column_stack([plane.along_column_index, plane.along_row_index])
        whole = np.abs(np.rint(steps))
        if np.abs(steps - np.rint(steps)).max() > STEP or not (
            np.array_equal(whole[:2].sum(axis=0), [1, 1]) and np.array_equal(whole[:2].sum(axis=1), [1, 1])
        ):
            mine = np.linalg.norm(plane.along_column_index), np.linalg.norm(plane.along_row_index)
            raise SeriesRefused(
                f"{name} lies on another grid than the images (pixels of {mine[0]:.3g} x {mine[1]:.3g} mm "
                f"on those of {self._spacing_mm[0]:.3g} x {self._spacing_mm[1]:.3g} mm, or turned): "
                "resample it onto the images first"
            )
        places_mm = plane.mm(rows, columns)
        index = int(np.abs(self._heights - (places_mm @ self._to_voxels[2]).mean()).argmin())
        voxels = (places_mm - self._positions[index]) @ self._to_voxels.T  # (column, row, slice)
        if np.abs(voxels[:, 2]).max() > THROUGH_PLANE:
            raise SeriesRefused(f"{name} lies {np.abs(voxels[:, 2]).max():.2g} slices off the nearest image")
        nearest = np.rint(voxels[:, :2])
        if (off := np.abs(voxels[:, :2] - nearest).max()) > IN_PLANE_VOXELS:
            raise SeriesRefused(f"{name} lies {off:.2g} pixels beside those of the images")
        columns, rows = nearest.astype(np.intp).T
        _, height, width = self.shape
        if rows.min() < 0 or columns.min() < 0 or rows.max() >= height or columns.max() >= width:
            raise SeriesRefused(f"{name} reaches beyond the images")
        return index, rows, columns
