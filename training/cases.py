"""Labelled volumes from a folder with an ``index.csv``.

The columns used are ``image`` and ``mask`` (files relative to the folder), ``split``, ``patient``,
``exam`` (where a patient has several) and ``slice`` (a whole number that orders the slices of an
exam). Slices of an exam stay together, as a volume, because the intensities are normalised by
volume. Without a column ``patient`` every slice is a volume of its own. ``row_mm`` and ``column_mm``
give the distance between rows and between columns; without them pixels are taken to be square.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError

COLUMNS = ("image", "mask", "split")


@dataclass(frozen=True)
class Case:
    """One volume.

    Attributes
    ----------
    patient : the name in the index
    voxels : float32, (slices, rows, columns), as stored
    mask : bool, same shape
    pixel_mm : distance between rows and between columns; where it is not known the pixels are square
    """

    patient: str
    voxels: NDArray[np.float32]
    mask: NDArray[np.bool_]
    pixel_mm: tuple[float, float] = (1.0, 1.0)

    @property
    def has_tumour(self) -> NDArray[np.bool_]:
        """(slices,)"""
        return np.asarray(self.mask.any(axis=(1, 2)))


def data_folder() -> Path:
    """Return the folder of all data sets: the environment's DICOM_NODE_DATA, else ``../shared/data``."""
    return Path(os.environ.get("DICOM_NODE_DATA", "../shared/data"))


def _read_image(path: Path) -> NDArray[np.uint8 | np.uint16]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ConfigurationError(f"{path}, which the index names, is missing or is no image")
    if image.ndim == 3:  # a decoder may repeat the grey channel
        image = image[:, :, 0]
    return np.asarray(image)


def read_cases(folder: Path, split: str) -> Iterator[Case]:
    """Yield the volumes of a split, in the order of their patients' names.

    Raises
    ------
    ConfigurationError
        When the index is missing, lacks a column or has no row of this split, or a file is unreadable.
    """
    index = folder / "index.csv"
    try:
        with index.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{index} is missing; set DICOM_NODE_DATA to the folder of the data sets"
        ) from None
    absent = [column for column in COLUMNS if rows and column not in rows[0]]
    if absent:
        raise ConfigurationError(f"{index} lacks the column(s) {', '.join(absent)}")
    by_volume: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if row["split"] == split:
            by_volume[row.get("patient", row["image"]), row.get("exam", "")].append(row)
    if not by_volume:
        known = ", ".join(sorted({row["split"] for row in rows})) or "no rows at all"
        raise ConfigurationError(f"{index} has no slices of split {split!r}; it has {known}")
    for patient, exam in sorted(by_volume):
        slices = sorted(by_volume[patient, exam], key=lambda row: int(row.get("slice", 0)))
        images = [_read_image(folder / row["image"]) for row in slices]
        masks = [_read_image(folder / row["mask"]) > 0 for row in slices]
        sizes = {image.shape for image in (*images, *masks)}
        if len(sizes) > 1:
            raise ConfigurationError(
                f"{index}: the images and masks of {patient!r} differ in size: {sorted(sizes)}"
            )
        first = slices[0]
        pixel_mm = (float(first.get("row_mm") or 1.0), float(first.get("column_mm") or 1.0))
        yield Case(patient, np.stack(images).astype(np.float32), np.stack(masks), pixel_mm)
