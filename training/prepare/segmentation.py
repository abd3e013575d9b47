"""What a DICOM Segmentation (PS3.3 A.51, A.90) says: its segments, and each frame's place and sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, SegmentationStorage

from dicom_node.errors import SeriesRefused
from dicom_node.series.headers import raise_if_disk, read_header

LABEL_MAP_SEGMENTATION_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")  # not in pydicom 3.0's dictionary
SEGMENTATION = {SegmentationStorage, LABEL_MAP_SEGMENTATION_STORAGE}

HALF = 0.5  # of a fractional segment, from here on a pixel belongs to it

_NO_PLACE = {"NO", "REORIENTED_ONLY"}  # Spatial Locations Preserved (PS3.3 C.7.6.16.2.6)


class _Kind(StrEnum):
    """Segmentation Type (PS3.3 C.8.20.2)."""

    BINARY = "BINARY"
    FRACTIONAL = "FRACTIONAL"
    LABELMAP = "LABELMAP"


@dataclass(frozen=True)
class Segment:
    """One item of the Segment Sequence.

    Attributes
    ----------
    automatic : made by an algorithm without a person
    """

    number: int
    label: str
    automatic: bool


@dataclass(frozen=True)
class Segmentation:
    """One SEG object without its pixels."""

    path: Path
    header: Dataset

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """In their order; background of a label map has no item, or number 0."""
        items = self.header.get("SegmentSequence") or []
        return tuple(
            Segment(
                int(item.SegmentNumber),
                str(item.get("SegmentLabel", "")),
                item.get("SegmentAlgorithmType") == "AUTOMATIC",
            )
            for item in items
            if item.get("SegmentNumber")
        )

    def choose(self, wanted: Sequence[str]) -> tuple[Segment, ...]:
        """Segments by number, or by label with ``*`` and ``?``, in any case; all when none is asked for."""
        patterns = [text.casefold() for text in wanted]
        return tuple(
            segment
            for segment in self.segments
            if not wanted
            or any(p == str(segment.number) or fnmatchcase(segment.label.casefold(), p) for p in patterns)
        )

    @cached_property
    def frames(self) -> tuple[SegmentFrame, ...]:
        """As the functional groups describe them."""
        shared = self.header.get("SharedFunctionalGroupsSequence") or [Dataset()]
        groups = self.header.get("PerFrameFunctionalGroupsSequence") or []
        if not groups or len(groups) != int(self.header.get("NumberOfFrames") or 0):
            raise SeriesRefused(f"{self.path.name} does not describe each of its frames, or is cut short")
        return tuple(SegmentFrame(own, shared[0]) for own in groups)

    @property
    def referenced_instances(self) -> set[str]:
        """SOP Instance UIDs that its frames were made from."""
        return {uid for frame in self.frames for uid, _ in frame.sources}

    @property
    def referenced_series(self) -> set[str]:
        """Series Instance UIDs of its Common Instance Reference."""
        items = self.header.get("ReferencedSeriesSequence") or []
        return {str(item.get("SeriesInstanceUID", "")) for item in items} - {""}


@dataclass(frozen=True)
class SegmentPlane:
    """Where a frame lies: mm (LPS) of the first pixel, and steps along growing column and row.

    Attributes
    ----------
    apart_mm : from slice to slice, where it is told
    """

    position: NDArray[np.float64]
    along_column_index: NDArray[np.float64]
    along_row_index: NDArray[np.float64]
    apart_mm: float | None

    def mm(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float64]:
        """Patient coordinates of pixels, (n, 3), by PS3.3 C.7.6.2.1.1."""
        across = np.outer(columns, self.along_column_index) + np.outer(rows, self.along_row_index)
        placed: NDArray[np.float64] = self.position + across
        return placed


@dataclass(frozen=True)
class SegmentFrame:
    """One frame: its own functional groups and those that all share (PS3.3 C.7.6.16)."""

    own: Dataset
    shared: Dataset

    def _macro(self, keyword: str) -> Dataset | None:
        items = self.own.get(keyword) or self.shared.get(keyword)
        found: Dataset | None = items[0] if items else None
        return found

    @property
    def segment(self) -> int | None:
        """None in a label map."""
        macro = self._macro("SegmentIdentificationSequence")
        return None if macro is None else int(macro.ReferencedSegmentNumber)

    @cached_property
    def plane(self) -> SegmentPlane | None:
        """None when a part of it is missing."""
        place, turn, measures = map(
            self._macro, ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
        )
        position = place and place.get("ImagePositionPatient")
        cosines = turn and turn.get("ImageOrientationPatient")
        spacing = measures and measures.get("PixelSpacing")
        if not measures or not position or not cosines or not spacing:
            return None
        row, column = np.array(cosines, np.float64).reshape(2, 3)
        apart = measures.get("SpacingBetweenSlices")
        return SegmentPlane(
            position=np.array(position, np.float64).reshape(3),
            along_column_index=row * float(spacing[1]),
            along_row_index=column * float(spacing[0]),
            apart_mm=None if apart is None else float(apart),
        )

    @cached_property
    def _source_items(self) -> list[Dataset]:
        items = self.own.get("DerivationImageSequence") or self.shared.get("DerivationImageSequence") or []
        return [source for item in items for source in item.get("SourceImageSequence") or []]

    @cached_property
    def sources(self) -> list[tuple[str, int | None]]:
        """SOP Instance UID and frame number of what it was made from; None for all or the only frame."""
        found: list[tuple[str, int | None]] = []
        for source in self._source_items:
            numbers = source.get("ReferencedFrameNumber")
            several = numbers if isinstance(numbers, (list, MultiValue)) else [numbers]
            uid = str(source.get("ReferencedSOPInstanceUID", ""))
            found += [(uid, None if number is None else int(number)) for number in several]
        return found

    @property
    def keeps_places(self) -> bool:
        """Whether its pixels may be taken to lie on those of its sources."""
        return all(source.get("SpatialLocationsPreserved") not in _NO_PLACE for source in self._source_items)


def read_segmentation(path: Path) -> Segmentation:
    """Read a SEG's header.

    Raises
    ------
    SeriesRefused
        When it cannot be read, or is no segmentation.
    """
    header = read_header(path)
    if header.get("SOPClassUID") not in SEGMENTATION:
        raise SeriesRefused(f"{path.name} is no segmentation")
    if header.get("SegmentationType") not in set(_Kind):
        raise SeriesRefused(f"{path.name} is of no known SegmentationType")
    if header.SegmentationType == _Kind.FRACTIONAL and not header.get("MaximumFractionalValue"):
        raise SeriesRefused(f"{path.name} is FRACTIONAL without MaximumFractionalValue")
    segmentation = Segmentation(path, header)
    try:  # what is read on demand is read now
        _ = segmentation.segments, [(f.segment, f.plane, f.sources) for f in segmentation.frames]
    except (AttributeError, ValueError, TypeError, IndexError) as error:
        raise SeriesRefused(f"{path.name} is damaged ({type(error).__name__})") from None
    return segmentation


def segment_pixels(
    segmentation: Segmentation, segments: Sequence[Segment]
) -> Iterator[tuple[int, SegmentFrame, NDArray[np.bool_]]]:
    """Number (from 1), description and pixels of each frame that may show one of the segments."""
    header, numbers = segmentation.header, [segment.number for segment in segments]
    kind = _Kind(header.SegmentationType)
    used = [
        index
        for index, frame in enumerate(segmentation.frames)
        if kind is _Kind.LABELMAP or frame.segment in numbers
    ]
    if not used:
        return
    stored = _decode(segmentation)
    for index in used:
        frame = stored[index]
        match kind:
            case _Kind.BINARY:
                inside = frame > 0
            case _Kind.FRACTIONAL:
                inside = frame >= HALF * int(header.MaximumFractionalValue)
            case _Kind.LABELMAP:
                inside = np.isin(frame, numbers)
        yield index + 1, segmentation.frames[index], inside


def _decode(segmentation: Segmentation) -> NDArray[np.integer]:
    """Stored values, (frames, rows, columns).

    All frames at once: pydicom 3.0 cannot cut out one whose bits do not end with a byte.
    """
    header, name = segmentation.header, segmentation.path.name
    shape = (len(segmentation.frames), int(header.Rows), int(header.Columns))
    try:
        dataset = dcmread(segmentation.path)
        cut = not dataset.file_meta.TransferSyntaxUID.is_encapsulated and (
            8 * len(dataset.PixelData) < int(np.prod(shape)) * int(dataset.BitsAllocated)
        )
        stored = None if cut else np.asarray(pixel_array(dataset, raw=True)).reshape(shape)
    except Exception as error:  # noqa: BLE001 - each decoder raises kinds of its own
        raise_if_disk(error)
        raise SeriesRefused(f"the pixel data of {name} cannot be decoded ({type(error).__name__})") from None
    if stored is None:  # pydicom would take the missing bits for 0
        raise SeriesRefused(f"{name} is cut short")
    return stored
