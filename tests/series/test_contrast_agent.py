"""Whether a contrast agent was given: words in five languages, the contrast modules, and who wins.

Covers dicom_node/series/contrast_agent.py on headers alone. Not covered: whether scanners of a site
write what is true; the words of a site that are in no list here (they leave the answer open).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset, Sequence
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage

from dicom_node.series.contrast_agent import agent_of
from dicom_node.series.headers import Frame

WITH = [
    # English
    "AX T1 POST", "T1 post Gd", "T1 pre-op post Gd", "T1 GAD", "Ax T1 +C", "AX T1 + C",
    "SAG T1 FSPGR 3D +C", "(C+) AX T1 SE", "AX T1 C+ FS", "COR T1 FS POST", "AX BRAVO POST",
    "AX 3D T1 MPRAGE POST", "MPRAGE+C", "T1CE", "t1c", "T1wC", "T1W_CE", "T1Gd", "T1post",
    "T1 postcontrast", "T1 post-contrast", "AX T1 W/GD", "AX T1 W CONTRAST", "AX T1 WITH CONTRAST",
    "T1 w/ c", "AX T1 W/O FS +C", "T1 SE NON FS GD", "T1 no fatsat gad", "T1 POST OP +C",
    "T1 posterior fossa +C", "3D T1 post treatment Gd", "Pre-RT T1 post", "T1 Dotarem",
    "t1_vibe_fs_tra_p2_post", "OAx T1 FLAIR +C", "T1W_SE +gd", "T1W_3D_TFE_GD", "T1 SE Ax CE",
    "T1 contrast",
    # German
    "t1_mprage_sag_KM", "t1_se_tra_KM", "t1_tse_tra_mKM", "T1 nKM", "T1 pKM", "T1 n. KM", "T1 mit KM",
    "T1 nach KM-Gabe", "t1_mpr_tra_iso_post_KM", "t1_mprage_postKM", "T1 nach Kontrastmittel",
    # French
    "T1 avec injection", "T1 gado", "T1 SE axial injecté", "T1 après injection", "T1 apres gado",
    "T1 3D GADO", "T1 avec IV", "T1 IV+",
    # Spanish
    "T1 con contraste", "T1 con CIV", "T1 con gadolinio", "T1 post contraste", "T1 tras contraste",
    "T1 c/ contraste",
    # Dutch
    "T1 na contrast", "T1 met contrast", "T1 na gado", "T1 met iv contrast",
]  # fmt: skip
WITHOUT = [
    "AX T1 PRE", "PRE T1", "T1pre", "T1 pre contrast", "T1 precontrast", "T1 pre-Gd", "SAG T1 PRE GAD",
    "T1 w/o contrast", "AX T1 W/O", "AX T1 WO", "WO AX T1", "T1wo", "T1 WITHOUT", "T1 non contrast",
    "T1 non-contrast", "T1 noncon", "T1 no contrast", "T1 no Gd", "T1 unenhanced", "NCE T1", "T1 C-",
    "AX T1 -C", "T1 NATIVE", "T1 ohne KM", "t1_se_tra_ohne_KM", "T1 o. KM", "T1 oKM", "t1_tse_tra_nativ",
    "T1 vor KM", "T1 vor der KM-Gabe", "T1 kein KM", "T1 prä KM", "T1 sans injection", "T1 sans gado",
    "T1 sans IV", "T1 avant injection", "T1 avant l'injection", "T1 non injecté", "T1 non gado", "T1 natif",
    "T1 pré-contraste", "T1 IV-", "T1 sin contraste", "T1 sin CIV", "T1 s/contraste", "T1 s/c", "T1 basal",
    "T1 antes de contraste", "T1 antes de la inyección", "T1 zonder contrast", "T1 z contrast", "T1 blanco",
    "T1 voor contrast", "T1 natief",
]  # fmt: skip
OPEN = [
    "", "AX T1", "SAG T1 CUBE", "t1_mprage_sag", "t1_space_sag_p2_iso", "T1W_3D_TFE SENSE", "T1 COR",
    "T1 + COR", "T1 C-SPINE", "T1 posterior fossa", "Post fossa T1", "T1 post fossa", "T1 POST OP",
    "T1 postop", "T1 pre-op", "T1 preop", "stereo T1 pre-surgical", "T1 post-surgical", "T1 post treatment",
    "T1 post RT", "T1 post stroke", "high contrast T1", "T1 W/O FS", "T1 basal ganglia", "T1 UNIV HOSP",
    # with and without at once name the exam, not the series
    "BRAIN W/WO CONTRAST", "BRAIN W & W/O", "T1 with and without contrast", "T1 without and with contrast",
    "T1 pre/post Gd", "T1 pre and post", "T1 mit und ohne KM", "T1 ohne/mit KM",
    "T1 avec et sans injection", "T1 con y sin contraste", "T1 met en zonder contrast",
]  # fmt: skip


def item(**attributes: object) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def frame(description: str = "AX T1", **attributes: object) -> Frame:
    header = item(SOPClassUID=MRImageStorage, SeriesDescription=description, **attributes)
    return Frame(Path("x.dcm"), header)


def enhanced(*usages: Dataset | None, index: int = 0, **attributes: object) -> Frame:
    """A frame of an Enhanced MR object in which frame k has the usage k."""
    header = item(
        SOPClassUID=EnhancedMRImageStorage,
        PerFrameFunctionalGroupsSequence=[
            item(ContrastBolusUsageSequence=[usage] if usage else []) for usage in usages
        ],
        **attributes,
    )
    return Frame(Path("x.dcm"), header, index)


@pytest.mark.parametrize("description", WITH)
def test_the_description_says_with(description: str) -> None:
    agent = agent_of(frame(description))
    assert agent.given is True, agent
    assert agent.reason.startswith("SeriesDescription says")


@pytest.mark.parametrize("description", WITHOUT)
def test_the_description_says_without(description: str) -> None:
    agent = agent_of(frame(description))
    assert agent.given is False, agent
    assert agent.reason.startswith("SeriesDescription says")


@pytest.mark.parametrize("description", OPEN)
def test_the_description_leaves_it_open(description: str) -> None:
    assert agent_of(frame(description)).given is None


@pytest.mark.parametrize(
    ("agent", "given"),
    [
        *((text, True) for text in (
            "Gadovist", "20cc Magnevist", "10 ml", "7.0 ml Gadovist", "Gadovist 1.0 mmol/ml",
            "Dotarem 0.5 mmol/ml", "YES", "IV", "Contrast", "NOVIST",
        )),
        *((text, False) for text in (
            "NONE", "None", "NO", "no contrast", "N", "N/A", "W/O", "without", "ohne KM", "keine", "nativ",
            "sans", "sin contraste", "geen", "0", "0 ml", "0.0 ml", "Gadovist 0 ml", "0ml Gd",
        )),
        *((text, None) for text in ("", " ", "-", "unknown")),
    ],
)  # fmt: skip
def test_what_contrast_bolus_agent_says_by_itself(agent: str, given: bool | None) -> None:
    assert agent_of(frame(ContrastBolusAgent=agent)).given is given


@pytest.mark.parametrize(
    ("attributes", "given", "reason"),
    [
        ({"ContrastBolusVolume": "15"}, True, "a dose of contrast agent is given"),
        ({"ContrastBolusVolume": "0"}, None, "no word of an agent"),
        ({"ContrastBolusAgent": "Gadovist", "ContrastBolusVolume": "0"}, False, "ContrastBolusAgent is 0 ml"),
        (
            {"ContrastBolusAgent": "Gadovist", "ContrastBolusVolume": "0", "ContrastBolusTotalDose": "7.5"},
            True,
            "ContrastBolusAgent is given",
        ),
        ({"ContrastBolusAgentSequence": [item(CodeMeaning="Gadoterate")]}, True, "AgentSequence is given"),
        ({"ContrastBolusAgentSequence": [item(CodeMeaning="None")]}, False, "AgentSequence says none"),
        ({"ContrastBolusAgentSequence": []}, None, "no word of an agent"),
        (
            {"ContrastBolusAgent": "Gd", "ContrastBolusStartTime": "103000", "AcquisitionTime": "101500.25"},
            False,
            "acquired before ContrastBolusStartTime",
        ),
        (
            {"ContrastBolusAgent": "Gd", "ContrastBolusStartTime": "103000", "AcquisitionTime": "103500"},
            True,
            "ContrastBolusAgent is given",
        ),
        (  # over midnight
            {"ContrastBolusAgent": "Gd", "ContrastBolusStartTime": "235500", "AcquisitionTime": "000500"},
            True,
            "ContrastBolusAgent is given",
        ),
        (
            {"ContrastBolusAgent": "Gd", "ContrastBolusStartTime": "10", "AcquisitionTime": "101500"},
            True,
            "ContrastBolusAgent is given",
        ),
    ],
)  # fmt: skip
def test_dose_code_and_time_of_the_agent(attributes: dict, given: bool | None, reason: str) -> None:
    agent = agent_of(frame(**attributes))
    assert agent.given is given
    assert reason in agent.reason


@pytest.mark.parametrize(
    ("description", "attributes", "given", "reason"),
    [
        (
            "T1 PRE",
            {"ContrastBolusAgent": "Gadovist"},
            False,
            "SeriesDescription says 'pre', although ContrastBolusAgent is given",
        ),
        (
            "T1 post Gd",
            {"ContrastBolusAgent": "NONE"},
            True,
            "SeriesDescription says 'post gd', although ContrastBolusAgent says none",
        ),
        (
            "T1 KM",
            {"ContrastBolusAgent": "Gd", "ContrastBolusStartTime": "1030", "AcquisitionTime": "101500"},
            True,
            "'km', although it was acquired before ContrastBolusStartTime",
        ),
        ("T1 W/WO", {"ContrastBolusAgent": "Gadovist"}, True, "ContrastBolusAgent is given"),
        ("T1 W/WO", {}, None, "with and without"),
        ("AX T1", {"ProtocolName": "BRAIN W/WO CONTRAST"}, None, "no word of an agent"),
        ("AX T1", {"ProtocolName": "BRAIN WITH GAD"}, None, "no word of an agent"),
        ("AX T1", {"StudyDescription": "MRI BRAIN W CONTRAST"}, None, "no word of an agent"),
    ],
)
def test_words_go_before_the_agent_and_the_exam_is_not_asked(
    description: str, attributes: dict, given: bool | None, reason: str
) -> None:
    agent = agent_of(frame(description, **attributes))
    assert agent.given is given
    assert reason in agent.reason


YES, NO = item(ContrastBolusAgentAdministered="YES"), item(ContrastBolusAgentAdministered="NO")
BEFORE = item(ContrastBolusAgentAdministered="YES", ContrastBolusAgentPhase="PRE_CONTRAST")
GADOLINIUM = [item(CodeMeaning="Gadolinium", ContrastBolusVolume=7.5)]


@pytest.mark.parametrize(
    ("usage", "attributes", "given", "reason"),
    [
        (YES, {}, True, "Contrast/Bolus Agent Administered is YES"),
        (NO, {}, False, "Contrast/Bolus Agent Administered is NO"),
        (BEFORE, {}, False, "Contrast/Bolus Agent Administered is NO"),
        (NO, {"SeriesDescription": "T1 post"}, False, "although SeriesDescription says 'post'"),
        (YES, {"SeriesDescription": "T1 PRE"}, False, "although Contrast/Bolus Agent Administered is YES"),
        (NO, {"ContrastBolusAgentSequence": GADOLINIUM}, False, "although ContrastBolusAgentSequence is"),
        (None, {"ContrastBolusAgentSequence": GADOLINIUM}, True, "ContrastBolusAgentSequence is given"),
        (
            None,
            {
                "AcquisitionDateTime": "20260105101500",
                "ContrastBolusAgentSequence": [
                    item(
                        CodeMeaning="Gadolinium",
                        ContrastAdministrationProfileSequence=[item(ContrastBolusStartTime="103000")],
                    )
                ],
            },
            False,
            "acquired before ContrastBolusStartTime",
        ),
        (None, {}, None, "no word of an agent"),
    ],
)  # fmt: skip
def test_enhanced_objects_say_it_frame_by_frame(
    usage: Dataset | None, attributes: dict, given: bool | None, reason: str
) -> None:
    agent = agent_of(enhanced(usage, **attributes))
    assert agent.given is given
    assert reason in agent.reason


def test_each_frame_has_its_own_usage_and_one_of_several_agents_is_enough() -> None:
    assert agent_of(enhanced(NO, YES, index=0)).given is False
    assert agent_of(enhanced(NO, YES, index=1)).given is True
    two = enhanced(NO)
    two.header.PerFrameFunctionalGroupsSequence[0].ContrastBolusUsageSequence = Sequence([NO, YES])
    assert agent_of(two).given is True


def test_a_usage_that_all_frames_share_counts() -> None:
    shared = enhanced(None, SharedFunctionalGroupsSequence=[item(ContrastBolusUsageSequence=[YES])])
    assert agent_of(shared).given is True
