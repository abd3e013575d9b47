"""Small MR images and their encodings."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomFileLike
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)

STUDY = "1.2.826.0.1.3680043.10.1"
SERIES = f"{STUDY}.1"


def mr_image(number: int = 1, series: str = SERIES, size: int = 32, seed: int = 0) -> Dataset:
    """One slice, 3 mm after the one before; another seed gives other pixels."""
    image = Dataset()
    image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = f"{series}.{number}"
    image.StudyInstanceUID = STUDY
    image.SeriesInstanceUID = series
    image.Modality = "MR"
    image.PatientName = "Nobody^At All"
    image.ReferencedImageSequence = [Dataset()]
    image.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    image.ImagePositionPatient = [0, 0, 3 * number]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows = image.Columns = size
    image.BitsAllocated = 16
    image.BitsStored = 12
    image.HighBit = 11
    image.PixelRepresentation = 0
    pixels = np.random.default_rng([seed, number]).integers(0, 4096, (size, size), np.uint16)
    image.PixelData = pixels.tobytes()
    return image


def encode(image: Dataset, syntax: UID) -> bytes:
    """Encode a data set; for a compressed syntax the pixel data becomes fragments of noise."""
    native = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
    if syntax not in (*native, DeflatedExplicitVRLittleEndian):
        noise = np.random.default_rng(1).bytes(700)
        image.PixelData = encapsulate([noise[:300], noise[300:]])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True
    else:
        image["PixelData"].VR = "OW"
    file = io.BytesIO()
    like = DicomFileLike(file)
    like.is_little_endian = syntax != ExplicitVRBigEndian
    like.is_implicit_VR = syntax == ImplicitVRLittleEndian
    write_dataset(like, image)
    encoded = file.getvalue()
    if syntax == DeflatedExplicitVRLittleEndian:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        encoded = deflate.compress(encoded) + deflate.flush()
        encoded += bytes(len(encoded) % 2)
    return encoded


def write_images(folder: Path, images: list[Dataset], syntax: UID = ExplicitVRLittleEndian) -> list[Path]:
    """Write DICOM files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for image in images:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = image.SOPClassUID
        meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        meta.TransferSyntaxUID = syntax
        head = io.BytesIO()
        head.write(bytes(128) + b"DICM")
        write_file_meta_info(head, meta, enforce_standard=True)
        path = folder / f"{image.SOPInstanceUID}.dcm"
        path.write_bytes(head.getvalue() + encode(image, syntax))
        paths.append(path)
    return paths


def data_set_of(path: Path) -> bytes:
    """The bytes after the file meta information."""
    length = read_file_meta_info(path).FileMetaInformationGroupLength
    return path.read_bytes()[128 + 4 + 12 + length :]
