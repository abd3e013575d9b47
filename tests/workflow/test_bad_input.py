"""Every kind of bad or unusual series gets the right answer or a clear refusal, by files.

Covers what users report: damaged, mixed, odd and huge series, through
``analyse_folder`` to the written objects. Not covered: bytes that never become a file
(tests/receive), and each selection rule (tests/series).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_node.phantom.mr_series import Storage, mr_series, write_series
from dicom_node.workflow.folder import Analysed, analyse_folder
from dicom_node.workflow.stations import Stations
from tests.series.test_geometry import ORIENTATIONS
from tests.support.spot import Series, affine_of, image_spot


def analyse_one(stations: Stations, tmp_path: Path) -> Analysed:
    (one,) = analyse_folder(stations, tmp_path / "series", tmp_path / "out")
    return one


def edit(paths: list[Path], **attributes: object) -> None:
    for path in paths:
        dataset = pydicom.dcmread(path)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def report_of(one: Analysed) -> Dataset:
    return pydicom.dcmread(one.folder / "sr.dcm")


@pytest.mark.parametrize(
    "storage",
    [Storage(signed=True), Storage(inverted=True), Storage(rescale=(0.5, -20.0))],
    ids=["signed", "MONOCHROME1", "rescaled"],
)
def test_the_way_pixels_are_stored_changes_nothing(
    storage: Storage, stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    spot = image_spot()
    series_of(spot, storage=storage)
    one = analyse_one(stations, tmp_path)
    assert one.worked is not None
    (lesion,) = one.worked.findings.lesions
    assert np.linalg.norm(np.array(lesion.centroid_mm) - spot.centroid_mm) < 0.75


def test_an_eight_bit_series_is_analysed(stations: Stations, series_of: Series, tmp_path: Path) -> None:
    spot = image_spot()
    spot.voxels[:] /= 4
    series_of(spot, storage=Storage(bits=8))
    assert analyse_one(stations, tmp_path).detail.startswith("1 lesion")


@pytest.mark.parametrize("name", [n for n in ORIENTATIONS if n.startswith("axial") or n == "oblique"])
@pytest.mark.parametrize("reverse", [False, True], ids=["", "reversed and shuffled"])
def test_the_seg_lies_where_the_spot_is(
    name: str, reverse: bool, stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    row, column = (np.array(v, float) for v in ORIENTATIONS[name])
    spot = image_spot(affine_of(tuple(row), tuple(column - row * (row @ column) / (row @ row))))
    series_of(spot, reversed_order=reverse, shuffled_numbers=reverse)
    one = analyse_one(stations, tmp_path)
    seg = pydicom.dcmread(one.folder / "seg.dcm")
    assert np.linalg.norm(centroid_of(seg) - spot.centroid_mm) < 0.75


@pytest.mark.parametrize(
    ("keyword", "value", "answer"),
    [
        ("NumberOfFrames", b"abc ", "pixel data of 0001.dcm cannot be decoded"),
        ("NumberOfFrames", b"1e999 ", "pixel data of 0001.dcm cannot be decoded"),
        ("InstanceNumber", b"1e999 ", "1 lesion, 5.6 ml"),
        ("NumberOfTemporalPositions", b"1e999 ", "1 lesion, 5.6 ml"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_whole_number_that_is_none_ends_in_a_report(
    keyword: str, value: bytes, answer: str, stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    for path in series_of(image_spot()):
        dataset = pydicom.dcmread(path)
        dataset[keyword] = RawDataElement(Tag(keyword), "IS", len(value), value, 0, False, True)
        dataset.save_as(path)
    one = analyse_one(stations, tmp_path)
    assert answer in one.detail
    assert report_of(one).PatientID == "PHANTOM-0"


def centroid_of(seg: Dataset) -> np.ndarray:
    """From the functional groups alone (PS3.3 C.7.6.2.1.1)."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    row_mm, column_mm = shared.PixelMeasuresSequence[0].PixelSpacing
    points = []
    for mask, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, columns = np.nonzero(mask)
        points.append(
            origin + np.outer(columns, cosines[0] * column_mm) + np.outer(rows, cosines[1] * row_mm)
        )
    return np.concatenate(points).mean(axis=0)


@pytest.mark.parametrize("name", ["sagittal", "coronal"])
def test_a_plane_that_the_model_does_not_read_is_skipped(
    name: str, stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    series_of(image_spot(affine_of(*ORIENTATIONS[name])))
    one = analyse_one(stations, tmp_path)
    assert not one.failed
    assert f"slices are {name}" in one.detail
    assert not one.folder.exists()


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "not a grey image"),
        ({"Modality": "OT"}, "modality is OT"),
        ({"SeriesDescription": "localizer"}, "a localizer"),
    ],
)
def test_a_series_that_is_not_for_us_is_skipped(
    attributes: dict, reason: str, stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    edit(series_of(image_spot()), **attributes)
    one = analyse_one(stations, tmp_path)
    assert not one.failed
    assert reason in one.detail


def test_a_single_slice_is_skipped(stations: Stations, series_of: Series, tmp_path: Path) -> None:
    for path in series_of(image_spot())[1:]:
        path.unlink()
    one = analyse_one(stations, tmp_path)
    assert not one.failed
    assert "1 slices, fewer than 10" in one.detail


def cut_pixels(paths: list[Path]) -> None:
    edit(paths[4:5], PixelData=b"\0" * 100)


def cut_file(paths: list[Path]) -> None:
    paths[4].write_bytes(paths[4].read_bytes()[:-3000])


def scramble_pixels(paths: list[Path]) -> None:
    dataset = pydicom.dcmread(paths[4])
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(range(256)) * 8])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    dataset.save_as(paths[4])


