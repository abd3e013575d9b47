"""Headers as scanners of five makers write them, and what the node makes of each series.

Covers the whole of select() with one T1CE and one FLAIR pipeline on header-only series: which are
analysed, which are skipped and why. The headers are written by hand after the makers' conventions
(ImageType, sequence codes, free text); none is a copy of a patient's. Not covered: pixel data, private
attributes, and sites that name their series otherwise.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_node.phantom.mr_series import mr_series
from dicom_node.series.headers import Frame
from dicom_node.series.selection import Outcome, Selection, select
from dicom_node.series.volume import Plane
from dicom_node.settings import Match, Pipeline
from tests.support.spot import affine_of, image_spot

SHAPE = (4, 8, 8)
MAKERS = {
    "GE": {
        "Manufacturer": "GE MEDICAL SYSTEMS",
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
        "ScanOptions": ["FAST_GEMS", "EDR_GEMS"],
        "AngioFlag": "N",
        "NumberOfTemporalPositions": 1,
        "ProtocolName": "BRAIN W/WO CONTRAST",  # the exam, not the series
    },
    "Siemens": {
        "Manufacturer": "SIEMENS",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D", "ND"],
        "AngioFlag": "N",
    },
    "Philips": {
        "Manufacturer": "Philips Medical Systems",
        "ImageType": ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"],
        "NumberOfTemporalPositions": 1,
        "ContrastBolusAgent": "",
        "ContrastBolusVolume": "0",
        "ContrastBolusTotalDose": "0",
    },
    "Canon": {"Manufacturer": "CANON_MEC", "ImageType": ["ORIGINAL", "PRIMARY"], "ContrastBolusAgent": ""},
    "Hitachi": {
        "Manufacturer": "Hitachi, Ltd.",
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
        "BodyPartExamined": "",
    },
}
SEQUENCES = {  # ScanningSequence, SequenceVariant, TR, TE, TI
    "se": ("SE", "NONE", 550, 11, None),
    "tse": ("SE", ["SK", "OSP"], 650, 12, None),
    "t1flair": (["SE", "IR"], "SK", 2500, 24, 860),
    "mprage": (["GR", "IR"], ["SK", "SP", "MP"], 1900, 2.5, 900),
    "mprage1100": (["GR", "IR"], ["SK", "SP", "MP"], 2300, 2.9, 1100),
    "spgr": ("GR", ["SS", "SP", "SK"], 8, 3.2, 450),
    "tfe": ("GR", ["SP", "MP"], 8, 4, None),
    "flash": ("GR", "SP", 250, 2.5, None),
    "research": ("RM", "NONE", 700, 11, None),
    "tof": ("GR", ["SP", "TOF"], 22, 3.6, None),
    "tof, untold": ("GR", "SP", 22, 3.6, None),
    "dce": ("GR", "SP", 5, 2, None),
    "fiesta": ("GR", ["SS", "SK"], 6, 2.5, None),
    "epi": (["EP", "GR"], "SK", 1500, 30, None),
    "flair": (["SE", "IR"], "SK", 9000, 120, 2500),
    "tse t2": ("SE", "SK", 4000, 90, None),
}

T1CE = [
    ("GE", "se", "AX T1 POST", {}),
    ("GE", "se", "+C AX T1 FSE FS", {}),
    ("GE", "spgr", "Ax T1 3D +C", {"ContrastBolusAgent": "20cc Magnevist"}),
    ("GE", "spgr", "AX BRAVO POST", {"ContrastBolusAgent": "NONE"}),
    ("GE", "spgr", "AX BRAVO", {"ContrastBolusAgent": "GADAVIST 7.5 ML"}),
    ("GE", "t1flair", "OAx T1 FLAIR +C", {"ScanOptions": ["T1FLAIR_GEMS"]}),
    ("GE", "se", "T1 pre-op post Gd", {}),
    ("GE", "se", "AX T1 GAD", {"BodyPartExamined": "HEAD"}),
    ("GE", "se", "SAG T1 C-SPINE AND BRAIN POST", {"BodyPartExamined": "HEADNECK"}),
    ("Siemens", "se", "t1_se_tra_KM", {"ProtocolName": "t1_se_tra_KM"}),
    ("Siemens", "mprage", "t1_mpr_tra_iso_post_KM", {}),  # mpr is MPRAGE here
    ("Siemens", "mprage", "t1_mprage_sag_p2_iso", {"ContrastBolusAgent": "Gadovist"}),
    ("Siemens", "mprage1100", "t1_mprage_tra_KM", {}),
    ("Siemens", "flash", "t1_fl2d_tra nach Kontrastmittel", {}),
    ("Siemens", "tfe", "t1_vibe_tra_W mit KM", {"ImageType": ["ORIGINAL", "PRIMARY", "DIXON", "WATER"]}),
    ("Siemens", "tse", "t1_space_sag_p2_iso_post", {"BodyPartExamined": "BRAIN"}),
    ("Philips", "tfe", "T1W_3D_TFE +gd", {"ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]}),
    ("Philips", "se", "T1W_SE na contrast", {"ContrastBolusAgent": "Dotarem"}),
    ("Philips", "se", "T1 SE gado", {}),
    ("Philips", "se", "sT1W_SE", {"ContrastBolusAgent": "GADOVIST", "ContrastBolusVolume": "7.5"}),
    ("Canon", "se", "T1 SE Ax CE", {}),
    ("Canon", "tfe", "FE3D T1 apres injection", {}),
    ("Canon", "se", "T1 SE Ax", {"ContrastBolusAgent": "Gd-DTPA"}),
    ("Hitachi", "se", "T1 SE AX CON CONTRASTE", {}),
    ("Hitachi", "research", "T1 RSSG +Gd", {}),
]  # fmt: skip
T1 = [
    ("GE", "se", "AX T1", {}),
    ("GE", "se", "AX T1 PRE", {"ContrastBolusAgent": "20cc Magnevist"}),
    ("GE", "spgr", "SAG T1 W/O", {}),
    ("GE", "se", "AX T1 posterior fossa", {}),
    ("GE", "t1flair", "AX T1 FLAIR", {"ScanOptions": ["T1FLAIR_GEMS"]}),
    ("GE", "se", "AX T1", {"ContrastBolusAgent": "Gd", "ContrastBolusStartTime": "104500"}),
    ("Siemens", "se", "t1_se_tra_nativ", {"ContrastBolusAgent": "Gadovist"}),
    ("Siemens", "mprage", "t1_mprage ohne KM", {}),
    ("Siemens", "se", "t1_se_tra", {"ContrastBolusAgent": ""}),
    ("Siemens", "se", "t1_se_tra", {"ProtocolName": "Kopf mit KM"}),
    ("Philips", "se", "T1W_SE", {}),
    ("Philips", "se", "T1W_SE", {"ContrastBolusAgent": "NO"}),
    ("Philips", "se", "T1W_SE blanco", {}),
    ("Philips", "se", "T1W_SE sans injection", {"ContrastBolusAgent": "Dotarem"}),
    ("Canon", "se", "T1 SE sin contraste", {}),
    ("Canon", "se", "T1 SE precontrast", {}),
    ("Canon", "se", "T1 SE", {"ContrastBolusAgent": "0 ml"}),
    ("Hitachi", "se", "T1 SE AX POST OP", {}),
    ("Hitachi", "se", "T1 SE AX zonder contrast", {}),
]  # fmt: skip
FLAIR = [
    ("GE", "flair", "AX T2 FLAIR +C", {"ContrastBolusAgent": "Gadavist"}),
    ("Siemens", "flair", "t2_tirm_tra_dark-fluid_KM", {}),
    ("Philips", "flair", "FLAIR post gd", {"ContrastBolusAgent": "Dotarem"}),
    ("Canon", "flair", "FLAIR Ax CE", {}),
    ("Hitachi", "flair", "T2 FLAIR AX", {}),
]
SKIPPED = [
    ("GE", "tof, untold", "3D TOF COW +C", {"ContrastBolusAgent": "Gd"}, "an angiography"),
    ("GE", "tof, untold", "3D", {"ScanOptions": "VASCTOF_GEMS", "ContrastBolusAgent": "Gd"}, "VASCTOF_GEMS"),
    ("GE", "tof, untold", "AX 3D", {"AngioFlag": "Y", "ContrastBolusAgent": "Gd"}, "AngioFlag is Y"),
    ("GE", "dce", "COR TRICKS +C", {}, "an angiography"),
    ("GE", "dce", "Ax DCE post", {"ContrastBolusAgent": "Gd"}, "a perfusion"),
    ("GE", "dce", "PJN:MRA", {"ContrastBolusAgent": "Gd"}, "a projection"),
    ("GE", "dce", "ASSET calibration", {"ContrastBolusAgent": "Gd"}, "a calibration"),
    ("GE", "fiesta", "AX FIESTA-C +C", {"ContrastBolusAgent": "Gd"}, "contrast is UNKNOWN"),
    ("GE", "se", "SAG T1 C-SPINE POST", {}, "the spine"),
    ("GE", "se", "SAG T1 +C", {"BodyPartExamined": "CSPINE"}, "BodyPartExamined is CSPINE: the spine"),
    ("GE", "se", "AX T1 +C", {"BodyPartExamined": "KNEE"}, "a limb"),
    ("Siemens", "tof", "tof_fl3d_tra_p2_multi-slab", {"ContrastBolusAgent": "Gadovist"}, "an angiography"),
    ("Siemens", "tof", "fl3d_tra", {"ContrastBolusAgent": "Gadovist"}, "SequenceVariant says TOF"),
    ("Siemens", "dce", "CE-MRA_cor", {}, "an angiography"),
    ("Siemens", "dce", "t1_twist_dynamisch_KM", {}, "an angiography"),
    ("Siemens", "dce", "t1_vibe_tra_dyn_KM", {}, "a dynamic series"),
    ("Siemens", "dce", "t1_vibe_tra", {"NumberOfTemporalPositions": 60}, "NumberOfTemporalPositions is 60"),
    ("Siemens", "epi", "ep2d_perf", {"ContrastBolusAgent": "Gadovist"}, "a perfusion"),
    ("Siemens", "se", "t1_se_tra_KM_SUB", {}, "a subtraction"),
    ("Siemens", "mprage", "t1_mprage_KM_MPR_Tra", {}, "a multiplanar reformat"),
    ("Siemens", "mprage", "t1_mpr_KM", {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "a multiplanar"),
    ("Siemens", "tfe", "t1_vibe_KM", {"ImageType": ["ORIGINAL", "PRIMARY", "DIXON", "FAT"]}, "a fat image"),
    ("Siemens", "se", "t1_tse_sag_LWS_KM", {}, "the spine"),
    ("Siemens", "se", "t1_tse_tra_KM", {"BodyPartExamined": "ABDOMEN"}, "the trunk"),
    ("Siemens", "dce", "AAHead_Scout", {"ContrastBolusAgent": "Gadovist"}, "a localizer"),
    ("Philips", "dce", "s3D BolusTrak", {"ContrastBolusAgent": "Dotarem"}, "a dynamic series"),
    ("Philips", "dce", "angio MR gado", {}, "an angiography"),
    ("Philips", "dce", "3D PCA", {"ImageType": ["ORIGINAL", "PRIMARY", "M_PCA", "M", "PCA"]}, "a flow image"),
    ("Philips", "tfe", "B-TFE Gd", {"ContrastBolusAgent": "Dotarem"}, "contrast is UNKNOWN"),
    ("Philips", "se", "T1W_TSE gado", {"BodyPartExamined": "LSPINE"}, "the spine"),
    ("Philips", "se", "T1W_TSE rachis gado", {"BodyPartExamined": ""}, "the spine"),
    ("Canon", "tof, untold", "TOF Ax CE", {}, "an angiography"),
    ("Canon", "dce", "Angio-RM con contraste", {}, "an angiography"),
    ("Canon", "se", "T1 SE +Gd", {"BodyPartExamined": "SHOULDER"}, "a limb"),
    ("Hitachi", "dce", "MIP CE-MRA", {}, "a projection"),
    ("Hitachi", "se", "T1 SE +C", {"BodyPartExamined": "NECK"}, "the trunk or neck"),
    ("Hitachi", "tse t2", "T2 FSE AX +C", {"ContrastBolusAgent": "Gd"}, "contrast is T2"),
]  # fmt: skip

PIPELINES = [
    Pipeline(name="t1ce", bundle="spot", match=Match(contrasts=("T1CE",), minimum_slices=4)),
    Pipeline(name="flair", bundle="spot", match=Match(contrasts=("FLAIR",), minimum_slices=4)),
]
_SPOT = image_spot(affine_of(shape=SHAPE), shape=SHAPE)
_SERIES = mr_series(_SPOT.voxels, _SPOT.affine)


def decide(maker: str, sequence: str, description: str, attributes: dict) -> Selection:
    frames = [Frame(Path("x.dcm"), header) for header in headers(maker, sequence, description, attributes)]
    return select(frames, PIPELINES, {"spot": [Plane.AXIAL]})


def headers(maker: str, sequence: str, description: str, attributes: dict) -> list[Dataset]:
    scanning, variant, repetition, echo, inversion = SEQUENCES[sequence]
    written = {
        "ScanningSequence": scanning,
        "SequenceVariant": variant,
        "RepetitionTime": repetition,
        "EchoTime": echo,
        "InversionTime": inversion,
        "SeriesDescription": description,
        "BodyPartExamined": "HEAD",
        **MAKERS[maker],
        **attributes,
    }
    made = deepcopy(_SERIES)
    for header in made:
        for keyword, value in written.items():
            setattr(header, keyword, value)
    return made


@pytest.mark.parametrize(("maker", "sequence", "description", "attributes"), T1CE)
def test_a_t1_after_contrast_is_analysed_as_one(
    maker: str, sequence: str, description: str, attributes: dict
) -> None:
    found = decide(maker, sequence, description, attributes)
    assert (found.outcome, found.contrast) == (Outcome.CHOSEN, "T1CE"), found.trace
    assert found.pipeline is not None
    assert found.pipeline.name == "t1ce"


@pytest.mark.parametrize(("maker", "sequence", "description", "attributes"), T1)
def test_a_t1_before_contrast_is_not_analysed_as_one_after(
    maker: str, sequence: str, description: str, attributes: dict
) -> None:
    found = decide(maker, sequence, description, attributes)
    assert (found.outcome, found.contrast) == (Outcome.SKIPPED, "T1"), found.trace
    assert "contrast is T1, it takes T1CE" in found.reason


@pytest.mark.parametrize(("maker", "sequence", "description", "attributes"), FLAIR)
def test_a_flair_is_a_flair_before_and_after_contrast(
    maker: str, sequence: str, description: str, attributes: dict
) -> None:
    found = decide(maker, sequence, description, attributes)
    assert (found.outcome, found.contrast) == (Outcome.CHOSEN, "FLAIR"), found.trace


@pytest.mark.parametrize(("maker", "sequence", "description", "attributes", "reason"), SKIPPED)
def test_what_shows_no_brain_tissue_is_skipped_with_the_reason(
    maker: str, sequence: str, description: str, attributes: dict, reason: str
) -> None:
    found = decide(maker, sequence, description, attributes)
    assert found.outcome is Outcome.SKIPPED, found.trace
    assert reason in found.reason


@pytest.mark.parametrize(
    "body_part", ["HEAD", "BRAIN", "SKULL", "", "HEADNECK", "SCHAEDEL", "TETE", "ORBIT", "WHOLEBODY", "X"]
)  # fmt: skip
def test_a_head_and_what_may_be_one_stay(body_part: str) -> None:
    assert decide("GE", "se", "AX T1 +C", {"BodyPartExamined": body_part}).outcome is Outcome.CHOSEN


@pytest.mark.parametrize(
    "body_part",
    [
        "SPINE", "CSPINE", "TSPINE", "LSPINE", "CTSPINE", "TLSPINE", "SSPINE", "COCCYX", "HWS", "RACHIS",
        "NECK", "CHEST", "ABDOMEN", "ABDOMENPELVIS", "PELVIS", "BREAST", "HEART", "LIVER", "PROSTATE",
        "ARM", "HAND", "HIP", "KNEE", "LEG", "FOOT", "ANKLE", "SHOULDER", "EXTREMITY",
    ],
)  # fmt: skip
def test_spine_trunk_and_limbs_are_skipped(body_part: str) -> None:
    found = decide("GE", "se", "AX T1 +C", {"BodyPartExamined": body_part})
    assert found.outcome is Outcome.SKIPPED
    assert f"BodyPartExamined is {body_part}" in found.reason


def test_the_coded_anatomic_region_is_read_too() -> None:
    region = Dataset()
    region.CodeMeaning = "Cervical spine"
    found = decide("Philips", "se", "T1 gado", {"BodyPartExamined": "", "AnatomicRegionSequence": [region]})
    assert found.reason == "AnatomicRegionSequence is Cervical spine: the spine, not the head"


def test_the_trace_tells_both_sides_of_a_contradiction() -> None:
    found = decide("GE", "se", "AX T1 PRE", {"ContrastBolusAgent": "Magnevist"})
    (verdict,) = (v for v in found.trace if v.rule == "contrast")
    assert verdict.detail == (
        "T1: spin echo, TE 11, TR 550; SeriesDescription says 'pre', although ContrastBolusAgent is given"
    )


def test_a_flair_has_no_remark_on_the_agent() -> None:
    found = decide("GE", "flair", "AX FLAIR", {})
    assert found.stack is not None
    assert found.stack.remarks == ()
