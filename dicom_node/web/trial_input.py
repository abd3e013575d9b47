"""From files that were sent to what is analysed: pictures, and series of DICOM images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import SeriesRefused
from dicom_node.series.geometry import Stack, orientation_of, position_of
from dicom_node.series.headers import Frame
from dicom_node.series.selection import Outcome, Verdict
from dicom_node.series.volume import Contrast, FrameReference, MRVolume
from dicom_node.web.uploads import UploadRefused
from dicom_node.workflow.stations import Selected

LONGEST_SIDE = 4096  # of a picture, in pixels
SHORTEST_SIDE = 16


def read_picture(path: Path) -> MRVolume:
    """Read a PNG or JPEG as a volume of one slice, whose pixels are square and of no known size.

    It is taken to be what a radiologist sees: right on the left, anterior or superior up.

    Raises
    ------
    UploadRefused
        It is damaged, too large or too small.
    """
    rows, columns = _size(path.read_bytes())
    if max(rows, columns) > LONGEST_SIDE or min(rows, columns) < SHORTEST_SIDE:
        raise UploadRefused(
            f"the picture has {columns} x {rows} pixels; {SHORTEST_SIDE} to {LONGEST_SIDE} a side can be read"
        )
    read = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
    if read is None:
        raise UploadRefused("the picture is damaged")
    voxels: NDArray[np.float32] = read.astype(np.float32)[None]
    if voxels.max() == voxels.min():
        raise UploadRefused("the picture is blank")
    return MRVolume(voxels, np.eye(4), (FrameReference("", ""),), (), Contrast.UNKNOWN)


def _size(data: bytes) -> tuple[int, int]:
    """Rows and columns of a PNG or JPEG, before anything is decoded."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame (T.81, B.2.2)
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + length if marker != 0xFF else 1
    raise UploadRefused("the picture is damaged")


def as_one_slice(selected: Selected) -> Selected:
    """Let a single image be a volume of one slice: here nobody waits for the others."""
    selection = selected.selection
    if len(selected.frames) != 1 or selection.pipeline is None or selection.stack is not None:
        return selected
    (frame,) = selected.frames
    try:
        stack = _one_slice(frame)
    except SeriesRefused:
        return selected  # the refusal that it has says more
    trace = tuple(v for v in selection.trace if v.passed)
    verdict = Verdict("one image", True, "taken as a volume of one slice")
    chosen = replace(selection, outcome=Outcome.CHOSEN, stack=stack, trace=(*trace, verdict))
    return Selected(chosen, selected.frames)


def _one_slice(frame: Frame) -> Stack:
    axes, position = orientation_of(frame), position_of(frame)
    spacing = frame.numbers("PixelSpacing", 2)
    if spacing is None or min(spacing) <= 0:
        raise SeriesRefused("PixelSpacing is missing or not positive: sizes in mm are not known")
    thickness_mm = frame.number("SliceThickness") or 1.0
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = axes[0] * spacing[1], axes[1] * spacing[0]
    affine[:3, 2] = np.cross(axes[0], axes[1]) * thickness_mm
    affine[:3, 3] = position
    return Stack((frame,), affine, ("A single image: its volume is that of a slice of its thickness.",))
