"""What is no plain structural image: localizers, maps, projections, angiography, dynamic series.

Each function answers with an objection, or with None.
"""

from __future__ import annotations

import re

from dicom_node.series.headers import Frame

_DERIVED_TYPES = {
    "LOCALIZER": "a localizer",
    "MPR": "a multiplanar reformat",
    "CSA MPR": "a multiplanar reformat",
    "REFORMATTED": "a multiplanar reformat",
    "MIP": "a projection",
    "CSA MIP": "a projection",
    "MINIP": "a projection",
    "PROJECTION IMAGE": "a projection",
    "ADC": "an ADC map",
    "FA": "an FA map",
    "TRACEW": "a trace-weighted diffusion image",
    "DIFFUSION": "a diffusion image",
    "PERFUSION": "a perfusion image",
    "CBF": "a perfusion map",
    "CBV": "a perfusion map",
    "MTT": "a perfusion map",
    "TTP": "a perfusion map",
    "ANGIO": "an angiography",
    "ANGIO_TIME": "an angiography",
    "TOF": "an angiography",
    "VASCULAR": "an angiography",
    "FLOW_ENCODED": "a flow image",
    "VELOCITY": "a flow image",
    "M_PCA": "a flow image",
    "MAX_IP": "a projection",
    "MIN_IP": "a projection",
    "MIP_COR": "a projection",
    "MIP_SAG": "a projection",
    "MIP_TRA": "a projection",
    "DYNAMIC": "one of a dynamic series",
    "FMRI": "functional imaging",
    "FAT": "a fat image",
    "OPP_PHASE": "an opposed-phase image",
    "OUT_PHASE": "an opposed-phase image",
    "SUBTRACT": "a subtraction",
    "P": "a phase image",
    "PHASE": "a phase image",
    "PHASE MAP": "a phase image",
    "R": "a real part",
    "I": "an imaginary part",
    "ASL": "arterial spin labelling",
    "T1 MAP": "a T1 map",
    "T2 MAP": "a T2 map",
    "SUB": "a subtraction",
    "SUBTRACTION": "a subtraction",
    "SCREEN SAVE": "a screen save",
    "MOSAIC": "a mosaic",
}
_DERIVED_CONTRASTS = {  # PS3.3 C.8.13.3.1.2
    "DIFFUSION": "a diffusion image",
    "FLOW_ENCODED": "a flow image",
    "PERFUSION": "a perfusion image",
    "TAGGING": "a tagged image",
    "TOF": "an angiography",
}
_DERIVED_WORDS = (
    (
        re.compile(r"\b(locali[sz](er|ador|ateur)|lokalizer|\w*scout|survey|loc|reperage|3.?plane)\b", re.I),
        "a localizer",
    ),
    (
        re.compile(r"\b(calib\w*|(asset|coil|cal)[\s-]?cal\w*|(coil|sense|b1).?ref\w*|test.?bolus)\b", re.I),
        "a calibration",
    ),
    (re.compile(r"(?<!t1 )(?<!t1w )\b(mpr|reformat(ted)?)\b", re.I), "a multiplanar reformat"),
    (re.compile(r"\b(mips?|min.?ip|max.?ip|projection|pjn|collapse[d]?)\b", re.I), "a projection"),
    (re.compile(r"\b(adc|trace.?w?|tracew|dwi|dti|diffusion)\b", re.I), "a diffusion image or map"),
    (
        re.compile(r"\b(perf|perfusi[eo]n?|pwi|dsc|dce|cbv|cbf|mtt|ttp|k.?trans)\b", re.I),
        "a perfusion image or map",
    ),
    (re.compile(r"\b(asl|pcasl)\b", re.I), "arterial spin labelling"),
    (
        re.compile(
            r"\b(mr.?)?angio(?!m)\w*|\b(ce.?|fe.?|gd.?)?mr[av]\b|\b([23]d)?tof\b|\b(veno|phlebo|arterio)gra\w*|\btwist\b|\btricks\b"
            r"|\b(4d.?)?trak(.?xt)?\b|\binhance\b|\bpca\b|\bphase.?contrast|\bwillis\b|\b4d.?flow\b",
            re.I,
        ),
        "an angiography",
    ),
    (
        re.compile(
            r"\bd[yi]n(am\w*|a)?\b|\b((care|test|timing).?bolus|bolus.?(trac?k|timing)|time.?resolved)\b",
            re.I,
        ),
        "one of a dynamic series",
    ),
    (re.compile(r"\b(t1|t2|phase|field|b0|b1).?map(ping)?\b", re.I), "a parameter map"),
    (re.compile(r"\bsub(s?tra[ck]t\w*|tr|s)?\b(?!.?mm)", re.I), "a subtraction"),
)
_MOST_TIME_POINTS = 3  # of a series that is not dynamic: some scanners keep before, early and late together


def image_type_objection(frame: Frame) -> str | None:
    """Object to what ImageType calls derived."""
    values = frame.text("ImageType").upper().split("\\")
    for value in values[2:]:
        if value in _DERIVED_TYPES:
            return f"ImageType says {value}: {_DERIVED_TYPES[value]}"
    if values[:2] != ["ORIGINAL", "PRIMARY"]:
        return f"ImageType is {'/'.join(values[:2]) or 'missing'}, not ORIGINAL/PRIMARY"
    return None


def description_objection(frame: Frame) -> str | None:
    """Object to what SeriesDescription calls derived."""
    words = frame.text("SeriesDescription").replace("_", " ")
    for pattern, meaning in _DERIVED_WORDS:
        if found := pattern.search(words):
            return f"SeriesDescription says {found.group()!r}: {meaning}"
    return None


def acquisition_objection(frame: Frame) -> str | None:
    """Object to what is acquired to show vessels, flow or a course of time."""
    if frame.text("AngioFlag") == "Y":
        return "AngioFlag is Y: an angiography"
    if (acquired := frame.text("AcquisitionContrast")) in _DERIVED_CONTRASTS:
        return f"AcquisitionContrast is {acquired}: {_DERIVED_CONTRASTS[acquired]}"
    for keyword, value in (("SequenceVariant", "TOF"), ("ScanOptions", "VASCTOF_GEMS")):
        if value in frame.text(keyword).split("\\"):
            return f"{keyword} says {value}: an angiography"
    points = frame.number("NumberOfTemporalPositions")
    if points is not None and points > _MOST_TIME_POINTS:
        return f"NumberOfTemporalPositions is {points:g}: one of a dynamic series"
    return None
