"""Which MR contrast a frame shows: physics first, description second.

The rules and their numbers are the node's documented policy (docs/series-selection.md).
Times are in ms.
"""

from __future__ import annotations

import re

from dicom_node.series.contrast_agent import agent_of
from dicom_node.series.headers import Frame
from dicom_node.series.volume import Contrast

_DESCRIPTIONS = (
    (Contrast.T1, re.compile(r"t1.?flair", re.IGNORECASE)),
    (Contrast.FLAIR, re.compile(r"flair|dark.?fluid|tirm.*dark", re.IGNORECASE)),
    (Contrast.T1, re.compile(r"\bt1|t1w|mprage|bravo|spgr|\btfe\b|\bvibe\b", re.IGNORECASE)),
    (Contrast.T2, re.compile(r"\bt2|t2w", re.IGNORECASE)),
)
# Balanced steady state is T2/T1-weighted, though its times are those of a T1.
_BALANCED = re.compile(
    r"fiesta|\bciss\b|true?.?fi(sp)?\b|\bb.?ssfp\b|\bb.?(ffe|tfe)\b|balanced.?(ffe|tfe|ssfp|gre)|\*?\btfi\d",
    re.IGNORECASE,
)


def contrast_of(frame: Frame) -> tuple[Contrast, str]:
    """Tell the contrast and why.

    Returns
    -------
    contrast, and one sentence that names what decided it
    """
    weighting, reason = _by_physics(frame)
    if weighting is Contrast.UNKNOWN:
        weighting, reason = _by_description(frame)
    if weighting is Contrast.T1:
        names = f"{frame.text('SequenceName')} {frame.text('SeriesDescription')}".replace("_", " ")
        if found := _BALANCED.search(names):
            return Contrast.UNKNOWN, f"{reason}; {found.group()!r} is balanced steady state"
        agent = agent_of(frame)
        return (Contrast.T1CE if agent.given else Contrast.T1), f"{reason}; {agent.reason}"
    return weighting, reason


def _by_physics(frame: Frame) -> tuple[Contrast, str]:
    tr, te, ti = (frame.number(k) for k in ("RepetitionTime", "EchoTime", "InversionTime"))
    sequence = set(frame.text("ScanningSequence").split("\\"))
    echo = frame.text("EchoPulseSequence")  # enhanced MR: SPIN, GRADIENT, BOTH
    inversion = "IR" in sequence or frame.text("InversionRecovery") == "YES"
    gradient = "GR" in sequence or echo == "GRADIENT"
    spin = "SE" in sequence or echo == "SPIN"

    if tr is not None and tr > 3500 and ((ti or 0) > 1550 or (inversion and ti is None)):
        told = f"TI {ti:g}" if ti is not None else "inversion recovery"
        return Contrast.FLAIR, f"{told}, TR {tr:g}"
    if gradient and inversion and ti is not None and 600 <= ti <= 950:
        return Contrast.T1, f"inversion recovery gradient echo, TI {ti:g}"
    if gradient and tr is not None and te is not None and te < 10 and tr < 25:
        return Contrast.T1, f"gradient echo, TE {te:g}, TR {tr:g}"
    if spin and inversion and ti is not None and 600 <= ti <= 1200 and (te or 0) < 50:
        return Contrast.T1, f"inversion recovery spin echo, TI {ti:g}"
    if spin and not inversion and tr is not None and te is not None:
        if te > 60 and tr > 2000:
            return Contrast.T2, f"spin echo, TE {te:g}, TR {tr:g}"
        if te < 30 and tr < 1000:
            return Contrast.T1, f"spin echo, TE {te:g}, TR {tr:g}"
    return Contrast.UNKNOWN, "sequence parameters tell no contrast"


def _by_description(frame: Frame) -> tuple[Contrast, str]:
    words = _words(frame)
    tr, ti = frame.number("RepetitionTime"), frame.number("InversionTime")
    no_flair = (tr is not None and tr <= 3500) or (ti is not None and ti <= 1550)
    for contrast, pattern in _DESCRIPTIONS:
        if found := pattern.search(words):
            if contrast is Contrast.FLAIR and no_flair:
                return Contrast.UNKNOWN, f"the description says {found.group()!r}, TR or TI says no"
            return contrast, f"the description says {found.group()!r}"
    return Contrast.UNKNOWN, "neither sequence parameters nor description tell the contrast"


def _words(frame: Frame) -> str:
    return f"{frame.text('SeriesDescription')} {frame.text('ProtocolName')}".replace("_", " ")
