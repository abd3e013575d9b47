"""From stored pixel data to voxels: decode, padding, modality LUT, MONOCHROME1."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import iter_pixels

from dicom_node.errors import SeriesRefused
from dicom_node.series.geometry import Stack
from dicom_node.series.headers import Frame, raise_if_disk


def read_voxels(stack: Stack) -> NDArray[np.float32]:
    """Decode every frame of a stack, in slice order.

    Returns
    -------
    float32, (slices, rows, columns), after the modality LUT (PS3.3 C.11.1) or the frame's pixel
    value transformation (C.7.6.16.2.9); MONOCHROME1 is inverted within the volume's range, and
    padding takes the volume's lowest value.

    Raises
    ------
    SeriesRefused
        Names the file whose pixel data cannot be decoded, or says that the images are blank.
    OSError
        When a file cannot be read.
    """
    first = stack.frames[0]
    voxels = np.empty((len(stack.frames), int(first.get("Rows")), int(first.get("Columns"))), np.float32)
    padding = np.zeros(voxels.shape, bool) if first.get("PixelPaddingValue") is not None else None
    place = {id(frame): k for k, frame in enumerate(stack.frames)}
    in_files = sorted(stack.frames, key=lambda f: (str(f.path), f.index))
    for path, group in groupby(in_files, key=lambda f: f.path):
        frames = list(group)
        for frame, stored in zip(frames, _decode(path, frames), strict=True):
            k = place[id(frame)]
            if stored.shape != voxels.shape[1:]:
                raise SeriesRefused(
                    f"{path.name} decodes to {stored.shape}, its header says {voxels.shape[1:]}"
                )
            voxels[k] = _rescale(stored, frame)
            if padding is not None:
                padding[k] = _is_padding(stored, frame)
    if padding is not None and not padding.all():
        voxels[padding] = voxels[~padding].min()
    if not (np.isfinite(voxels).all() and voxels.max() > voxels.min()):
        raise SeriesRefused("the images are blank, or their rescale values are no numbers")
    if first.text("PhotometricInterpretation") == "MONOCHROME1":
        voxels = voxels.max() + voxels.min() - voxels
    return voxels


def _decode(path: Path, frames: list[Frame]) -> list[NDArray[np.integer]]:
    indices = [frame.index for frame in frames] if frames[0].is_multiframe else None
    try:
        return [np.array(a) for a in iter_pixels(path, indices=indices)]
    except Exception as error:  # noqa: BLE001 - each decoder raises kinds of its own
        raise_if_disk(error)
        raise SeriesRefused(
            f"the pixel data of {path.name} cannot be decoded ({type(error).__name__}): it is damaged, "
            f"or there is no decoder for its transfer syntax"
        ) from None


def _rescale(stored: NDArray[np.integer], frame: Frame) -> NDArray[np.float32]:
    if frame.is_multiframe:
        slope, intercept = frame.number("RescaleSlope"), frame.number("RescaleIntercept")
        header = Dataset()
        if slope is not None and intercept is not None:
            header.RescaleSlope, header.RescaleIntercept = slope, intercept
    else:
        header = frame.header
    rescaled: NDArray[np.float32] = apply_modality_lut(stored, header).astype(np.float32)
    return rescaled


def _is_padding(stored: NDArray[np.integer], frame: Frame) -> NDArray[np.bool_]:
    """Pixel Padding Value and its range limit (PS3.3 C.7.5.1.1.2)."""
    low = frame.number("PixelPaddingValue")
    if low is None:
        return np.zeros(stored.shape, bool)
    limit = frame.number("PixelPaddingRangeLimit")
    low, high = sorted((low, low if limit is None else limit))
    padded: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return padded
