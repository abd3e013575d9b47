"""Writes arrays as MR Image Storage series (PS3.3 A.4): for the phantom, the demo and the tests.

Everything in the data sets follows from the arguments, the UIDs too, so that two calls give
the same bytes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)
from pydicom.valuerep import format_number_as_ds

_GDCM_SYNTAX = {
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    RLELossless: gdcm.TransferSyntax.RLELossless,
}


@dataclass(frozen=True, slots=True)
class Patient:
    """The patient module (PS3.3 C.7.1.1) and what a study says of the patient."""

    name: str = "Phantom^Brain"
    id: str = "PHANTOM-0"
    birth_date: str = "19700101"
    sex: str = "O"


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What an MR header says of the physics (PS3.3 C.8.3.1); times in ms, None leaves it empty."""

    scanning_sequence: tuple[str, ...] = ("SE", "IR")
    sequence_variant: tuple[str, ...] = ("SK",)
    repetition_ms: float = 9000.0
    echo_ms: float = 120.0
    inversion_ms: float | None = 2500.0
    echo_train_length: int = 16
    dimension: Literal["2D", "3D"] = "2D"
    field_tesla: float = 3.0
    contrast_agent: str | None = None


FLAIR = Acquisition()
T1CE = Acquisition(
    scanning_sequence=("SE",),
    repetition_ms=600.0,
    echo_ms=10.0,
    inversion_ms=None,
    echo_train_length=1,
    contrast_agent="Gadolinium",
)


@dataclass(frozen=True, slots=True)
class Storage:
    """How the values become pixels.

    Attributes
    ----------
    bits : 8 or 16, allocated and stored; MR Image Storage itself knows only 16
    signed : PixelRepresentation 1
    inverted : MONOCHROME1, with the values mirrored so that the image means the same
    rescale : slope and intercept of the modality LUT; stored = (value - intercept) / slope
    transfer_syntax : of the pixel data
    """

    bits: Literal[8, 16] = 16
    signed: bool = False
    inverted: bool = False
    rescale: tuple[float, float] | None = None
    transfer_syntax: UID = ExplicitVRLittleEndian

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values, little endian."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.bits // 8}")


def mr_series(
    voxels: NDArray[Any],
    affine: NDArray[np.floating],
    *,
    patient: Patient = Patient(),
    acquisition: Acquisition = FLAIR,
    storage: Storage = Storage(),
    seed: str = "phantom",
    series_seed: str = "1",
    series_number: int = 1,
    series_description: str = "AX FLAIR phantom",
    attributes: Mapping[str, Any] | None = None,
    shuffled_numbers: bool = False,
    reversed_order: bool = False,
) -> list[Dataset]:
    """Make one single-frame MR series.

    Parameters
    ----------
    voxels : (slices, rows, columns)
        Values after the modality LUT; rounded to what the pixels can store.
    affine : (4, 4)
        Maps (column, row, slice, 1) to patient coordinates in mm, as ``MRVolume.affine``.
    seed, series_seed : text
        The study and frame of reference UIDs follow from the first, the series and instance
        UIDs from both.
    attributes : keyword to value
        Set last in every data set; None deletes the attribute.
    shuffled_numbers : InstanceNumber says nothing of the position
    reversed_order : the last slice comes first in the list

    Returns
    -------
    One data set per slice with file meta information, in slice order unless reversed.

    Raises
    ------
    ValueError
        When a value does not fit the pixels or the affine is not that of a stack of slices.
    """
    pixels = _stored(voxels, storage)
    slices = len(pixels)
    numbers = np.arange(1, slices + 1)
    if shuffled_numbers:
        numbers = np.random.default_rng(0).permutation(numbers)
    common = _common(patient, acquisition, storage, _window(voxels))
    common.StudyInstanceUID = _uid(seed, "study")
    common.FrameOfReferenceUID = _uid(seed, "frame of reference")
    common.SeriesInstanceUID = _uid(seed, series_seed, "series")
    common.SeriesNumber = series_number
    common.SeriesDescription = series_description
    _set_plane(common, affine)
    made = []
    for index in range(slices):
        dataset = deepcopy(common)  # elements of its own: the caller may alter one slice
        dataset.SOPInstanceUID = _uid(seed, series_seed, f"slice {index}")
        dataset.InstanceNumber = int(numbers[index])
        position = np.asarray(affine, np.float64) @ [0.0, 0.0, index, 1.0]
        dataset.ImagePositionPatient = _ds(position[:3])
        _set_pixels(dataset, pixels[index], storage)
        for keyword, value in (attributes or {}).items():
            if value is None:
                dataset.pop(keyword, None)
            else:
                setattr(dataset, keyword, value)
        if storage.transfer_syntax.is_encapsulated:
            _compress(dataset, storage.transfer_syntax)
        dataset.file_meta = _file_meta(dataset, storage.transfer_syntax)
        made.append(dataset)
    return made[::-1] if reversed_order else made


def write_series(datasets: Sequence[Dataset], folder: Path) -> list[Path]:
    """Write one file per data set, ``0001.dcm`` onwards in the given order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, dataset in enumerate(datasets, 1):
        path = folder / f"{number:04}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _uid(*parts: str) -> str:
    """A UUID-derived UID (PS3.5 B.2), the same for the same parts."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _ds(values: NDArray[np.floating]) -> list[str]:
    # adding 0.0 turns -0.0 into 0.0
    return [format_number_as_ds(float(value) + 0.0) for value in values]


