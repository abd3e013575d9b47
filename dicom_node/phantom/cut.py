"""A synthetic head cut into the slices of one plane, as series have them.

The node's own series and the trainings' synthetic slices are these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dicom_node.phantom.brain import Phantom, PhantomContrast, Volume, brain_phantom
from dicom_node.series.volume import Plane

# shape and spacing in mm of (slices, rows, columns): as axial series have them, and fine enough to be
# cut otherwise
AXIAL = ((24, 256, 256), (5.0, 0.9, 0.9))
FINE = ((128, 176, 176), (1.4, 1.3, 1.3))
FINE_STEP = 4  # fine voxels in the thickness of a slice: 5.2 mm

# Steps in the head's (x, y, z) voxels along a cut's columns, rows and slices.
_STEPS = {
    Plane.AXIAL: np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    Plane.CORONAL: np.array([[1, 0, 0], [0, 0, FINE_STEP], [0, -1, 0]]),
    Plane.SAGITTAL: np.array([[0, 0, -FINE_STEP], [1, 0, 0], [0, -1, 0]]),
}


@dataclass(frozen=True)
class Cut:
    """Parallel slices of a head whose middle lies at the origin of the patient coordinates.

    Attributes
    ----------
    voxels : float32, (slices, rows, columns)
        Arbitrary MR-like units; rows and columns are those that the node shows to its networks,
        slices run along their normal.
    lesion : bool, same shape
    affine : (4, 4), maps (column, row, slice, 1) to LPS mm
    """

    voxels: Volume
    lesion: NDArray[np.bool_]
    affine: NDArray[np.float64]

    @property
    def lesion_centre_mm(self) -> NDArray[np.float64] | None:
        """The lesion's centre of mass in patient coordinates, (3,); None without a lesion."""
        if not self.lesion.any():
            return None
        slice_, row, column = np.argwhere(self.lesion).mean(axis=0)
        centre: NDArray[np.float64] = (self.affine @ [column, row, slice_, 1.0])[:3]
        return centre

    @property
    def lesion_ml(self) -> float:
        """Volume of the lesion in ml, slices times their distance; 0 without one."""
        voxel_mm3 = abs(float(np.linalg.det(self.affine[:3, :3])))
        return float(np.count_nonzero(self.lesion)) * voxel_mm3 / 1000.0

    def of_the_head(self) -> Cut:
        """Leave out the slices before and behind the head."""
        inside = np.flatnonzero((self.voxels > 0.2 * self.voxels.max()).mean(axis=(1, 2)) > 0.05)
        first, last = int(inside[0]), int(inside[-1])
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, 2] * first
        part = slice(first, last + 1)
        return Cut(self.voxels[part], self.lesion[part], affine)


def cut_head(
    seed: int, plane: Plane = Plane.AXIAL, *, contrast: PhantomContrast = "FLAIR", lesion: bool = True
) -> Cut:
    """Cut a head of :func:`brain_phantom` into slices of a plane; its arrays are not to be written to."""
    phantom = _head(seed, plane is Plane.AXIAL, contrast, lesion)
    steps = _STEPS[plane]
    whole = np.array(phantom.voxels.shape[::-1])
    step_mm = np.array(phantom.spacing_mm[::-1])
    affine = np.eye(4)
    affine[:3, :3] = step_mm[:, None] * steps
    strides = np.abs(steps).max(axis=1)
    last = (whole - 1) // strides * strides
    first = np.where(steps.min(axis=1) < 0, last, 0)  # (x, y, z) of the first voxel of the cut
    affine[:3, 3] = step_mm * (first + (strides - 1) / 2 - (whole - 1) / 2)
    lesion_part = _cut(phantom.lesion.astype(np.float32), plane)
    return Cut(_cut(phantom.voxels, plane), lesion_part >= 0.5, affine)


@lru_cache(maxsize=1)
def _head(seed: int, axial: bool, contrast: PhantomContrast, lesion: bool) -> Phantom:
    """Make a head; kept, as the fine one takes seconds and is cut in two planes."""
    return brain_phantom(seed, *(AXIAL if axial else FINE), contrast=contrast, lesion=lesion)


def _cut(volume: Volume, plane: Plane) -> Volume:
    """Bring (slices from the feet, rows from the front, columns from the right) to a plane.

    Slices across the fine ones have their thickness: they are means, as in a scanner.
    """
    feet, rows, columns = volume.shape
    if plane is Plane.CORONAL:
        thick = volume.reshape(feet, rows // FINE_STEP, FINE_STEP, columns).mean(axis=2)
        return np.asarray(thick[::-1].transpose(1, 0, 2))
    if plane is Plane.SAGITTAL:
        thick = volume.reshape(feet, rows, columns // FINE_STEP, FINE_STEP).mean(axis=3)
        return np.asarray(thick[::-1].transpose(2, 0, 1)[::-1])
    return volume
