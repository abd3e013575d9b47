"""DICOM MR series with DICOM SEG as a data set, in the orientation that the node gives its networks."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError, SeriesRefused
from dicom_node.series.contrast import contrast_of
from dicom_node.series.geometry import Stack, order_stack
from dicom_node.series.headers import MULTI_FRAME, SINGLE_FRAME, Frame
from dicom_node.series.orientation import turn_to_display
from dicom_node.series.read import read_volume
from dicom_node.series.selection import select
from dicom_node.series.stacks import split_stacks
from dicom_node.series.volume import Contrast, MRVolume, Plane
from dicom_node.settings import Match, Pipeline
from training.prepare.dataset import DatasetWriter, LabelledVolume
from training.prepare.find import Instance, assign, frames_in, scan
from training.prepare.place import draw
from training.prepare.report import Prepared
from training.prepare.segmentation import SEGMENTATION, Segmentation
from training.prepare.sixteen_bits import LARGEST, to_16_bits
from training.prepare.split import check_fractions

SQUARE = 0.01  # pixels whose sides differ by less are square


@dataclass(frozen=True)
class _Wishes:
    """What the caller asked for."""

    segments: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    empty: bool
    join: bool


def prepare_dicom(
    folder: Path,
    out: Path,
    *,
    fractions: Sequence[float],
    seed: int,
    segments: Sequence[str] = (),
    contrasts: Sequence[Contrast] = (),
    empty: bool = False,
    join: bool = False,
    salt: str | None = None,
) -> Prepared:
    """Write a data set.

    Parameters
    ----------
    folder : with MR series and SEG objects anywhere below it
    segments : numbers or labels that are tumour; by default all
    contrasts : that are wanted; by default all
    empty : a series without SEG shows no tumour, if its study has no SEG and the node would analyse it
    join : unite several SEG objects of a series
    salt : the same salt gives the same patients the same numbers; by default a new one is drawn

    Raises
    ------
    ConfigurationError
        When nothing can be used; what could not is in the report.
    """
    check_fractions(fractions)
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder}")
    writer = DatasetWriter(out)
    wishes = _Wishes(tuple(segments), tuple(contrasts), empty, join)
    instances, left_out, others = scan(folder)
    images: defaultdict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        if instance.sop_class_uid in SINGLE_FRAME | MULTI_FRAME:
            images[instance.series_uid].append(instance)
    segs = [instance for instance in instances if instance.sop_class_uid in SEGMENTATION]
    labels, unused = assign(segs, images)
    left_out += unused
    labelled_studies = {instance.study_uid for instance in segs}
    labelled_studies |= {images[series_uid][0].study_uid for series_uid in labels}
    told = _Told(others)
    exams: Counter[str] = Counter()
    for series_uid, members in sorted(images.items(), key=lambda item: (item[1][0].order, item[0])):
        patient = members[0].patient
        found = labels.get(series_uid)
        if found is None and (not empty or members[0].study_uid in labelled_studies):
            told.without += 1
            continue
        try:
            for volume in list(_volumes(members, found, wishes, told)):  # all of a series, or none
                exams[patient] += 1
                writer.add(_labelled(volume, patient, str(exams[patient]), told))
        except SeriesRefused as refusal:
            left_out.append((f"series {series_uid}", str(refusal)))
    remarks = tuple(told.remarks(empty))
    if not exams:
        raise ConfigurationError(
            "\n".join(
                [
                    f"{folder} holds no labelled MR series that can be used",
                    *(f"{what}: {why}" for what, why in left_out),
                    *remarks,
                ]
            )
        )
    shares = writer.finish(fractions, seed, _numbers(exams, salt))
    return Prepared(shares, tuple(left_out), remarks)


class _Told:
    """What the user is to know of the whole."""

    def __init__(self, others: int) -> None:
        self.others = others
        self.without = 0
        self.taken_as_empty = 0
        self.segments: Counter[str] = Counter()
        self.automatic = 0
        self.rounded = 0
        self.raised = 0
        self.oblong = 0

    def remarks(self, empty: bool) -> Iterator[str]:
        """In sentences."""
        if self.others:
            yield f"{self.others} objects are neither MR images nor SEG."
        if self.without:
            why = "a SEG of their study is for another" if empty else "--empty says that they show no tumour"
            yield f"{self.without} MR series have no SEG and were left out ({why})."
        if self.taken_as_empty:
            yield f"{self.taken_as_empty} volumes without SEG are taken to show no tumour."
        if self.segments:
            taken = ", ".join(f"{label!r} ({number})" for label, number in sorted(self.segments.items()))
            yield f"Segments taken for tumour, with the number of volumes: {taken}."
        if self.automatic:
            yield f"{self.automatic} volumes have a segment that an algorithm made (AUTOMATIC)."
        if self.raised:
            yield f"{self.raised} volumes have values below 0 and were raised by what the column offset says."
        if self.rounded:
            yield f"{self.rounded} volumes with several slopes were rounded to 1/{LARGEST} of their range."
        if self.oblong:
            yield f"{self.oblong} volumes have oblong pixels (row_mm, column_mm)."


def _volumes(
    members: Sequence[Instance], labels: Sequence[Segmentation] | None, wishes: _Wishes, told: _Told
) -> Iterator[tuple[MRVolume, Stack, NDArray[np.bool_]]]:
    """The volumes of a series with their masks.

    Raises
    ------
    SeriesRefused
        Says why the series cannot be used.
    """
    frames = frames_in(members)
    if any(frame.text("BurnedInAnnotation") == "YES" for frame in frames):
        raise SeriesRefused("BurnedInAnnotation is YES: text in the pixels may name the patient")
    if labels is None:
        stack = _as_the_node_would(frames, wishes)
        volume = read_volume(stack, contrast_of(stack.frames[0])[0])
        told.taken_as_empty += 1
        yield volume, stack, np.zeros(volume.shape, bool)
        return
    patients = {frames[0].text("PatientID"), *(str(label.header.get("PatientID") or "") for label in labels)}
    if len({patient.strip() for patient in patients} - {""}) > 1:
        raise SeriesRefused("its SEG is of another patient")
    chosen = [(label, picked) for label in labels if (picked := label.choose(wishes.segments))]
    if not chosen:
        known = sorted({f"{s.number} {s.label!r}" for label in labels for s in label.segments})
        raise SeriesRefused(f"its SEG lacks the segments asked for; it has {', '.join(known) or 'none'}")
    if len(chosen) > 1 and not wishes.join:
        raise SeriesRefused(
            f"it has {len(chosen)} SEG objects: keep the one that holds, or unite them with --join"
        )
    groups, several = _referenced_groups(frames, [label for label, _ in chosen])
    contrasts = [contrast_of(group[0])[0] for group in groups]
    if wishes.contrasts and not set(contrasts) & set(wishes.contrasts):
        raise SeriesRefused(f"its contrast is {', '.join(contrasts)}")
    for group, contrast in zip(groups, contrasts, strict=True):
        if wishes.contrasts and contrast not in wishes.contrasts:
            continue
        stack = order_stack(group)
        masks = [draw(label, picked, stack, only_referring=several) for label, picked in chosen]
        yield read_volume(stack, contrast), stack, np.logical_or.reduce(masks)
        segments = [segment for _, picked in chosen for segment in picked]
        told.segments.update({segment.label for segment in segments})
        told.automatic += any(segment.automatic for segment in segments)


def _referenced_groups(
    frames: Sequence[Frame], labels: Iterable[Segmentation]
) -> tuple[list[list[Frame]], bool]:
    """The volume of a series, or those of several on which its SEG lies; and whether there are several."""
    groups = split_stacks(frames)
    if len(groups) == 1:
        return groups, False
    sources = {source for label in labels for frame in label.frames for source in frame.sources}
    groups = [group for group in groups if any(_is_among(frame, sources) for frame in group)]
    if not groups:
        raise SeriesRefused("it holds several volumes, and the SEG does not say on which it lies")
    return groups, True


def _as_the_node_would(frames: Sequence[Frame], wishes: _Wishes) -> Stack:
    """The volume that the node would analyse of a series."""
    wanted = wishes.contrasts or tuple(Contrast)
    pipeline = Pipeline(name="prepare", bundle="any", match=Match(contrasts=wanted, minimum_slices=2))
    selection = select(frames, [pipeline], {"any": tuple(Plane)})
    if selection.stack is None:
        raise SeriesRefused(f"the node would not analyse it: {selection.reason}")
    return selection.stack


def _is_among(frame: Frame, sources: set[tuple[str, int | None]]) -> bool:
    reference = frame.reference
    keys = {(reference.sop_instance_uid, None), (reference.sop_instance_uid, reference.frame_number)}
    return not keys.isdisjoint(sources)


def _labelled(
    made: tuple[MRVolume, Stack, NDArray[np.bool_]], patient: str, exam: str, told: _Told
) -> LabelledVolume:
    """Turn to the standard display and bring to 16 bits."""
    volume, stack, mask = made
    turn = turn_to_display(volume.affine)
    _, row_mm, column_mm = volume.spacing_mm
    if turn.transpose:
        row_mm, column_mm = column_mm, row_mm
    slopes = [frame.number("RescaleSlope") or 1.0 for frame in stack.frames]
    pixels, scale, offset, exact = to_16_bits(turn.apply(volume.voxels), min(map(abs, slopes)))
    told.raised += offset < 0
    told.rounded += not exact
    told.oblong += abs(row_mm / column_mm - 1) > SQUARE
    columns = {
        "row_mm": f"{row_mm:.6g}",
        "column_mm": f"{column_mm:.6g}",
        "scale": f"{scale:.9g}",
        "offset": f"{offset:.9g}",
    }
    turned = turn.apply(mask.astype(np.float32)) > 0
    return LabelledVolume(patient, exam, range(1, len(pixels) + 1), pixels, turned, columns)


def _numbers(patients: Iterable[str], salt: str | None) -> dict[str, str]:
    """Running numbers in an order that nobody can tell without the salt."""
    key = (salt if salt is not None else secrets.token_hex()).encode()
    order = sorted(patients, key=lambda patient: hmac.digest(key, patient.encode(), hashlib.sha256))
    return {patient: f"P{number:04}" for number, patient in enumerate(order, start=1)}
