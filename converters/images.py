"""Squares to compare and to calibrate networks with: given images, or synthetic ones."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError
from dicom_node.phantom.brain import Phantom, PhantomContrast, brain_phantom
from dicom_node.series.normalisation import PercentileRule, SquareGrid, normalise

MOST = 64  # images; more change neither a comparison nor a calibration
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
PHANTOM_SEED = 0


def squares_to_compare(source: Path | None, size: int) -> NDArray[np.float32]:
    """Give squares as the node feeds them: float32, (n, size, size), in 0..1.

    Parameters
    ----------
    source : a folder of images (8 or 16 bits), or an ``.npy`` of (n, rows, columns) or
        (n, rows, columns, 1); None takes slices of the phantom, a ramp and noise
    size : side in pixels

    Raises
    ------
    ConversionError
        When there is nothing to read, or it is no set of grey images.
    """
    if source is None:
        return _synthetic(size)
    images = _from_array(source) if source.is_file() else _from_folder(source)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(MOST, len(images))).round().astype(int))
    squares = [
        SquareGrid(image.shape[0], image.shape[1], row_mm=1.0, column_mm=1.0, size=size).to_square(image)
        for image in (images[index] for index in chosen)
    ]
    return np.clip(np.stack(squares), 0.0, 1.0).astype(np.float32)


def phantom_squares(
    size: int, rule: PercentileRule, contrast: PhantomContrast = "FLAIR"
) -> NDArray[np.float32]:
    """Give three slices of the phantom as squares, (3, size, size): below, in and beside its lesion."""
    phantom = _phantom(contrast)
    if phantom.centre is None:
        raise AssertionError("the reference phantom has a lesion")
    middle = round(phantom.centre[0])
    first, last = np.flatnonzero(phantom.lesion.any(axis=(1, 2)))[[0, -1]]
    _, rows, columns = phantom.voxels.shape
    grid = SquareGrid(rows, columns, *phantom.spacing_mm[1:], size)
    images = normalise(phantom.voxels, rule)
    chosen = (max(0, int(first) - 4), middle, int(last))
    return np.stack([grid.to_square(images[index]) for index in chosen])


@functools.cache
def _phantom(contrast: PhantomContrast) -> Phantom:
    """Make the phantom once: it takes a second, and a bundle needs it four times."""
    return brain_phantom(PHANTOM_SEED, contrast=contrast)


def _synthetic(size: int) -> NDArray[np.float32]:
    """Give the phantom, a ramp and noise: noise alone leaves a network in one corner of its range."""
    noise = np.random.default_rng(0).random((2, size, size), dtype=np.float32)
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    return np.concatenate([phantom_squares(size, PercentileRule()), (ramp[:, None] * ramp)[None], noise])


def _from_array(path: Path) -> list[NDArray[np.float32]]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ConversionError(f"--images {path} is neither a folder nor an .npy file: {error}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif":
        raise ConversionError(f"--images {path} is no array of numbers")
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 or not array.size:
        raise ConversionError(
            f"--images {path} is of shape {array.shape}; (n, rows, columns) or (n, rows, columns, 1) is read"
        )
    values = array.astype(np.float32)
    if array.dtype.kind in "ui":
        values /= float(np.iinfo(array.dtype).max)
    elif not (values.min() >= 0 and values.max() <= 1):
        raise ConversionError(
            f"--images {path} is in {values.min():.3g} to {values.max():.3g}; "
            "give it in 0 to 1, as the network is fed"
        )
    return list(values)


def _from_folder(folder: Path) -> list[NDArray[np.float32]]:
    if not folder.is_dir():
        raise ConversionError(f"--images {folder}: there is no such folder or file")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ConversionError(f"--images {folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(MOST, len(paths))).round().astype(int))
    return [_grey(paths[index]) for index in chosen]


def _grey(path: Path) -> NDArray[np.float32]:
    """Read one image as (rows, columns) in 0..1."""
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise ConversionError(f"--images {path} cannot be read as a grey image of 8 or 16 bits")
    white = 255.0 if image.dtype == np.uint8 else 65535.0
    scaled: NDArray[np.float32] = image.astype(np.float32) / np.float32(white)
    return scaled
