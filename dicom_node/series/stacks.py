"""One series, several volumes: told apart by what differs, or refused.

A SeriesInstanceUID can hold several orientations, echoes, time points, b-values or acquisitions.
Attributes are only used where slices would otherwise lie on top of each other: scanners also
number the packages of one interleaved volume.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

from dicom_node.errors import SeriesRefused
from dicom_node.series.geometry import DUPLICATE_MM, ORIENTATION_JITTER, orientation_of, position_of
from dicom_node.series.headers import Frame

PATIENT = ("PatientID", "PatientName", "PatientBirthDate")  # who differs in one is somebody else


def _file(frame: Frame) -> str | None:
    """The multi-frame object that a frame is of, also where it was written as several instances.

    These are a concatenation (PS3.3 C.7.6.16.2.2.4), or have a single frame each and say nothing.
    """
    if not frame.is_multiframe or frame.number("NumberOfFrames") == 1:
        return None
    return frame.text("ConcatenationUID") or str(frame.header.SOPInstanceUID)


_TELLING: tuple[Callable[[Frame], Hashable], ...] = (
    _file,
    lambda frame: frame.text("EchoTime"),
    lambda frame: frame.text("TemporalPositionIdentifier"),
    lambda frame: frame.text("AcquisitionNumber"),
    lambda frame: frame.text("DiffusionBValue"),
    lambda frame: frame.text("ImageType"),
)


def split_stacks(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Split the frames of a series into volumes.

    Returns
    -------
    Groups of frames of one orientation in which no two lie at the same position, in order of appearance.

    Raises
    ------
    SeriesRefused
        When the series mixes patients or studies, orientations among single slices, or holds
        images at one position that no attribute tells apart.
    """
    patients = {frame.patient(PATIENT) for frame in frames}
    studies = {frame.text("StudyInstanceUID") for frame in frames}
    for kinds, what in ((patients, "patients"), (studies, "studies")):
        if len(kinds) > 1:
            raise SeriesRefused(f"the series mixes {len(kinds)} {what}")
    groups = _by_orientation(frames)
    if len(groups) > 1 and min(map(len, groups)) < 2:
        raise SeriesRefused("the series mixes orientations")
    for telling in _TELLING:
        groups = [part for group in groups for part in _split_if_needed(group, telling)]
    worst = max(groups, key=_overlaps)
    if _overlaps(worst):
        raise SeriesRefused(
            f"{_overlaps(worst)} images lie at the position of another and no attribute tells them apart"
        )
    return groups


def _by_orientation(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: list[list[Frame]] = []
    for frame in frames:
        axes = orientation_of(frame)
        for group in groups:
            if abs(axes - orientation_of(group[0])).max() <= ORIENTATION_JITTER:
                group.append(frame)
                break
        else:
            groups.append([frame])
    return groups


def _split_if_needed(group: list[Frame], telling: Callable[[Frame], Hashable]) -> list[list[Frame]]:
    if not _overlaps(group):
        return [group]
    parts: defaultdict[Hashable, list[Frame]] = defaultdict(list)
    for frame in group:
        parts[telling(frame)].append(frame)
    return list(parts.values())


def _overlaps(group: Sequence[Frame]) -> int:
    """How many frames lie at the position of another."""
    places = {tuple((position_of(frame) / DUPLICATE_MM).round()) for frame in group}
    return len(group) - len(places)
