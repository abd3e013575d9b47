"""The phantom as a scanner would send it: an axial FLAIR series with a lesion at a known place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.phantom.brain import Phantom, brain_phantom
from dicom_node.phantom.mr_series import mr_series

DEMO_SEED = 0  # seeds below 1000 are never trained on


@dataclass(frozen=True)
class Scan:
    """A scanned phantom.

    Attributes
    ----------
    datasets : one MR image per slice
    phantom : what was scanned
    affine : (4, 4), maps (column, row, slice, 1) to LPS mm
    """

    datasets: list[Dataset]
    phantom: Phantom
    affine: NDArray[np.float64]

    @property
    def lesion_centre_mm(self) -> NDArray[np.float64] | None:
        """Where the lesion's centre lies in patient coordinates, (3,); None without a lesion."""
        if self.phantom.centre is None:
            return None
        slice_, row, column = self.phantom.centre
        centre: NDArray[np.float64] = (self.affine @ [column, row, slice_, 1.0])[:3]
        return centre


def scan_phantom(seed: int = DEMO_SEED, *, lesion: bool = True) -> Scan:
    """Scan a phantom whose middle lies at the origin of the patient coordinates."""
    phantom = brain_phantom(seed, lesion=lesion)
    step_mm = np.array(phantom.spacing_mm[::-1])
    affine = np.diag([*step_mm, 1.0])
    affine[:3, 3] = -step_mm * (np.array(phantom.voxels.shape[::-1]) - 1) / 2
    name = f"phantom {seed}{'' if lesion else ' healthy'}"
    return Scan(mr_series(phantom.voxels, affine, seed=name), phantom, affine)
