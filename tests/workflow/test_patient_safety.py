"""Series of which a careless node would say something false: each must end in a refusal or the truth.

Each test is a way to a wrong statement that a review once found.
"""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom import DataElement
from pydicom.valuerep import PersonName

from dicom_node.phantom.mr_series import Acquisition, Storage
from dicom_node.workflow.stations import Stations
from tests.support.multiframe import enhanced_mr
from tests.support.spot import Series, image_spot
from tests.workflow.test_bad_input import analyse_one, edit, report_of


@pytest.mark.parametrize(
    "attributes",
    [
        {"RescaleSlope": "0", "RescaleIntercept": "0"},
        {"RescaleSlope": "1e400", "RescaleIntercept": "0"},
        {"PixelData": bytes(96 * 80 * 2)},
    ],
    ids=["slope 0", "slope beyond numbers", "all pixels 0"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning:pydicom")
def test_a_blank_volume_is_not_called_free_of_tumour(
    attributes: dict, stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    edit(series_of(image_spot()), **attributes)
    one = analyse_one(stations, tmp_path)
    assert one.failed
    assert "blank" in one.detail
    assert "272519000" not in report_of(one).to_json()  # Absent


@pytest.mark.parametrize(
    ("acquisition", "description"),
    [
        (Acquisition(repetition_ms=2500, echo_ms=10, inversion_ms=860), "AX T1 FLAIR"),
        (Acquisition(repetition_ms=4000, echo_ms=60, inversion_ms=150), "AX STIR flair-like"),
    ],
)
def test_a_sequence_that_is_only_called_flair_is_not_read_as_flair(
    acquisition: Acquisition, description: str, stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    series_of(image_spot(), acquisition=acquisition, series_description=description)
    one = analyse_one(stations, tmp_path)
    assert one.worked is None
    assert "it takes FLAIR" in one.detail


def test_a_multiframe_image_that_does_not_describe_all_its_frames_is_not_analysed(
    stations: Stations, tmp_path: Path
) -> None:
    image = enhanced_mr(image_spot())
    del image.PerFrameFunctionalGroupsSequence[10:]
    (tmp_path / "series").mkdir()
    image.save_as(tmp_path / "series" / "image.dcm", enforce_file_format=True)
    one = analyse_one(stations, tmp_path)
    assert one.worked is None
    assert "describes 10 of its 12 frames" in one.detail


@pytest.mark.parametrize(
    "other", [{"PatientName": "Other^Person"}, {"PatientBirthDate": "19990101"}], ids=["name", "birth date"]
)
def test_one_patient_id_with_two_names_or_birth_dates_is_two_patients(
    other: dict, stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    edit(series_of(image_spot())[6:], **other)
    one = analyse_one(stations, tmp_path)
    assert one.failed
    assert "mixes 2 patients" in one.detail
    assert {p.name for p in one.folder.glob("*/sr.dcm")} == {"sr.dcm"}
    assert len(list(one.folder.glob("*/sr.dcm"))) == 2


@pytest.mark.filterwarnings("ignore:Failed to decode:UserWarning")
def test_a_patient_id_that_its_character_set_does_not_allow_is_copied_byte_for_byte(
    stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    """Says UTF-8 and is Latin 1: once decoded, one such letter is any other."""
    patient_id, name = "ÄÖ-17".encode("latin-1"), "Müller^Jörg".encode("latin-1")
    for path in series_of(image_spot()):
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.add(DataElement("PatientID", "LO", patient_id, already_converted=True))
        dataset.add(DataElement("PatientName", "PN", PersonName(name), already_converted=True))
        dataset.save_as(path)
    one = analyse_one(stations, tmp_path)
    assert not one.failed, one.detail
    for made in ("seg.dcm", "sc.dcm", "sr.dcm"):
        dataset = pydicom.dcmread(one.folder / made)
        assert dataset.get_item("PatientID").value.strip() == patient_id
        assert dataset.get_item("PatientName").value.strip() == name


@pytest.mark.parametrize("orientation", [["nan"] * 6, [0] * 6], ids=["no numbers", "zero"])
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_an_orientation_that_is_none_is_refused_and_not_skipped(
    orientation: list, stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    edit(series_of(image_spot()), ImageOrientationPatient=orientation)
    one = analyse_one(stations, tmp_path)
    assert one.failed
    assert "no pair of perpendicular unit vectors" in one.detail


def test_a_pixel_spacing_that_no_head_has_is_refused(
    stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    edit(series_of(image_spot()), PixelSpacing=[0.0001, 0.5])
    one = analyse_one(stations, tmp_path)
    assert one.failed
    assert "PixelSpacing" in one.detail


def test_slices_that_are_shifted_in_their_plane_are_refused(
    stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    path = series_of(image_spot())[5]
    x, y, z = pydicom.dcmread(path).ImagePositionPatient
    edit([path], ImagePositionPatient=[x + 3, y, z])
    one = analyse_one(stations, tmp_path)
    assert one.failed
    assert "shifted" in one.detail


def test_a_damaged_sequence_beside_the_image_does_not_stop_it(
    stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    for path in series_of(image_spot(), storage=Storage(), attributes={"ProcedureCodeSequence": [_code()]}):
        content = path.read_bytes()
        start = content.index(b"\x08\x00\x32\x10SQ")  # Procedure Code Sequence
        end = start + 12 + int.from_bytes(content[start + 8 : start + 12], "little")
        path.write_bytes(content[: start + 8] + b"\4\0\0\0" + b"evil" + content[end:])
    one = analyse_one(stations, tmp_path)
    assert not one.failed, one.detail
    assert "ProcedureCodeSequence" not in report_of(one)


def _code() -> pydicom.Dataset:
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99TEST", "test"
    return code
