"""Which part of the body a series shows, as far as it is certainly not the head."""

from __future__ import annotations

import re

from pydicom import Sequence

from dicom_node.series.headers import Frame

_HEAD = re.compile(
    r"head|brain|skull|neuro|kopf|hirn|sch(ae|ä)del|t[eê]te|cr[aâá]n|cabeza|cerebr|cerveau|hoofd|schedel|hersen",
    re.I,
)
_NOT_THE_HEAD = (
    (
        re.compile(
            r"spine|spinal|cervical|thoracic|lumb|sacr|coccyx|[chtbl]ws\b|wirbel|rachis|column[an]|wervel|myelo"
            r"|vertebra",
            re.I,
        ),
        "the spine",
    ),
    (
        re.compile(
            r"neck|\bhals\b|cuello|chest|thora[xc]|breast|mamma|heart|cardia|abd|liver|pancrea|kidney|adrenal|spleen"
            r"|bowel|pelv|becken|prostat|uter[ui]|bladder|rectum|\bt(a|ru)nk|(?<!whole )\bbody\b|aorta",
            re.I,
        ),
        "the trunk or neck",
    ),
    (
        re.compile(
            r"extremity|\b(arm|leg|hip|hand|foot|feet|toe|finger|thumb|calf|joint)s?\b|shoulder|humerus|elbow|forearm"
            r"|wrist|femur|thigh|knee|tibia|fibula|ankle|schulter|knie|h(ü|ue)fte",
            re.I,
        ),
        "a limb",
    ),
)
_SPINE_WORDS = re.compile(
    r"\b[ctl][\s-]?spine\b|\b[ctl]-?sp\b|\bspine\b|\bspinal\b|\b(cervical|thoracic|lumbar)\b|\b[hbl]ws\b|wirbels|\brachis"
    r"|\bcolumna\b|\bwervelk",
    re.I,
)


def body_part_objection(frame: Frame) -> str | None:
    """Object to the spine, the trunk and the limbs; what is empty or not known stays (PS3.16 Annex L)."""
    regions = frame.get("AnatomicRegionSequence")
    coded = regions[0].get("CodeMeaning") if isinstance(regions, Sequence) and regions else None
    named = (
        ("BodyPartExamined", frame.text("BodyPartExamined")),
        ("AnatomicRegionSequence", str(coded or "")),
    )
    for where, value in named:
        if not _HEAD.search(value):
            for pattern, meaning in _NOT_THE_HEAD:
                if pattern.search(value):
                    return f"{where} is {value}: {meaning}, not the head"
    words = frame.text("SeriesDescription").replace("_", " ")
    if not _HEAD.search(words) and (found := _SPINE_WORDS.search(words)):
        return f"SeriesDescription says {found.group()!r}: the spine, not the head"
    return None
