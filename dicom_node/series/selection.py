"""Which series are analysed, by which pipeline, and why: rules that leave a trace.

A series is *skipped* when it is not for us, *refused* when it fits a pipeline but cannot be one
sound volume, and otherwise *chosen*.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from dicom_node.errors import SeriesRefused
from dicom_node.series.body_part import body_part_objection
from dicom_node.series.contrast import contrast_of
from dicom_node.series.contrast_agent import agent_of
from dicom_node.series.geometry import Stack, order_stack, orientation_of
from dicom_node.series.headers import MULTI_FRAME, SINGLE_FRAME, Frame
from dicom_node.series.image_kind import (
    acquisition_objection,
    description_objection,
    image_type_objection,
)
from dicom_node.series.orientation import nearest_plane
from dicom_node.series.stacks import split_stacks
from dicom_node.series.volume import Contrast, Plane
from dicom_node.settings import Pipeline


class Outcome(StrEnum):
    """What selection decided."""

    CHOSEN = "chosen"
    SKIPPED = "skipped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One rule's answer."""

    rule: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Selection:
    """The decision on one series.

    Attributes
    ----------
    outcome, reason : the decision, and in one sentence why
    trace : every rule that was asked, in order
    pipeline : what it fits; None when skipped
    stack : the ordered frames; None unless chosen
    contrast : of the stack, or of the first frame when there is none
    """

    outcome: Outcome
    reason: str
    trace: tuple[Verdict, ...]
    pipeline: Pipeline | None = None
    stack: Stack | None = None
    contrast: Contrast = Contrast.UNKNOWN


PIPELINE = "pipeline"


def select(
    frames: Sequence[Frame],
    pipelines: Iterable[Pipeline],
    planes: Mapping[str, Sequence[Plane]],
    called_ae_title: str | None = None,
) -> Selection:
    """Decide on one series.

    Parameters
    ----------
    frames : all frames of the series
    pipelines : in order; the first that fits is taken
    planes : for each bundle by name, the planes that it reads
    called_ae_title : that the series was sent to; None when it was not sent
    """
    trace: list[Verdict] = []
    for rule, check in _SERIES_RULES:
        if not _ask(trace, rule, frames, check):
            return Selection(Outcome.SKIPPED, trace[-1].detail, tuple(trace))

    try:
        groups, cause = split_stacks(frames), None
    except SeriesRefused as refusal:
        groups, cause = [list(frames)], str(refusal)
    trace.append(Verdict("volumes", cause is None, cause or f"{len(groups)} in this series"))

    candidates = []
    for group in groups:
        contrast, why = contrast_of(group[0])
        trace.append(Verdict("contrast", contrast is not Contrast.UNKNOWN, f"{contrast}: {why}"))
        pipeline = _first_fitting(trace, group, contrast, pipelines, planes, called_ae_title)
        candidates.append((pipeline, contrast, group))
    fitting = [(pipeline, contrast, group) for pipeline, contrast, group in candidates if pipeline]
    if not fitting:
        objections = dict.fromkeys(v.detail for v in trace if v.rule == PIPELINE)
        reason = "; ".join(objections) or "no pipeline is configured"
        return Selection(Outcome.SKIPPED, reason, tuple(trace), contrast=candidates[0][1])

    pipeline, contrast, group = fitting[0]
    if cause is None and len(fitting) > 1:
        cause = (
            f"the series holds {len(fitting)} volumes that fit; send the one that is meant as its own series"
        )
    if cause is None and len(group) > pipeline.maximum_slices:
        limit = f"pipeline {pipeline.name!r} takes at most {pipeline.maximum_slices} (maximum_slices)"
        cause = f"the series has {len(group)} slices; {limit}"
    stack = None
    if cause is None:
        try:
            stack = order_stack(group)
        except SeriesRefused as refusal:
            cause = str(refusal)
    trace.append(Verdict("one sound volume", cause is None, cause or f"{len(group)} slices, evenly spaced"))
    if stack is None:
        return Selection(Outcome.REFUSED, str(cause), tuple(trace), pipeline, contrast=contrast)
    stack = replace(stack, remarks=(*stack.remarks, *_remarks(groups, group, contrast)))
    return Selection(Outcome.CHOSEN, f"fits {pipeline.name!r}", tuple(trace), pipeline, stack, contrast)


