"""A patient of ``lgg_flair`` as the MR series that a scanner would have sent.

The public files keep neither spacing nor position: 5 mm between slices and 0.94 mm between
pixels stand in for them, and 16-bit values for the 8-bit ones.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.phantom.mr_series import Patient, mr_series
from tests.support.spot import affine_of

SPACING_MM = (5.0, 0.94, 0.94)


@dataclass(frozen=True)
class Case:
    """A patient as a series, and the tumour as experts outlined it, (slices, rows, columns)."""

    datasets: list[Dataset]
    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]


def lgg_patients(data: Path, split: str) -> list[str]:
    return sorted({row["patient"] for row in _rows(data) if row["split"] == split})


def lgg_series(
    data: Path,
    patient: str,
    *,
    row: tuple[float, ...] = (1, 0, 0),
    column: tuple[float, ...] = (0, 1, 0),
    **arguments: object,
) -> Case:
    """Write a patient's slices with their rows along ``row`` and columns along ``column`` (LPS).

    The anatomy is stored as the direction asks: a scanner that stores slices mirrored sends
    mirrored pixels, and its direction cosines say so.
    """
    rows = sorted((r for r in _rows(data) if r["patient"] == patient), key=lambda r: int(r["slice"]))
    folder = data / "lgg_flair"
    images = np.stack([cv2.imread(str(folder / r["image"]), cv2.IMREAD_GRAYSCALE) for r in rows])
    mask = np.stack([cv2.imread(str(folder / r["mask"]), cv2.IMREAD_GRAYSCALE) for r in rows]) > 0
    affine = affine_of(row, column, shape=images.shape, spacing_mm=SPACING_MM)
    for axis, direction in ((2, affine[0, 0]), (1, affine[1, 1])):
        if direction < 0:
            images, mask = np.flip(images, axis), np.flip(mask, axis)
    if affine[2, 2] < 0:
        images, mask = images[::-1], mask[::-1]
    datasets = mr_series(
        images.astype(np.float32) * 16 + 40,
        affine,
        patient=Patient(name=f"Test^{patient}", id=patient),
        seed=patient,
        series_description="AX FLAIR",
        **arguments,
    )
    return Case(datasets, mask, affine)


def _rows(data: Path) -> list[dict[str, str]]:
    with (data / "lgg_flair" / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))
