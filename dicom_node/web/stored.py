"""What is shown of a series in the book: its images from the spool, its result from the result's folder.

The outlines are read from the SEG that was sent, not from the analysis: what a reader sees is what the
archive has.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.errors import SeriesRefused
from dicom_node.series.geometry import Stack, order_stack, orientation_of, position_of
from dicom_node.series.headers import Frame, frames_of, read_header
from dicom_node.series.pixels import read_voxels
from dicom_node.web.shown import (
    Judged,
    Shown,
    display_of,
    first_window,
    in_plane,
    numbered,
    pixel_size,
)
from dicom_node.workflow.maps import read_heatmap
from dicom_node.workflow.summary import FILE_NAME as SUMMARY

SEG = "seg.dcm"

Key = tuple[str, int | None]
"""SOP Instance UID and frame number of a slice."""


def read_summary(folder: Path | None) -> dict[str, Any]:
    """Read ``result.json``; empty when there is none, or no longer."""
    try:
        summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text()) if folder else {}
    except (OSError, json.JSONDecodeError):
        return {}
    return summary


def read_shown(paths: Sequence[Path], folder: Path | None) -> Shown:
    """Read a series and what was found in it.

    Parameters
    ----------
    paths : of its images
    folder : of the result; None when there is none

    Raises
    ------
    SeriesRefused
        There is nothing that could be shown.
    """
    if not paths:
        raise SeriesRefused("its images are no longer here")
    frames, lost = _frames(paths)
    summary = read_summary(folder)
    slices = summary.get("slices", [])
    stack, remark = _stack(frames, [_key(each) for each in slices])
    if lost:
        remark = f"{lost} of the files cannot be read. {remark}".strip()
    voxels = read_voxels(stack)
    keys = [(frame.reference.sop_instance_uid, frame.reference.frame_number) for frame in stack.frames]
    fits = bool(slices) and keys == [_key(each) for each in slices]
    turn, edges, pixel_mm = None, None, None
    if _has_orientation(stack):
        turn, edges = display_of(stack.affine)
        pixel_mm = pixel_size(stack.affine, turn)
    heatmap = read_heatmap(folder) if fits and folder else None
    if heatmap is not None and heatmap.shape != voxels.shape:
        heatmap = None
    labels = _labels(folder / SEG, keys, voxels.shape) if fits and folder else None
    return Shown(
        voxels=in_plane(turn, voxels),
        pixel_mm=pixel_mm,
        edges=edges,
        names=numbered([_own_name(frame) for frame in stack.frames], len(stack.frames)),
        window=first_window(voxels),
        probability=None if heatmap is None else in_plane(turn, heatmap),
        labels=None if labels is None else in_plane(turn, labels),
        judged=tuple(_judged(each) for each in slices) if fits else (),
        lesions=tuple(summary.get("lesions", ())) if fits else (),
        threshold=summary.get("bundle", {}).get("detector_threshold") if fits else None,
        remark=remark,
    )


def _frames(paths: Sequence[Path]) -> tuple[list[Frame], int]:
    frames: list[Frame] = []
    lost = 0
    for path in paths:
        try:
            frames += frames_of(path, read_header(path))
        except SeriesRefused:
            lost += 1
    if not frames:
        raise SeriesRefused("none of its images can be read")
    return frames, lost


def _stack(frames: Sequence[Frame], analysed: Sequence[Key]) -> tuple[Stack, str]:
    """Order what was analysed as it was then; of any other series as much as can be."""
    by_key = {(f.reference.sop_instance_uid, f.reference.frame_number): f for f in frames}
    if analysed and all(key in by_key for key in analysed):
        return order_stack([by_key[key] for key in analysed]), ""
    remark = "Some of the images that were analysed are no longer here." if analysed else ""
    group = _largest_group(frames)
    try:
        return order_stack(group), remark
    except SeriesRefused as refusal:
        return _as_far_as_possible(group), f"{remark} No sound volume: {refusal}.".strip()


def _largest_group(frames: Sequence[Frame]) -> list[Frame]:
    """Frames of one matrix and orientation."""

    def kind(frame: Frame) -> tuple[object, ...]:
        orientation = frame.numbers("ImageOrientationPatient", 6) or ()
        return frame.number("Rows"), frame.number("Columns"), tuple(round(v, 2) for v in orientation)

    kinds = Counter(map(kind, frames))
    (largest, _), *_ = kinds.most_common(1)
    if not (largest[0] and largest[1]):
        raise SeriesRefused("its images have no pixels")
    return [frame for frame in frames if kind(frame) == largest]


def _as_far_as_possible(group: list[Frame]) -> Stack:
    """Order frames that are no volume: along their normal, or by their numbers. Sizes in the plane hold."""
    affine = np.eye(4)
    try:
        axes = orientation_of(group[0])
        normal = np.cross(*axes)
        ordered = sorted(group, key=lambda frame: float(position_of(frame) @ normal))
    except SeriesRefused:
        return Stack(tuple(sorted(group, key=lambda f: (f.number("InstanceNumber") or 0, f.index))), affine)
    row_mm, column_mm = group[0].numbers("PixelSpacing", 2) or (1.0, 1.0)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = axes[0] * column_mm, axes[1] * row_mm, normal
    return Stack(tuple(ordered), affine)


def _has_orientation(stack: Stack) -> bool:
    try:
        orientation_of(stack.frames[0])
    except SeriesRefused:
        return False
    return stack.frames[0].numbers("PixelSpacing", 2) is not None


def _own_name(frame: Frame) -> str:
    if frame.is_multiframe:
        return f"frame {frame.index + 1}"
    number = frame.number("InstanceNumber")
    return "" if number is None else f"image {number:.0f}"


def _key(each: Mapping[str, Any]) -> Key:
    return each["sop_instance_uid"], each["frame_number"]


def _judged(each: Mapping[str, Any]) -> Judged:
    return Judged(each["tumour_probability"], each["positive"], each["segmented"])


def _labels(path: Path, keys: Sequence[Key], shape: tuple[int, ...]) -> NDArray[np.uint16] | None:
    """Bring the segments back to the slices that each frame says it was made from."""
    if not path.exists():
        return None
    segmentation = dcmread(path)
    place = {key: k for k, key in enumerate(keys)}
    labels = np.zeros(shape, np.uint16)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    pixels = segmentation.pixel_array.reshape(-1, *shape[1:])
    for groups, pixels_of_frame in zip(segmentation.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        index = place.get(_source_key(source))
        if index is None:
            return None  # of other images: better none than a wrong one
        # with a single segment, all frames share its identification
        identified = groups if "SegmentIdentificationSequence" in groups else shared
        number = identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        labels[index][pixels_of_frame > 0] = number
    return labels


def _source_key(source: Dataset) -> Key:
    frame_number = source.get("ReferencedFrameNumber")
    return str(source.ReferencedSOPInstanceUID), None if frame_number is None else int(frame_number)
