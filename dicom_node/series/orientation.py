"""Which way a slice lies, and turning it to the way that networks were trained on and back.

Networks saw slices as a radiologist does (patient's right on the left of the picture, anterior or
superior up). A series may store its rows and columns in any of the eight other ways; turning is
exact, pixels are only moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dicom_node.series.volume import Plane

Value = TypeVar("Value", bound=np.generic)

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
    """An exact turn in space: transpose, flip rows and columns, and reverse the slices where that mirrored.

    So the slices of a plane always run the same way, for networks that see neighbours.
    """

    transpose: bool
    flip_rows: bool
    flip_columns: bool

    @property
    def reverses(self) -> bool:
        """Whether the slices run the other way in the standard display."""
        return self.transpose ^ self.flip_rows ^ self.flip_columns

    def order(self, of_slices: NDArray[Value]) -> NDArray[Value]:
        """Bring one value a slice, (slices,), to the standard display's order, or back."""
        return of_slices[::-1] if self.reverses else of_slices

    def apply(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn (slices, rows, columns) to the standard display."""
        turned = slices.transpose(0, 2, 1) if self.transpose else slices
        return np.ascontiguousarray(self._flip(turned))

    def undo(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn (slices, rows, columns) in the standard display back to the source's way."""
        flipped = self._flip(slices)
        return np.ascontiguousarray(flipped.transpose(0, 2, 1) if self.transpose else flipped)

    def _flip(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        steps = (-1 if flip else 1 for flip in (self.reverses, self.flip_rows, self.flip_columns))
        return slices[tuple(slice(None, None, step) for step in steps)]


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