def _stored(voxels: NDArray[Any], storage: Storage) -> NDArray[Any]:
    values = np.asarray(voxels, np.float64)
    if values.ndim != 3:
        raise ValueError(f"voxels are (slices, rows, columns), not of shape {values.shape}")
    if storage.inverted:
        values = values.max() + values.min() - values
    if storage.rescale:
        slope, intercept = storage.rescale
        values = (values - intercept) / slope
    values = np.rint(values)
    limits = np.iinfo(storage.dtype)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        raise ValueError(
            f"values from {values.min():g} to {values.max():g} do not fit {limits.min} to {limits.max}"
        )
    return values.astype(storage.dtype)


def _window(voxels: NDArray[Any]) -> tuple[float, float]:
    low, high = np.percentile(voxels, [1.0, 99.5])
    return float(low + high) / 2, max(1.0, float(high - low))


def _common(
    patient: Patient, acquisition: Acquisition, storage: Storage, window: tuple[float, float]
) -> Dataset:
    """The attributes that all slices of any series share."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.SOPClassUID = MRImageStorage
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20260105"
    ds.StudyTime = "101500"
    ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "102000"
    ds.AccessionNumber = "PHANTOM-ACC"
    ds.Modality = "MR"
    ds.Manufacturer = "dicom-node"
    ds.ManufacturerModelName = "Phantom"
    ds.DeviceSerialNumber = "0"
    ds.SoftwareVersions = "1"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "MR brain phantom"
    ds.StudyID = "1"
    ds.PatientName = patient.name
    ds.PatientID = patient.id
    ds.PatientBirthDate = patient.birth_date
    ds.PatientSex = patient.sex
    ds.BodyPartExamined = "BRAIN"
    ds.ProtocolName = "phantom"
    ds.PatientPosition = "HFS"
    ds.PositionReferenceIndicator = ""
    ds.AcquisitionNumber = 1
    ds.ScanningSequence = list(acquisition.scanning_sequence)
    ds.SequenceVariant = list(acquisition.sequence_variant)
    ds.ScanOptions = ""
    ds.MRAcquisitionType = acquisition.dimension
    ds.RepetitionTime = _ds(np.array([acquisition.repetition_ms]))
    ds.EchoTime = _ds(np.array([acquisition.echo_ms]))
    if acquisition.inversion_ms is not None:
        ds.InversionTime = _ds(np.array([acquisition.inversion_ms]))
    ds.EchoTrainLength = acquisition.echo_train_length
    ds.EchoNumbers = 1
    ds.NumberOfAverages = 1
    ds.MagneticFieldStrength = _ds(np.array([acquisition.field_tesla]))
    ds.FlipAngle = 90
    if acquisition.contrast_agent is not None:
        ds.ContrastBolusAgent = acquisition.contrast_agent
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if storage.inverted else "MONOCHROME2"
    if storage.rescale:
        slope, intercept = storage.rescale
        ds.RescaleIntercept, ds.RescaleSlope = _ds(np.array([intercept, slope]))
        ds.RescaleType = "US"
    ds.WindowCenter, ds.WindowWidth = _ds(np.array(window))
    return ds


def _set_plane(ds: Dataset, affine: NDArray[np.floating]) -> None:
    """Image Plane module (PS3.3 C.7.6.2): orientation and distances of the whole stack."""
    steps = np.asarray(affine, np.float64)[:3, :3]
    column_mm, row_mm, slice_mm = np.linalg.norm(steps, axis=0)
    along_row, along_column, along_stack = (steps / (column_mm, row_mm, slice_mm)).T
    if abs(along_row @ along_column) > 1e-4 or abs(np.cross(along_row, along_column) @ along_stack) < 0.99:
        raise ValueError("the affine is not that of a stack of parallel slices along their normal")
    ds.ImageOrientationPatient = _ds(np.concatenate([along_row, along_column]))
    ds.PixelSpacing = _ds(np.array([row_mm, column_mm]))
    ds.SliceThickness = ds.SpacingBetweenSlices = _ds(np.array([slice_mm]))[0]


def _set_pixels(ds: Dataset, pixels: NDArray[Any], storage: Storage) -> None:
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = ds.BitsStored = storage.bits
    ds.HighBit = storage.bits - 1
    ds.PixelRepresentation = int(storage.signed)
    big = storage.transfer_syntax == ExplicitVRBigEndian
    raw = pixels.astype(storage.dtype.newbyteorder(">" if big else "<")).tobytes()
    ds.PixelData = raw + b"\0" * (len(raw) % 2)
    ds["PixelData"].VR = "OB" if storage.bits == 8 else "OW"


def _compress(ds: Dataset, syntax: UID) -> None:
    """Encode the pixel data with GDCM: pydicom alone encodes only RLE.

    GDCM's Python binding hands out a codestream only by way of a file.
    """
    if syntax not in _GDCM_SYNTAX:
        raise ValueError(f"no encoder for {syntax.name}")
    with tempfile.TemporaryDirectory() as folder:
        path, encoded = (str(Path(folder) / name) for name in ("slice.dcm", "encoded.dcm"))
        ds.file_meta = _file_meta(ds, ExplicitVRLittleEndian)
        ds.save_as(path, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(path)
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(_GDCM_SYNTAX[syntax]))
        writer = gdcm.ImageWriter()
        writer.SetFileName(encoded)
        done = reader.Read()
        if done:
            change.SetInput(reader.GetImage())
            done = change.Change()
        if done:
            writer.SetFile(reader.GetFile())
            writer.SetImage(change.GetOutput())
            done = writer.Write()
        if not done:
            raise ValueError(f"GDCM cannot encode these pixels as {syntax.name}")
        ds.PixelData = dcmread(encoded).PixelData
    ds["PixelData"].VR = "OB"


def _file_meta(ds: Dataset, transfer_syntax: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", MRImageStorage)
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax
    return meta
