"""What lies in the folder: names, order, atomicity, and the same bytes for the same inputs.

Covered: names and order of the objects; kinds that are not wanted; byte-identical repetition;
failures of sources that cannot be read as a volume.
Not covered: loss of power between the renames (the caller repeats the step, with the same bytes).
"""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta

import cv2
import pytest
from pydicom import dcmread

from dicom_node.errors import ResultInvalid
from dicom_node.results.result_set import Kind
from tests.results.result_cases import MADE_AT, make_case, negative, path_of, read, run, run_failure


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_children_come_first_and_the_report_last(result):
    assert [made.kind for made in result.objects] == [Kind.SEG, Kind.PM, Kind.SC, Kind.KOS, Kind.SR]


def test_the_folder_holds_the_objects_and_the_picture_and_nothing_else(case, tmp_path):
    run(case, tmp_path / "new" / "folder")
    assert sorted(contents(tmp_path / "new" / "folder")) == [
        "kos.dcm",
        "picture.png",
        "pm.dcm",
        "sc.dcm",
        "seg.dcm",
        "sr.dcm",
    ]


def test_the_result_set_says_what_is_in_the_files(result):
    for made in result.objects:
        dataset = dcmread(made.path)
        assert made.sop_class_uid == dataset.SOPClassUID
        assert made.sop_instance_uid == dataset.SOPInstanceUID
        assert made.series_instance_uid == dataset.SeriesInstanceUID
        assert result.study_instance_uid == dataset.StudyInstanceUID


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        run(make_case("oblique"), tmp_path / name)
        run_failure(make_case().volume.headers, tmp_path / f"{name} failed")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a failed") == contents(tmp_path / "b failed")


def test_a_repetition_at_another_time_keeps_the_bytes_that_were_published(case, tmp_path):
    run(case, tmp_path)
    before = contents(tmp_path)
    again = run(case, tmp_path, made_at=MADE_AT + timedelta(days=1))
    assert contents(tmp_path) == before
    assert [made.kind for made in again.objects] == list(Kind)


def test_a_repetition_in_the_same_folder_changes_nothing(case, tmp_path):
    run(case, tmp_path)
    before = contents(tmp_path)
    run(case, tmp_path)
    assert contents(tmp_path) == before


def test_a_later_time_changes_dates_and_no_uid(case, result, tmp_path):
    later = run(case, tmp_path, made_at=MADE_AT + timedelta(days=1))
    assert [o.sop_instance_uid for o in later.objects] == [o.sop_instance_uid for o in result.objects]
    assert read(later, Kind.SR).ContentDate == "20260106"


@pytest.mark.parametrize(
    "kinds", [(), (Kind.SR,), (Kind.SC, Kind.SR), (Kind.PM, Kind.SR), (Kind.KOS,)], ids=str
)
def test_only_the_wanted_kinds_are_made_and_always_the_report(kinds, case, tmp_path):
    result = run(case, tmp_path, kinds=kinds)
    assert {made.kind for made in result.objects} == {*kinds, Kind.SR}


def test_with_a_segmentation_there_is_a_picture_to_take_its_place(case, tmp_path):
    result = run(case, tmp_path, kinds=(Kind.SEG, Kind.SR))
    assert {made.kind for made in result.objects} == {Kind.SEG, Kind.SC, Kind.SR}


def test_a_result_without_findings_has_no_segmentation(case, tmp_path):
    result = run(negative(case), tmp_path)
    assert [made.kind for made in result.objects] == [Kind.SC, Kind.SR]
    assert not (tmp_path / "seg.dcm").exists()


def test_without_a_slice_that_the_segmenter_saw_there_is_no_map(case, tmp_path):
    unseen = negative(case)
    assert not unseen.findings.segmented.any()
    assert Kind.PM not in {made.kind for made in run(unseen, tmp_path).objects}


def test_the_picture_is_the_one_in_the_capture(result):
    capture = read(result, Kind.SC)
    picture = cv2.imread(str(path_of(result, Kind.SC).with_name("picture.png")))[:, :, ::-1]
    assert (capture.pixel_array == picture).all()
    assert capture.PhotometricInterpretation == "RGB"


def test_a_failed_result_needs_no_geometry_and_no_pixels(case, tmp_path):
    headers = [deepcopy(header) for header in case.volume.headers]
    for header in headers:
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows"):
            del header[keyword]
    headers[3].FrameOfReferenceUID = "2.25.3"
    result = run_failure(headers, tmp_path)
    assert [made.kind for made in result.objects] == [Kind.SC, Kind.SR]


def test_a_failed_result_can_name_several_series_of_a_study(case, tmp_path):
    headers = [deepcopy(header) for header in case.volume.headers]
    for header in headers[6:]:
        header.SeriesInstanceUID = "2.25.99"
    evidence = read(run_failure(headers, tmp_path), Kind.SR).CurrentRequestedProcedureEvidenceSequence
    by_series = {
        str(s.SeriesInstanceUID): len(s.ReferencedSOPSequence) for s in evidence[0].ReferencedSeriesSequence
    }
    assert by_series["2.25.99"] == 6
    assert by_series[str(headers[0].SeriesInstanceUID)] == 6


def test_a_success_after_a_failure_has_other_uids(case, result, tmp_path):
    failed = run_failure(case.volume.headers, tmp_path)
    uids = [o.sop_instance_uid for o in (*failed.objects, *result.objects)]
    assert len(set(uids)) == len(uids)


def test_headers_without_a_study_are_refused(case, tmp_path):
    header = deepcopy(case.volume.headers[0])
    del header.StudyInstanceUID
    with pytest.raises(ResultInvalid, match="StudyInstanceUID"):
        run_failure([header], tmp_path)