def _remarks(groups: Sequence[object], group: Sequence[Frame], contrast: Contrast) -> Iterator[str]:
    """Say what the reader of the report should know about the choice."""
    if len(groups) > 1:
        yield f"The series holds {len(groups)} volumes; the one that fits was analysed."
    if contrast in (Contrast.T1, Contrast.T1CE) and agent_of(group[0]).given is None:
        yield "Whether contrast agent was given is not known from the header."


def _ask(
    trace: list[Verdict], rule: str, frames: Sequence[Frame], check: Callable[[Frame], str | None]
) -> bool:
    """Ask one rule of every frame; the first objection decides."""
    objection = next(filter(None, map(check, frames)), None)
    trace.append(Verdict(rule, objection is None, objection or ""))
    return objection is None


def _modality(frame: Frame) -> str | None:
    modality = frame.text("Modality")
    return None if modality == "MR" else f"modality is {modality or 'missing'}, not MR"


def _sop_class(frame: Frame) -> str | None:
    uid = frame.header.get("SOPClassUID")
    if uid in SINGLE_FRAME | MULTI_FRAME:
        return None
    return f"{getattr(uid, 'name', uid)} is not an MR image class that the node reads"


def _burned_in(frame: Frame) -> str | None:
    burned = frame.text("BurnedInAnnotation") == "YES"
    return "BurnedInAnnotation is YES: text in the pixels" if burned else None


def _grey(frame: Frame) -> str | None:
    samples = frame.get("SamplesPerPixel")
    interpretation = frame.text("PhotometricInterpretation")
    if samples == 1 and interpretation in ("MONOCHROME1", "MONOCHROME2"):
        return None
    return f"not a grey image ({samples} samples per pixel, {interpretation or 'no interpretation'})"


_SERIES_RULES: tuple[tuple[str, Callable[[Frame], str | None]], ...] = (
    ("modality is MR", _modality),
    ("SOP class is MR, enhanced MR or legacy converted enhanced MR", _sop_class),
    ("image is original and primary", image_type_objection),
    ("description names no derived image", description_objection),
    ("no angiography and no dynamic series", acquisition_objection),
    ("body part may be the head", body_part_objection),
    ("no burned-in annotation", _burned_in),
    ("image is grey", _grey),
)


def _first_fitting(
    trace: list[Verdict],
    group: Sequence[Frame],
    contrast: Contrast,
    pipelines: Iterable[Pipeline],
    planes: Mapping[str, Sequence[Plane]],
    called_ae_title: str | None,
) -> Pipeline | None:
    for pipeline in pipelines:
        objection = _objection(group, contrast, pipeline, planes[pipeline.bundle], called_ae_title)
        trace.append(Verdict(PIPELINE, objection is None, f"{pipeline.name}: {objection or 'fits'}"))
        if objection is None:
            return pipeline
    return None


def _objection(
    group: Sequence[Frame],
    contrast: Contrast,
    pipeline: Pipeline,
    planes: Sequence[Plane],
    called_ae_title: str | None,
) -> str | None:
    match = pipeline.match
    if contrast not in match.contrasts:
        return f"contrast is {contrast}, it takes {'/'.join(match.contrasts)}"
    if len(group) < match.minimum_slices:
        return f"{len(group)} slices, fewer than {match.minimum_slices} (match.minimum_slices)"
    if called_ae_title and match.called_ae_titles and called_ae_title not in match.called_ae_titles:
        return f"sent to {called_ae_title}, it takes {', '.join(match.called_ae_titles)}"
    if match.series_description and not re.search(
        match.series_description, group[0].text("SeriesDescription"), re.I
    ):
        return "SeriesDescription does not match match.series_description"
    plane = nearest_plane_of(group[0])
    if plane is not None and plane not in planes:
        return f"slices are {plane.lower()}, bundle {pipeline.bundle!r} reads {'/'.join(planes).lower()}"
    return None


def nearest_plane_of(frame: Frame) -> Plane | None:
    """Name the plane of a frame; None when its orientation is not known (geometry will refuse it)."""
    try:
        row, column = orientation_of(frame)
    except SeriesRefused:
        return None
    return nearest_plane(row, column)
