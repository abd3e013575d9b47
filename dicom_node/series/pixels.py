"""From stored pixel data to voxels: decode, padding, modality LUT, MONOCHROME1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import UID, RLELossless

from dicom_node.errors import SeriesRefused
from dicom_node.series.decode import CannotDecode, decode, decode_apart
from dicom_node.series.geometry import Stack, matrix_of
from dicom_node.series.headers import Frame, raise_if_disk

MOST_VOXELS = 1 << 28  # of a volume: 640 slices of 640 x 640; more is a header that lies


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
        Names the file whose pixel data cannot be decoded, or says that the images are blank or too large.
    OSError
        When a file cannot be read.
    """
    first = stack.frames[0]
    shape = (len(stack.frames), *matrix_of(first))
    if np.prod(shape, dtype=float) > MOST_VOXELS:
        raise SeriesRefused(f"{' x '.join(map(str, shape))} voxels are more than a head has")
    voxels = np.empty(shape, np.float32)
    padded = any(frame.get("PixelPaddingValue") is not None for frame in stack.frames)
    padding = np.zeros(voxels.shape, bool) if padded else None
    place = {id(frame): k for k, frame in enumerate(stack.frames)}
    in_files = sorted(stack.frames, key=lambda f: (str(f.path), f.index))
    files = [list(group) for _, group in groupby(in_files, key=lambda f: f.path)]
    for frames, decoded in zip(files, _decoded(files), strict=True):
        name = frames[0].path.name
        if len(decoded) != len(frames):
            raise SeriesRefused(f"{name} holds {len(decoded)} images, its header says {len(frames)}")
        for frame, stored in zip(frames, decoded, strict=True):
            k = place[id(frame)]
            if stored.shape != voxels.shape[1:]:
                raise SeriesRefused(f"{name} decodes to {stored.shape}, its header says {voxels.shape[1:]}")
            voxels[k] = _rescale(stored, frame)
            if padding is not None:
                padding[k] = _is_padding(stored, frame)
    inverted = first.text("PhotometricInterpretation") == "MONOCHROME1"
    if padding is not None and not padding.all():
        voxels[padding] = voxels[~padding].max() if inverted else voxels[~padding].min()
    if not (np.isfinite(voxels).all() and voxels.max() > voxels.min()):
        raise SeriesRefused("the images are blank, or their rescale values are no numbers")
    return voxels.max() + voxels.min() - voxels if inverted else voxels


def _decoded(files: Sequence[list[Frame]]) -> Iterator[list[NDArray[np.integer]]]:
    """Decode one file after another."""
    wanted = [
        (frames[0].path, [f.index for f in frames] if frames[0].is_multiframe else None) for frames in files
    ]
    done = 0
    try:
        for decoded in (decode_apart if any(map(_needs_decoder, files)) else decode)(wanted):
            yield decoded
            done += 1
    except SeriesRefused:
        raise
    except Exception as error:  # noqa: BLE001 - each decoder raises kinds of its own
        raise_if_disk(error)
        kind = str(error) if isinstance(error, CannotDecode) else type(error).__name__
        raise SeriesRefused(
            f"the pixel data of {wanted[done][0].name} cannot be decoded ({kind}): it is damaged, "
            f"or there is no decoder for its transfer syntax"
        ) from None


def _needs_decoder(frames: Sequence[Frame]) -> bool:
    """Whether others than pydicom itself have to decode a file."""
    syntax = frames[0].header.file_meta.get("TransferSyntaxUID")
    return isinstance(syntax, UID) and syntax.is_encapsulated and syntax != RLELossless


def _rescale(stored: NDArray[np.integer], frame: Frame) -> NDArray[np.float32]:
    slope, intercept = frame.number("RescaleSlope"), frame.number("RescaleIntercept")
    transformation = Dataset()
    if table := frame.get("ModalityLUTSequence"):
        transformation.ModalityLUTSequence = table
    elif slope is not None and intercept is not None:
        transformation.RescaleSlope, transformation.RescaleIntercept = slope, intercept
    rescaled: NDArray[np.float32] = apply_modality_lut(stored, transformation).astype(np.float32)
    return rescaled


def _is_padding(stored: NDArray[np.integer], frame: Frame) -> NDArray[np.bool_]:
    """Pixel Padding Value and its range limit (PS3.3 C.7.5.1.1.2).

    Some scanners write them as unsigned beside signed pixels, or the other way round: the same bits.
    """
    value, limit = frame.number("PixelPaddingValue"), frame.number("PixelPaddingRangeLimit")
    if value is None:
        return np.zeros(stored.shape, bool)
    ends = np.array([value, value if limit is None else limit], np.int64)
    bits = ends.astype(f"{stored.dtype.kind}2")  # both are US or SS
    padded: NDArray[np.bool_] = (stored >= bits.min()) & (stored <= bits.max())
    return padded
