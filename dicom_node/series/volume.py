"""The value that travels from the series station: one MR volume in patient coordinates."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset


class Contrast(StrEnum):
    """MR contrast of a series, as far as its physics and description tell."""

    FLAIR = "FLAIR"
    T1 = "T1"
    T1CE = "T1CE"
    T2 = "T2"
    UNKNOWN = "UNKNOWN"


class Plane(StrEnum):
    """The anatomical plane nearest to the image plane."""

    AXIAL = "AXIAL"
    CORONAL = "CORONAL"
    SAGITTAL = "SAGITTAL"


@dataclass(frozen=True, slots=True)
class FrameReference:
    """Where a slice came from: an instance, and in a multi-frame instance the frame (from 1)."""

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None = None


@dataclass(frozen=True)
class MRVolume:
    """One stack of parallel MR slices, ordered along their normal.

    Attributes
    ----------
    voxels : float32, (slices, rows, columns)
        After the modality LUT and with MONOCHROME1 inverted; arbitrary units.
    affine : float64, (4, 4)
        Maps (column, row, slice, 1), voxel centres, to patient coordinates in mm
        (LPS, PS3.3 C.7.6.2.1.1). Its third column points along the slice normal, the
        cross product of the row and column directions.
    frames : one per slice, in slice order
    headers : source data sets without pixel data
        One per instance, in the order of their first slices: a single-frame one for each slice, a
        multi-frame one, or several that hold the slices together.
    contrast : Contrast
    remarks : sentences for the report, such as what was normalised or not known
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]
    frames: tuple[FrameReference, ...]
    headers: tuple[Dataset, ...]
    contrast: Contrast
    remarks: tuple[str, ...] = field(default=())

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        slices, rows, columns = self.voxels.shape
        return slices, rows, columns

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbours along (slices, rows, columns), in mm."""
        column, row, slice_ = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slice_), float(row), float(column)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def header_of(self, index: int) -> Dataset:
        """Header of the instance that a slice is of."""
        return self._headers[self.frames[index].sop_instance_uid]

    @cached_property
    def _headers(self) -> dict[str, Dataset]:
        return {str(header.SOPInstanceUID): header for header in self.headers}

    def patient_mm(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map voxel points, (n, 3) as (slice, row, column), to patient coordinates in mm, (n, 3)."""
        ordered = np.asarray(points, np.float64)[:, ::-1]
        mapped: NDArray[np.float64] = ordered @ self.affine[:3, :3].T + self.affine[:3, 3]
        return mapped