def other_orientation(paths: list[Path]) -> None:
    edit(paths[4:5], ImageOrientationPatient=[1, 0, 0, 0, 0, -1])


def lose_a_slice(paths: list[Path]) -> None:
    paths[4].unlink()


def no_position(paths: list[Path]) -> None:
    edit(paths[4:5], ImagePositionPatient=None)


def no_number(paths: list[Path]) -> None:
    content = paths[4].read_bytes()
    spacing = pydicom.dcmread(paths[4])["PixelSpacing"]
    text = "\\".join(str(v) for v in spacing.value).encode()
    assert text in content
    paths[4].write_bytes(content.replace(text, b"a" * len(text)))


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (cut_pixels, "cannot be decoded"),
        (cut_file, "cannot be decoded"),
        (scramble_pixels, "cannot be decoded"),
        (other_orientation, "mixes orientations"),
        (lose_a_slice, "a slice is missing"),
        (no_position, "no ImagePositionPatient"),
        (no_number, "2 pixel spacings"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # what pydicom says of the damage
def test_a_damaged_series_gets_a_failed_report_with_the_cause(
    spoil: Callable[[list[Path]], None], cause: str, stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    spoil(series_of(image_spot()))
    one = analyse_one(stations, tmp_path)
    assert one.failed
    assert cause in one.detail
    report = report_of(one)
    assert cause in report.to_json()
    assert "111245" in report.to_json()  # CAD processing and findings summary: failed (CID 6047)
    assert not (one.folder / "seg.dcm").exists()
    assert json.loads((one.folder / "result.json").read_text())["outcome"] == "failed"


def test_a_series_of_two_patients_fails_into_both_studies_and_names_neither_to_the_other(
    stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    paths = series_of(image_spot())
    edit(paths[6:], PatientID="SECOND", PatientName="Second^Person", StudyInstanceUID="1.2.3")
    one = analyse_one(stations, tmp_path)
    assert one.failed
    assert "mixes 2 patients" in one.detail
    for number, identity, own in ((1, "PHANTOM-0", paths[:6]), (2, "SECOND", paths[6:])):
        report = pydicom.dcmread(one.folder / str(number) / "sr.dcm")
        assert report.PatientID == identity
        referenced = {
            item.ReferencedSOPInstanceUID
            for study in report.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }
        sources = {pydicom.dcmread(path).SOPInstanceUID for path in own}
        others = {pydicom.dcmread(path).SOPInstanceUID for path in paths} - sources
        assert referenced & sources
        assert not referenced & others


@pytest.mark.slow
def test_three_thousand_slices_get_a_failed_report_that_names_the_limit(
    stations: Stations, tmp_path: Path
) -> None:
    shape = (3000, 16, 16)
    affine = affine_of(shape=shape, spacing_mm=(0.1, 5, 5))
    write_series(mr_series(np.zeros(shape, np.float32), affine), tmp_path / "series")
    one = analyse_one(stations, tmp_path)
    assert one.failed
    assert "3000 slices; pipeline 'flair' takes at most 1000" in one.detail
    assert report_of(one).PatientID == "PHANTOM-0"


def test_a_folder_of_several_series_gives_each_its_own_answer(
    stations: Stations, series_of: Series, tmp_path: Path
) -> None:
    series_of(image_spot(), "series/a", series_seed="a")
    edit(series_of(image_spot(), "series/b", series_seed="b"), Modality="CT")
    series_of(image_spot(), "series/c", series_seed="c")[3].unlink()
    (tmp_path / "series" / "notes.txt").write_text("no DICOM")
    found = {a.outcome: a for a in analyse_folder(stations, tmp_path / "series", tmp_path / "out")}
    assert [found[k].failed for k in ("chosen", "skipped", "refused")] == [False, False, True]
    assert {p.name for p in found["chosen"].folder.iterdir()} == {
        "heatmap.npz",
        "picture.png",
        "result.json",
        "sc.dcm",
        "seg.dcm",
        "sr.dcm",
    }


def test_an_error_of_the_program_becomes_a_failed_report_and_no_crash(
    stations: Stations, series_of: Series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.workflow.stations.analyse", lambda *_, **__: 1 / 0)
    series_of(image_spot())
    one = analyse_one(stations, tmp_path)
    assert one.failed
    assert one.detail.startswith("an error of the program (ZeroDivisionError)")
    assert report_of(one).PatientID == "PHANTOM-0"
