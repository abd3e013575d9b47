"""Series to send: heads with a spot of ever other place and size, each of its own patient, and real ones."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from dicom_node.phantom.mr_series import Patient, mr_series, write_series
from dicom_node.phantom.scan import scan_phantom
from tests.support.lgg import lgg_patients, lgg_series
from tests.support.spot import affine_of, image_spot

_EVERY_REAL = 8  # so many series, one is of a real patient where there are any


@dataclass(frozen=True)
class Series:
    """One series as files.

    Attributes
    ----------
    patient, study : PatientID and StudyInstanceUID
    uids : SOP Instance UID of each file
    """

    uid: str
    patient: str
    study: str
    paths: tuple[Path, ...]
    uids: tuple[str, ...]


class Material:
    """Makes series, never the same twice.

    Parameters
    ----------
    folder : gets a folder for each
    data : real images, or None
    heads : full phantom heads, which the shipped models read, instead of small ones
    """

    def __init__(self, folder: Path, chance: random.Random, *, data: Path | None, heads: bool) -> None:
        self._folder, self._chance, self._data, self._heads = folder, chance, data, heads
        self._patients = lgg_patients(data, "test") if data else []
        self._made = 0

    def next(self) -> Series:
        self._made += 1
        number, chance = self._made, self._chance
        name = f"{chance.getrandbits(64):016x}"
        folder = self._folder / f"{number:04}"
        patient = Patient(name=f"Torture^{name}", id=f"T-{number}")
        if self._patients and number % _EVERY_REAL == 0:
            real = self._patients[number // _EVERY_REAL % len(self._patients)]
            datasets = lgg_series(self._data, real, series_seed=name).datasets
        elif self._heads:
            datasets = scan_phantom(contrast="FLAIR").datasets
            for dataset in datasets:
                dataset.PatientID, dataset.PatientName = patient.id, patient.name
                for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                    setattr(dataset, keyword, f"{dataset[keyword].value[:40]}.{number}")
                dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        else:
            shape = (chance.randint(10, 13), 64, 64)
            affine = affine_of(shape=shape, spacing_mm=(48 / shape[0], 1.9, 1.9))
            spot = image_spot(affine, shape=shape, radius_mm=chance.uniform(8, 14))
            datasets = mr_series(spot.voxels, affine, patient=patient, seed=name)
        paths = write_series(datasets, folder)
        first = datasets[0]
        return Series(
            str(first.SeriesInstanceUID),
            str(first.PatientID),
            str(first.StudyInstanceUID),
            tuple(paths),
            tuple(str(dataset.SOPInstanceUID) for dataset in datasets),
        )


def with_other_pixels(path: Path) -> Path:
    """Write the same instance with another content beside it."""
    dataset = dcmread(path)
    dataset.PixelData = bytes(255 - byte for byte in dataset.PixelData)
    other = path.with_suffix(".other")
    dataset.save_as(other, enforce_file_format=True)
    return other
