"""Whether a contrast agent was in the patient when a frame was acquired: all the evidence, weighed.

The order of the evidence is the node's documented policy (docs/series-selection.md). Where two
witnesses disagree, the answer names both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom import Dataset, Sequence

from dicom_node.series.headers import CONVERSION_ERRORS, Frame


@dataclass(frozen=True, slots=True)
class Agent:
    """Whether an agent was given before the frame, and who says so.

    Attributes
    ----------
    given : None when nothing in the header tells
    reason : what decided it, and what speaks against it
    """

    given: bool | None
    reason: str


def agent_of(frame: Frame) -> Agent:
    """Weigh what a frame's header says of a contrast agent.

    A usage that says NO comes first, then the words of SeriesDescription, then a usage that says YES,
    then ContrastBolusAgent with its dose and time. ProtocolName is not asked: it often names the whole
    exam. Each of these is wrong at times; words go before ContrastBolusAgent because scanners copy the
    agent to the series before the injection too.
    """
    usage, words, agent = _usage(frame), _description(frame), _administration(frame)
    ranked = (usage, words, agent) if usage.given is False else (words, usage, agent)
    told = [one for one in ranked if one.given is not None]
    if not told:
        return Agent(None, "; ".join(one.reason for one in ranked if one.reason) or "no word of an agent")
    first, *others = told
    against = [one.reason for one in others if one.given is not first.given]
    return Agent(
        first.given, f"{first.reason}, although {' and '.join(against)}" if against else first.reason
    )


def _usage(frame: Frame) -> Agent:
    """Contrast/Bolus Usage of one frame of an enhanced object (PS3.3 C.7.6.16.2.12)."""
    groups = _items(frame.header, "PerFrameFunctionalGroupsSequence")[frame.index : frame.index + 1]
    groups += _items(frame.header, "SharedFunctionalGroupsSequence")
    administered = set()
    for usage in (item for group in groups for item in _items(group, "ContrastBolusUsageSequence")):
        before = _text(usage, "ContrastBolusAgentPhase") == "PRE_CONTRAST"
        administered.add("NO" if before else _text(usage, "ContrastBolusAgentAdministered"))
    for answer in ("YES", "NO"):  # one of several agents is enough
        if answer in administered:
            return Agent(answer == "YES", f"Contrast/Bolus Agent Administered is {answer}")
    return Agent(None, "")


# The words, in English, German, French, Spanish and Dutch, as _plain leaves them.
_AGENT = (
    r"(?:(?:contrast|kontrast)\w*|km(?:gabe)?|pdc|mdc|civ|gad\w*|gd(?:[\s-]?dtpa)?\d?|ce|in[jy]\w*"
    r"|magnevist|multihance|prohance|omniscan|clariscan|dotarem|elucirem|vueway|optimark|(?:eo|pri)movist)\b"
)
_OR_IV = rf"(?:{_AGENT}|i\.?v\b\.?|c\b(?![\s-]*sp))"
_WITH = r"(?:with|w/?|mit|avec|con|c/|met)"
_WITHOUT = r"(?:without|w/?o|ohne|sans|s/|sin|zonder)"
_JOIN = r"\s*(?:and|und|et|y|en|&|\+|/|-)?\s*"

# Words that look like ours and speak of something else.
_UNRELATED = re.compile(
    r"""
    \b(?:pre\W*)?post(?:erior\w*
        |[\s.-]*(?:op\b|oper\w*|surg\w*|fossa|trauma\w*|stroke|ictal|part\w*|biops\w*|label\w*|proc\w*|natal
        |treat\w*|therap\w*|[rt]x\b|rt\b|rad\w*|chemo\w*|chir\w*|central|resec\w*|embol\w*|interv\w*|implant\w*))
    | \b(?:pra|pre)[\s.-]*(?:op\b|oper\w*|surg\w*|chir\w*|treat\w*|therap\w*|rt\b|rad\w*|chemo\w*|biops\w*
        |sat\w*|scan\w*|proc\w*|emph\w*|pulse\w*|plan\w*|frontal|motor|central|cuneus|natal|term
        |stereo\w*|gamma\w*|navi\w*|neuro\w*|resec\w*|embol\w*|interv\w*|implant\w*|dbs\b|shunt\w*
        |stealth|brainlab|cyber\w*|gk\b)
    | \b(?:phase|high|low|multi|transfer|tissue|dual|image|blood|fluid|flow)[\s-]*contrast\w*
    | \b(?:without|w/?o|ohne|sans|sin|zonder|no|non)[\s.-]*(?:fs\b|fat\w*|fett\w*|grasa|graisse|vet\w*|sat\w*
        |spair|spir|mt\w*|moco|motion|bewegung\w*|filter\w*|norm\w*|dixon|flow\w*|fc\b|gap\w*|angul\w*|gating|sense|ipat
        |acc\w*|trigger\w*|intensit\w*|corr\w*|an[ae]sth\w*|sedat\w*|dist\w*)
    """,
    re.VERBOSE,
)
_BOTH = re.compile(
    rf"(?<!\w)(?:{_WITH}{_JOIN}{_WITHOUT}|{_WITHOUT}{_JOIN}{_WITH}|c/s|s/c(?=\s+contr))(?!\w)"
    r"|\bpre\s*(?:and|und|et|y|en|&|\+|/|-)\s*post(?!\w)"
)
_WITHOUT_AGENT = re.compile(
    rf"""
    (?<!\w)(?:without|w/?o|ohne|sans|sin|zonder)(?!\w)(?:[\s.:-]*(?:any\s|i\.?v\.?\s|de\s|le\s)?{_OR_IV})?
    | (?<!\w)s/\s*{_OR_IV}
    | \b[oz]\.?\s?{_AGENT}
    | \b(?:no|non|not|kein\w*|pas\sd[e'])[\s-]*(?:{_OR_IV}|enhanced)
    | \bnon?[\s-]?con\b | \bn-?ce\b | \bun-?enhanced\b
    | \b(?:pra|pre|vor|avant|antes(?:\sdel?)?|voor|before|prior\sto)[\s.-]*
        (?:l[ae']\s?|el\s|de[rm]?\s)?{_AGENT}
    | \b(?:before|prior\sto|avant)[\s]+(?:i\.?v|c)\b
    | \bpre\b
    | \b(?:nativ(?:e[rns]?)?|natief|natif|blanco|unkontrastiert)\b
    | \bbasal\b(?!\s*gang)
    | \bc-(?!\w|\s*sp) | (?<!\S)-(?:c|km|gd)(?![\w-]) | \b(?:km|gd|gado|iv|inj|ce)-(?=$|[\s,;)])
    """,
    re.VERBOSE,
)
_WITH_AGENT = re.compile(
    rf"""
    \bpost[\s.-]*{_OR_IV} | \b\w*post\b
    | \b(?:[mnp]km|w{_AGENT})
    | \b(?:mit|nach|avec|apres|con|tras|met|na|after|with|w/)[\s.-]*(?:i\.?v\b|c\b(?![\s-]*sp))
    | (?<!\w)c/\s?c\b
    | \+\s?(?:{_AGENT}|i\.?v\b|c\b(?![\s-]*sp)) | \b(?:c|iv)\s?\+
    | \bt1w?c\b
    | \b{_AGENT}
    """,
    re.VERBOSE,
)


def _description(frame: Frame) -> Agent:
    text = _plain(frame.text("SeriesDescription"))
    text = _UNRELATED.sub(" ~ ", text)
    if found := _BOTH.search(text):
        return Agent(None, f"SeriesDescription says {found.group().strip()!r}: with and without")
    without = _WITHOUT_AGENT.search(text)
    given = _WITH_AGENT.search(_WITHOUT_AGENT.sub(" ~ ", text))
    if without and given:
        return Agent(
            None, f"SeriesDescription says {without.group().strip()!r} and {given.group().strip()!r}"
        )
    if found := without or given:
        return Agent(given is not None, f"SeriesDescription says {found.group().strip()!r}")
    return Agent(None, "")


def _plain(text: str) -> str:
    """Lower case, no accents, no underscores, and the words that are written onto T1 set apart."""
    letters = unicodedata.normalize("NFKD", text.casefold().replace("_", " "))
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(
        r"\bt1w?(?=(?:post|pre|gd|gad|km|ce|contrast|inj|wo|mprage)\b|post|pre|gado)", r"\g<0> ", letters
    )


_NO_AGENT = re.compile(
    r"""
    (?:no|non|not|none|nein|nee|nil|n|n[./]?a\.?|false|null|kein\w*|aucun\w*|ning\w*|geen|ohne|sans|sin|zonder
        |without|w/?o|nativ\w*|unenhanced|non-?contrast|pre|saline|nacl)(?:\W.*)?
    | (?:.*(?<![\d.,]))?0+(?:[.,]0+)?\s*(?:ml|cc|cm3|mmol)(?:\W.*)?
    | (?:.*\s)?0+(?:[.,]0+)?
    """,
    re.VERBOSE,
)
_NOT_TOLD = re.compile(r"(?:unknown|unk|unbekannt|inconnu|desconocido|onbekend|other|unspecified)?|\W*")


def _administration(frame: Frame) -> Agent:
    """Contrast/Bolus and Enhanced Contrast/Bolus modules (PS3.3 C.7.6.4, C.7.6.4b)."""
    agents = [("ContrastBolusAgent", frame.text("ContrastBolusAgent").strip())]
    items = _items(frame.header, "ContrastBolusAgentSequence")
    agents += [("ContrastBolusAgentSequence", _text(item, "CodeMeaning") or "an agent") for item in items]
    named = [(where, name) for where, name in agents if not _NOT_TOLD.fullmatch(_plain(name))]
    given = [where for where, name in named if not _NO_AGENT.fullmatch(_plain(name))]
    if named and not given:
        return Agent(False, f"{named[0][0]} says none")
    doses = list(_doses(frame, items))
    if not given and not any(doses):
        return Agent(None, "")
    where = given[0] if given else "a dose of contrast agent"
    if doses and not any(doses):
        return Agent(False, f"the dose of {where} is 0 ml")
    acquired, injected = _seconds(_acquisition_time(frame)), _first_injection(frame, items)
    if acquired is not None and injected is not None and 0 < injected - acquired < _HALF_A_DAY:
        return Agent(False, "it was acquired before ContrastBolusStartTime")
    return Agent(True, f"{where} is given")


_HALF_A_DAY = 12 * 3600.0  # s; more is an examination over midnight


def _doses(frame: Frame, items: list[Dataset]) -> Iterator[float]:
    """Every volume and dose that is given, in ml."""
    for keyword in ("ContrastBolusVolume", "ContrastBolusTotalDose"):
        for value in (frame.text(keyword), *(_text(item, keyword) for item in items)):
            try:
                yield float(value)
            except ValueError:  # empty or no number
                continue


def _first_injection(frame: Frame, items: list[Dataset]) -> float | None:
    profiles = [p for item in items for p in _items(item, "ContrastAdministrationProfileSequence")]
    texts = [frame.text("ContrastBolusStartTime"), *(_text(p, "ContrastBolusStartTime") for p in profiles)]
    return min((s for s in map(_seconds, texts) if s is not None), default=None)


def _acquisition_time(frame: Frame) -> str:
    for keyword in ("FrameAcquisitionDateTime", "AcquisitionDateTime"):
        if stamp := frame.text(keyword):
            return stamp[8:]
    return frame.text("AcquisitionTime")


def _seconds(time: str) -> float | None:
    """Seconds since midnight of a TM value (PS3.5 6.2), with or without colons; None when it is none."""
    found = re.match(r"(\d\d):?(\d\d):?(\d\d(?:\.\d+)?)?", time)
    if found is None:
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    value = dataset.get(keyword)
    return list(value) if isinstance(value, Sequence) else []


def _text(item: Dataset, keyword: str) -> str:
    try:
        value = item.get(keyword)
    except CONVERSION_ERRORS:
        return ""
    return "" if value is None else str(value)
