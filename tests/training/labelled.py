"""Phantoms stored as scanners store them, with their lesion as the network should see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dicom_node.phantom.brain import brain_phantom
from dicom_node.phantom.mr_series import Patient, mr_series, write_series
from dicom_node.series.geometry import order_stack
from dicom_node.series.read import read_volume
from dicom_node.series.volume import Contrast, MRVolume
from tests.support.frames import read_frames
from training.cases import Case, read_cases

X, Y, Z = 0, 1, 2  # of patient coordinates (LPS); ~axis is the other way along it

# along growing column index, row index and slice number
STORED = {
    "axial": (X, Y, Z),
    "axial, head first in the file": (X, Y, ~Z),
    "axial, face down": (~X, ~Y, Z),
    "axial, mirrored": (~X, Y, ~Z),
    "axial, rows along y": (Y, X, ~Z),
    "coronal": (X, ~Z, Y),
    "coronal, upside down": (X, Z, ~Y),
    "coronal, columns along z": (Z, ~X, Y),
    "sagittal": (Y, ~Z, ~X),
    "sagittal, from the left, face right": (~Y, ~Z, X),
}


@dataclass(frozen=True)
class Scanned:
    """A phantom as one orientation stores it.

    Attributes
    ----------
    voxels, lesion : (slices, rows, columns) as stored; even numbers
    affine : (4, 4), maps (column, row, slice, 1) to LPS mm
    seen, seen_lesion : the same in the standard display, slices along its normal
    """

    voxels: NDArray[np.float32]
    lesion: NDArray[np.bool_]
    affine: NDArray[np.float64]
    seen: NDArray[np.float32]
    seen_lesion: NDArray[np.bool_]


def scanned(name: str = "axial", seed: int = 900, *, lesion: bool = True) -> Scanned:
    """Scan a phantom; the display is told here from anatomy alone, without the code under test."""
    phantom = brain_phantom(seed, shape=(22, 40, 34), spacing_mm=(7.0, 5.0, 5.5), lesion=lesion)
    even = (2 * np.rint(phantom.voxels / 2)).astype(np.float32)
    axes = STORED[name]
    step_mm = np.array(phantom.spacing_mm[::-1])
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    for place, axis in enumerate(axes):
        real, sign = (axis, 1) if axis >= 0 else (~axis, -1)
        affine[real, place] = sign * step_mm[real]
        affine[real, 3] = -sign * step_mm[real] * (even.shape[2 - real] - 1) / 2
    through = int(np.abs(np.cross(affine[:3, 0], affine[:3, 1])).argmax())
    return Scanned(
        voxels=_store(even, axes),
        lesion=_store(phantom.lesion, axes),
        affine=affine,
        seen=_display(even, through),
        seen_lesion=_display(phantom.lesion, through),
    )


def _store(head: NDArray, axes: tuple[int, ...]) -> NDArray:
    """Head (z, y, x) to (slices, rows, columns) along the axes."""
    real = [axis if axis >= 0 else ~axis for axis in axes]
    turned = head.transpose([2 - axis for axis in reversed(real)])
    back = tuple(slice(None, None, 1 if axis >= 0 else -1) for axis in reversed(axes))
    return np.ascontiguousarray(turned[back])


def _display(head: NDArray, through: int) -> NDArray:
    """Head (z, y, x) as seen: the patient's right on the left, front or head up."""
    return {
        Z: head,  # slices to the head, rows to the back, columns to the left
        Y: head[::-1].transpose(1, 0, 2),  # slices to the back, rows to the feet, columns to the left
        X: head[::-1].transpose(2, 0, 1)[::-1],  # slices to the right, rows to the feet, columns to the back
    }[through]


def write_scan(scan: Scanned, folder: Path, patient: str = "SECRET-1", **arguments: object) -> list[Path]:
    """One series; further arguments are those of ``mr_series``."""
    arguments = {"seed": patient, **arguments}
    who = Patient(name=f"Name^{patient}", id=patient)
    return write_series(mr_series(scan.voxels, scan.affine, patient=who, **arguments), folder)


def volume_of(paths: list[Path]) -> MRVolume:
    """As the node reads it."""
    return read_volume(order_stack(read_frames(paths)), Contrast.FLAIR)


def cases_in(folder: Path) -> list[Case]:
    """Every case of every split."""
    rows = (folder / "index.csv").read_text().splitlines()[1:]
    splits = sorted({row.split(",")[6] for row in rows})
    return [case for split in splits for case in read_cases(folder, split)]


def read_png(path: Path) -> NDArray:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
