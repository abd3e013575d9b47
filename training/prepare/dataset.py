"""The folder that :mod:`training.cases` reads: images and masks, and last of all the index."""

from __future__ import annotations

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError
from training.prepare.split import SPLITS, split_patients

INDEX = "index.csv"
Grey = NDArray[np.uint8 | np.uint16]
COLUMNS = ("image", "mask", "patient", "exam", "slice", "mask_px", "split")


@dataclass(frozen=True)
class LabelledVolume:
    """Slices that are normalised together, and what is tumour on them.

    Attributes
    ----------
    patient : who, as far as the split is concerned
    exam : tells the volumes of a patient apart
    numbers : that order the slices
    pixels : uint8 or uint16, (slices, rows, columns)
    mask : bool, same shape
    columns : further columns of the index, the same for every slice
    """

    patient: str
    exam: str
    numbers: Sequence[int]
    pixels: Grey
    mask: NDArray[np.bool_]
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Share:
    """What a split holds; the second of each pair counts those with tumour."""

    patients: tuple[int, int]
    volumes: tuple[int, int]
    slices: tuple[int, int]


class DatasetWriter:
    """Writes volumes as they come, and the index when all are there.

    Without ``index.csv`` the folder is no data set: one that was interrupted is not taken for whole,
    and is written again by the same command.

    Raises
    ------
    ConfigurationError
        When the folder has an index.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[dict[str, str]] = []
        self._volumes = 0
        self._refuse_index()
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def add(self, volume: LabelledVolume) -> None:
        """Write 8- or 16-bit PNG of the images and 1-bit PNG of the masks.

        Raises
        ------
        OSError
            When a file cannot be written.
        """
        self._volumes += 1
        for number, pixels, mask in zip(volume.numbers, volume.pixels, volume.mask, strict=True):
            name = f"{self._volumes:04}_{number:04}.png"
            _write(self._folder / "images" / name, pixels)
            _write(self._folder / "masks" / name, mask.astype(np.uint8) * 255, cv2.IMWRITE_PNG_BILEVEL, 1)
            self._rows.append(
                {
                    "image": f"images/{name}",
                    "mask": f"masks/{name}",
                    "patient": volume.patient,
                    "exam": volume.exam,
                    "slice": str(number),
                    "mask_px": str(np.count_nonzero(mask)),
                    **volume.columns,
                }
            )

    def finish(
        self, fractions: Sequence[float], seed: int, names: Mapping[str, str] | None = None
    ) -> dict[str, Share]:
        """Split by patient and write the index.

        Parameters
        ----------
        names : what the index calls each patient; by default what the volumes do

        Raises
        ------
        ConfigurationError
            When an index has come into being meanwhile.
        """
        tumour: defaultdict[str, bool] = defaultdict(bool)
        for row in self._rows:
            tumour[row["patient"]] |= row["mask_px"] != "0"
        split = split_patients(tumour, fractions, seed)
        rows = [{**row, "split": split[row["patient"]]} for row in self._rows]
        if names is not None:
            rows = [{**row, "patient": names[row["patient"]]} for row in rows]
        further = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
        part = self._folder / f"{INDEX}.part"
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, (*COLUMNS, *further), restval="")
            writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())
        self._refuse_index()
        part.replace(self._folder / INDEX)
        return {name: _share([row for row in rows if row["split"] == name]) for name in SPLITS}

    def _refuse_index(self) -> None:
        if (self._folder / INDEX).exists():
            raise ConfigurationError(
                f"{self._folder / INDEX} exists and is not overwritten: choose another folder"
            )


def _write(path: Path, image: Grey, *parameters: int) -> None:
    done, encoded = cv2.imencode(".png", image, parameters)
    if not done:
        raise OSError(f"{path} cannot be encoded")
    path.write_bytes(encoded.tobytes())


def _share(rows: Sequence[Mapping[str, str]]) -> Share:
    def count(*columns: str) -> tuple[int, int]:
        tumour: Counter[tuple[str, ...]] = Counter()
        for row in rows:
            tumour[tuple(row[column] for column in columns)] += row["mask_px"] != "0"
        return len(tumour), sum(number > 0 for number in tumour.values())

    return Share(count("patient"), count("patient", "exam"), count("image"))
