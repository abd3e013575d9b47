"""Which way a slice lies, and turning it to the way that networks were trained on and back.

Networks saw slices as a radiologist does (patient's right on the left of the picture, anterior or
superior up). A series may store its rows and columns in any of the eight other ways; turning is
exact, pixels are only moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dicom_node.series.volume import Plane

_PLANE_OF_NORMAL = (Plane.SAGITTAL, Plane.CORONAL, Plane.AXIAL)  # normal along x, y, z of LPS

# Directions of growing column index and growing row index in the standard display, in LPS.
_DISPLAY = {
    Plane.AXIAL: (np.array([1.0, 0, 0]), np.array([0, 1.0, 0])),
    Plane.CORONAL: (np.array([1.0, 0, 0]), np.array([0, 0, -1.0])),
    Plane.SAGITTAL: (np.array([0, 1.0, 0]), np.array([0, 0, -1.0])),
}


def nearest_plane(row_direction: ArrayLike, column_direction: ArrayLike) -> Plane:
    """Name the anatomical plane whose normal is nearest to that of slices with these directions (LPS)."""
    normal = np.cross(np.asarray(row_direction, float), np.asarray(column_direction, float))
    return _PLANE_OF_NORMAL[int(np.abs(normal).argmax())]


@dataclass(frozen=True, slots=True)
class Turn:
    """An exact in-plane turn: transpose first, then flip rows and columns."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool

    def apply(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn (slices, rows, columns) to the standard display."""
        turned = slices.transpose(0, 2, 1) if self.transpose else slices
        return np.ascontiguousarray(self._flip(turned))

    def undo(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn (slices, rows, columns) in the standard display back to the source's way."""
        flipped = self._flip(slices)
        return np.ascontiguousarray(flipped.transpose(0, 2, 1) if self.transpose else flipped)

    def _flip(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        return slices[:, :: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def turn_to_display(affine: NDArray[np.float64]) -> Turn:
    """Find the turn that brings slices of this affine nearest to the standard display."""
    along_column_index = affine[:3, 0] / np.linalg.norm(affine[:3, 0])
    along_row_index = affine[:3, 1] / np.linalg.norm(affine[:3, 1])
    right, down = _DISPLAY[nearest_plane(along_column_index, along_row_index)]
    straight = abs(along_column_index @ right) + abs(along_row_index @ down)
    crossed = abs(along_column_index @ down) + abs(along_row_index @ right)
    transpose = bool(crossed > straight)
    if transpose:
        along_column_index, along_row_index = along_row_index, along_column_index
    return Turn(transpose, bool(along_row_index @ down < 0), bool(along_column_index @ right < 0))
