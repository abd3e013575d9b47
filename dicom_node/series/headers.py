"""The frames of a series, seen alike whether single-frame or multi-frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag
from pydicom.uid import (
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from dicom_node.errors import SeriesRefused
from dicom_node.series.volume import FrameReference

SINGLE_FRAME = {MRImageStorage}
MULTI_FRAME = {EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage}

# What pydicom lets out of a damaged value: it converts on access.
CONVERSION_ERRORS = (ValueError, TypeError, ArithmeticError, NotImplementedError, OSError)

# What enhanced MR objects call the same thing (PS3.3 C.8.13).
_ENHANCED = {
    "EchoTime": "EffectiveEchoTime",
    "InversionTime": "InversionTimes",
    "ImageType": "FrameType",
    "DiffusionBValue": "DiffusionBValue",
    "TemporalPositionIdentifier": "TemporalPositionIndex",
    "AcquisitionNumber": "FrameAcquisitionNumber",
}


@dataclass(frozen=True)
class Frame:
    """One image of a series: an instance, or one frame of a multi-frame instance.

    Attributes
    ----------
    path : the file
    header : the instance's data set without pixel data
    index : of the frame in the file, from 0
    """

    path: Path
    header: Dataset
    index: int = 0

    @property
    def is_multiframe(self) -> bool:
        """Whether its attributes are in functional groups."""
        return self.header.SOPClassUID in MULTI_FRAME

    @property
    def reference(self) -> FrameReference:
        """How others refer to it."""
        number = self.index + 1 if self.is_multiframe else None
        return FrameReference(str(self.header.SOPClassUID), str(self.header.SOPInstanceUID), number)

    @cached_property
    def _groups(self) -> list[Dataset]:
        """Every functional group macro that applies to this frame, its own first (PS3.3 C.7.6.16).

        Without private ones: some makers repeat attributes there, with values of their own.
        """
        items = [
            *(_value(self.header, "PerFrameFunctionalGroupsSequence") or [])[self.index : self.index + 1]
        ]
        items += _value(self.header, "SharedFunctionalGroupsSequence") or []
        tags = ((item, tag) for item in items for tag in item.keys() if not tag.is_private)  # noqa: SIM118
        return [macro for item, tag in tags for macro in _items_of(item, tag)]

    def get(self, keyword: str) -> Any:  # noqa: ANN401 - the type follows the keyword's VR
        """Read an attribute by its single-frame keyword; None when absent, empty or not of its VR."""
        if self.is_multiframe:
            for name in (_ENHANCED.get(keyword, keyword), keyword):
                for macro in self._groups:
                    if (value := _value(macro, name)) is not None:
                        return value
        return _value(self.header, keyword)

    def number(self, keyword: str) -> float | None:
        """Read a decimal attribute, the first value where there are several; None when it is no number."""
        value = self.get(keyword)
        if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
            value = value[0] if len(value) else None
        try:
            return None if value is None else float(value)
        except (TypeError, ValueError):
            return None

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """Read ``count`` decimal values; None unless exactly that many are there."""
        value = self.get(keyword)
        try:
            values = tuple(float(v) for v in value)
        except (TypeError, ValueError):
            return None
        return values if len(values) == count else None

    def text(self, keyword: str) -> str:
        """Read an attribute as text, several values joined by a backslash; empty when absent."""
        return _text(self.get(keyword))

    def patient(self, keywords: Iterable[str]) -> tuple[str, ...]:
        """Read attributes of the patient (group 0010) as text, as ``text`` does.

        The header keeps them as they were read: results copy their bytes, and what is decoded by a character
        set that is not theirs is not to be had back.
        """
        undecoded = self.header[0x00100000:0x00110000]
        return tuple(_text(_value(undecoded, keyword)) for keyword in keywords)


def _text(value: Any) -> str:  # noqa: ANN401 - the type follows the VR
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        return "\\".join(str(v) for v in value)
    return "" if value is None else str(value)


def _value(dataset: Dataset, keyword: str) -> Any:  # noqa: ANN401 - the type follows the keyword's VR
    try:
        value = dataset.get(keyword)
    except CONVERSION_ERRORS:
        return None
    return None if value is None or value == "" else value


def _items_of(item: Dataset, tag: BaseTag) -> Sequence[Dataset]:
    """Read the items of an element; none where it is no sequence, or damaged."""
    try:
        element = item[tag]
    except CONVERSION_ERRORS:
        return ()
    return element.value if element.VR == "SQ" else ()


def read_header(path: Path) -> Dataset:
    """Read a file's data set up to its pixel data.

    Raises
    ------
    SeriesRefused
        When it is no DICOM file or its header cannot be parsed; the message names the file only.
    """
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        raise SeriesRefused(f"{path.name} is no DICOM file") from None
    except Exception as error:  # noqa: BLE001 - a damaged header lets any kind out, with texts that quote it
        raise_if_disk(error)
        raise SeriesRefused(f"the header of {path.name} cannot be read ({type(error).__name__})") from None


def raise_if_disk(error: Exception) -> None:
    """Raise an error of the disk again: pydicom raises OSError for damaged content too, without a number."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def frames_of(path: Path, header: Dataset) -> list[Frame]:
    """List the frames of one instance.

    Raises
    ------
    SeriesRefused
        When a multi-frame instance does not describe each of its frames.
    """
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if not isinstance(_value(header, keyword), str):
            raise SeriesRefused(f"{path.name} has no {keyword}")
    if header.SOPClassUID not in MULTI_FRAME:
        return [Frame(path, header)]
    described = len(_value(header, "PerFrameFunctionalGroupsSequence") or [])
    frames = _value(header, "NumberOfFrames")
    if frames is None or described != frames:
        raise SeriesRefused(f"{path.name} describes {described} of its {frames} frames")
    return [Frame(path, header, index) for index in range(described)]
