"""A result that is wrong does not pass its proof, whatever is wrong with it.

Covered: tampering with each file after it was written: place, patient, study, references,
UIDs, wording, measurements, evidence; that nothing stays in the folder after a failed proof, and that
the failure is reported in its place.
Not covered: conformance to the IODs, which is a matter of tests (test_result_conformance.py)
and not of run time.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.pixels import pack_bits

from dicom_node.errors import ResultInvalid
from dicom_node.results import codes, make
from dicom_node.results.proof import prove_failure, prove_results
from dicom_node.results.result_set import Kind
from dicom_node.results.segmentation import make_segmentation
from dicom_node.workflow.stations import Task
from tests.results.result_cases import MADE_AT, Case, make_case, paths_of, run, run_failure
from tests.support.spot import image_spot

FOREIGN = "2.25.12345"


def tamper(result, kind, change):
    path = paths_of(result)[kind]
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path, enforce_file_format=True)


def assert_caught(case, result, match):
    with pytest.raises(ResultInvalid, match=match):
        prove_results(paths_of(result), case.volume, case.findings)


def first_frame(segmentation: Dataset) -> Dataset:
    return segmentation.PerFrameFunctionalGroupsSequence[0]


def set_pixels(segmentation: Dataset, frames: np.ndarray) -> None:
    segmentation.PixelData = pack_bits(np.ascontiguousarray(frames).ravel())
    segmentation["PixelData"].VR = "OB"


def flip_columns(segmentation):
    set_pixels(segmentation, segmentation.pixel_array[:, :, ::-1])


def flip_rows(segmentation):
    set_pixels(segmentation, segmentation.pixel_array[:, ::-1])


def flip_frames(segmentation):
    set_pixels(segmentation, segmentation.pixel_array[::-1])


def lose_a_voxel(segmentation):
    frames = segmentation.pixel_array.copy()
    frames[tuple(np.argwhere(frames)[0])] = 0
    set_pixels(segmentation, frames)


def empty_a_segment(segmentation):
    keep = [g for g in segmentation.PerFrameFunctionalGroupsSequence if segment_of(g) == 1]
    frames = segmentation.pixel_array[: len(keep)]
    segmentation.PerFrameFunctionalGroupsSequence = keep
    segmentation.NumberOfFrames = len(keep)
    set_pixels(segmentation, frames)


def segment_of(groups: Dataset) -> int:
    return int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def move_all_frames(segmentation):
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        plane = groups.PlanePositionSequence[0]
        plane.ImagePositionPatient = [
            float(x) + shift for x, shift in zip(plane.ImagePositionPatient, (0, 0, 5), strict=True)
        ]


def turn_by_half(segmentation):
    plane = segmentation.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    plane.ImageOrientationPatient = [-float(x) for x in plane.ImageOrientationPatient]


def swap_spacing(segmentation):
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = list(measures.PixelSpacing)[::-1]


def swap_sources(segmentation):
    groups = [g for g in segmentation.PerFrameFunctionalGroupsSequence if segment_of(g) == 1]
    first, last = (g.DerivationImageSequence[0].SourceImageSequence[0] for g in (groups[0], groups[-1]))
    uids = first.ReferencedSOPInstanceUID, last.ReferencedSOPInstanceUID
    last.ReferencedSOPInstanceUID, first.ReferencedSOPInstanceUID = uids


@pytest.mark.parametrize(
    "change",
    [
        flip_columns,
        flip_rows,
        flip_frames,
        lose_a_voxel,
        empty_a_segment,
        move_all_frames,
        turn_by_half,
        swap_spacing,
        swap_sources,
    ],
)
def test_a_segmentation_in_another_place_is_caught(change, case, own_result):
    tamper(own_result, Kind.SEG, change)
    assert_caught(case, own_result, "seg: .*segment")


def test_a_segmentation_whose_frames_cannot_be_read_is_caught(case, own_result):
    def change(segmentation):
        segmentation.PixelData = segmentation.PixelData[:4]

    tamper(own_result, Kind.SEG, change)
    assert_caught(case, own_result, "seg: its frames cannot be read back")


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "PHANTOM-1"),
        ("PatientName", "Phantom^Other"),
        ("PatientBirthDate", "19700102"),
        ("StudyInstanceUID", FOREIGN),
        ("AccessionNumber", ""),
        ("StudyDate", "20260106"),
        ("SpecificCharacterSet", "ISO_IR 100"),
    ],
)
def test_another_patient_or_study_is_caught(kind, keyword, value, case, own_result):
    tamper(own_result, kind, lambda dataset: setattr(dataset, keyword, value))
    assert_caught(case, own_result, f"{kind}: {keyword} is not the source's")


def test_an_identity_attribute_that_the_source_lacks_is_caught(case, own_result):
    tamper(own_result, Kind.SR, lambda dataset: setattr(dataset, "PatientComments", "see other study"))
    assert_caught(case, own_result, "sr: PatientComments is not the source's")


def test_the_message_names_no_value_of_the_patient(case, own_result):
    tamper(own_result, Kind.SR, lambda dataset: setattr(dataset, "PatientID", "SECRET-7"))
    with pytest.raises(ResultInvalid) as caught:
        prove_results(paths_of(own_result), case.volume, case.findings)
    assert "SECRET-7" not in str(caught.value)
    assert "PHANTOM" not in str(caught.value)


def float_frames(made: Dataset) -> np.ndarray:
    return np.frombuffer(made.FloatPixelData, "<f4").reshape(-1, made.Rows, made.Columns)


def flip_map(made):
    made.FloatPixelData = np.ascontiguousarray(float_frames(made)[:, ::-1]).tobytes()


def a_little_more(made):
    made.FloatPixelData = (float_frames(made) + np.float32(0.01)).tobytes()


def half_the_slope(made):
    made.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0].RealWorldValueSlope = 0.5


def swap_map_sources(made):
    groups = made.PerFrameFunctionalGroupsSequence
    first, last = (g.DerivationImageSequence[0].SourceImageSequence[0] for g in (groups[0], groups[-1]))
    uids = first.ReferencedSOPInstanceUID, last.ReferencedSOPInstanceUID
    last.ReferencedSOPInstanceUID, first.ReferencedSOPInstanceUID = uids


def lose_a_frame(made):
    frames = float_frames(made)[:-1]
    made.PerFrameFunctionalGroupsSequence = made.PerFrameFunctionalGroupsSequence[:-1]
    made.NumberOfFrames = len(frames)
    made.FloatPixelData = frames.tobytes()


@pytest.mark.parametrize(
    "change",
    [
        flip_map,
        a_little_more,
        half_the_slope,
        swap_map_sources,
        lose_a_frame,
        move_all_frames,
        turn_by_half,
        swap_spacing,
    ],
)
def test_a_wrong_probability_map_is_caught(change, case, own_result):
    tamper(own_result, Kind.PM, change)
    assert_caught(case, own_result, "^pm: ")


def foreign_derivation_of_the_map(made):
    source = first_frame(made).DerivationImageSequence[0].SourceImageSequence[0]
    source.ReferencedSOPInstanceUID = FOREIGN


def test_a_foreign_reference_of_the_probability_map_is_caught(case, own_result):
    tamper(own_result, Kind.PM, foreign_derivation_of_the_map)
    assert_caught(case, own_result, "pm: .*neither in the source nor in the result")


def first_key_image(selection):
    return first_item(selection, "IMAGE").ReferencedSOPSequence[0]


def select_a_foreign_image(selection):
    first_key_image(selection).ReferencedSOPInstanceUID = FOREIGN


def lose_a_key_image(selection):
    items = list(selection.ContentSequence)
    items.remove(first_item(selection, "IMAGE"))
    selection.ContentSequence = items


def list_no_evidence(selection):
    del selection.CurrentRequestedProcedureEvidenceSequence


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (select_a_foreign_image, "neither in the source nor in the result"),
        (lose_a_key_image, "its evidence is not what it selects"),
        (list_no_evidence, "its evidence is not what it selects"),
    ],
)
def test_a_wrong_selection_of_key_images_is_caught(change, match, case, own_result):
    tamper(own_result, Kind.KOS, change)
    assert_caught(case, own_result, f"kos: .*{match}")


def test_key_images_without_a_finding_are_caught(case, own_result):
    """They and their evidence agree, but name a slice that shows no lesion's largest area."""
    keys = {lesion.largest_slice for lesion in case.findings.lesions}
    other = next(f.sop_instance_uid for i, f in enumerate(case.volume.frames) if i not in keys)

    def change(selection):
        reference = first_key_image(selection)
        study = selection.CurrentRequestedProcedureEvidenceSequence[0]
        for item in study.ReferencedSeriesSequence[0].ReferencedSOPSequence:
            if item.ReferencedSOPInstanceUID == reference.ReferencedSOPInstanceUID:
                item.ReferencedSOPInstanceUID = other
        reference.ReferencedSOPInstanceUID = other

    tamper(own_result, Kind.KOS, change)
    assert_caught(case, own_result, "kos: it does not select the slices with findings")


def foreign_derivation(segmentation):
    source = first_frame(segmentation).DerivationImageSequence[0].SourceImageSequence[0]
    source.ReferencedSOPInstanceUID = FOREIGN


def foreign_instance(segmentation):
    segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = FOREIGN


def wrong_class(segmentation):
    source = first_frame(segmentation).DerivationImageSequence[0].SourceImageSequence[0]
    source.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"


def a_frame_of_a_single_frame_image(segmentation):
    first_frame(segmentation).DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = 1


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (foreign_derivation, "neither in the source nor in the result"),
        (foreign_instance, "neither in the source nor in the result"),
        (wrong_class, "wrong SOP class"),
        (a_frame_of_a_single_frame_image, "ReferencedFrameNumber that does not exist"),
    ],
)
def test_a_foreign_reference_of_the_segmentation_is_caught(change, match, case, own_result):
    tamper(own_result, Kind.SEG, change)
    assert_caught(case, own_result, f"seg: .*{match}")


def test_a_foreign_reference_of_the_picture_is_caught(case, own_result):
    def change(capture):
        capture.SourceImageSequence[0].ReferencedSOPInstanceUID = FOREIGN

    tamper(own_result, Kind.SC, change)
    assert_caught(case, own_result, "sc: .*neither in the source")


def content_items(item):
    yield item
    for below in item.get("ContentSequence", ()):
        yield from content_items(below)


def first_item(report, value_type, concept=None):
    return next(
        item
        for item in content_items(report)
        if item.get("ValueType") == value_type
        and (concept is None or item.ConceptNameCodeSequence[0].CodeValue == concept.value)
    )


def foreign_outline(report):
    image = first_item(report, "SCOORD").ContentSequence[0]
    image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = FOREIGN


def another_slice(report):
    image = first_item(report, "SCOORD").ContentSequence[0].ReferencedSOPSequence[0]
    other = first_item(report, "CONTAINER", codes.IMAGE_LIBRARY_GROUP).ContentSequence[-1]
    image.ReferencedSOPInstanceUID = other.ReferencedSOPSequence[0].ReferencedSOPInstanceUID


def moved_outline(report):
    outline = first_item(report, "SCOORD")
    outline.GraphicData = [float(value) + 2 for value in outline.GraphicData]


def mirrored_outline(report):
    outline = first_item(report, "SCOORD")
    points = np.array(outline.GraphicData).reshape(-1, 2)
    outline.GraphicData = points[:, ::-1].ravel().tolist()


def ten_times_the_volume(report):
    value = first_item(report, "NUM", codes.VOLUME).MeasuredValueSequence[0]
    value.NumericValue = str(10 * float(value.NumericValue))


def no_groups(report):
    first_item(report, "CONTAINER", codes.IMAGING_MEASUREMENTS).ContentSequence = []


def a_segment_too_many(report):
    item = next(i for i in content_items(report) if i.get("ValueType") == "IMAGE" and "Segment" in name_of(i))
    item.ReferencedSOPSequence[0].ReferencedSegmentNumber = 3


def name_of(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""


def lost_evidence(report):
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    del series.ReferencedSOPSequence[0]


def evidence_in_another_study(report):
    report.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID = FOREIGN


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (foreign_outline, "neither in the source nor in the result"),
        (another_slice, "refers to another slice"),
        (moved_outline, "leaves the lesion"),
        (mirrored_outline, "leaves the lesion"),
        (ten_times_the_volume, "volume of lesion 1"),
        (no_groups, "not every lesion has an outline and a volume"),
        (a_segment_too_many, "ReferencedSegmentNumber that does not exist"),
        (lost_evidence, "evidence"),
        (evidence_in_another_study, "evidence"),
    ],
)
def test_a_wrong_report_is_caught(change, match, case, own_result):
    tamper(own_result, Kind.SR, change)
    assert_caught(case, own_result, f"sr: .*{match}")


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("uid", ["2.25.007", "1.2." + "9" * 64, "not a uid", ""])
def test_an_illegal_uid_is_caught(kind, uid, case, own_result):
    def change(dataset):
        dataset.add(DataElement("SeriesInstanceUID", "UI", uid, already_converted=True))

    tamper(own_result, kind, change)
    assert_caught(case, own_result, f"{kind}: SeriesInstanceUID is not a UID")


def test_two_objects_with_one_uid_are_caught(case, own_result):
    shared = dcmread(paths_of(own_result)[Kind.SEG]).SeriesInstanceUID
    tamper(own_result, Kind.SC, lambda dataset: setattr(dataset, "SeriesInstanceUID", shared))
    assert_caught(case, own_result, "sc: SeriesInstanceUID is already that of something else")


def test_an_object_with_the_uid_of_a_source_image_is_caught(case, own_result):
    taken = case.volume.frames[0].sop_instance_uid
    tamper(own_result, Kind.SC, lambda dataset: setattr(dataset, "SOPInstanceUID", taken))
    assert_caught(case, own_result, "sc: SOPInstanceUID is already that of something else")


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID"])
def test_file_meta_information_of_another_object_is_caught(keyword, case, own_result):
    path = paths_of(own_result)[Kind.SC]
    dataset = dcmread(path)
    setattr(dataset.file_meta, f"MediaStorage{keyword}", FOREIGN)
    dataset.save_as(path)
    assert_caught(case, own_result, "sc: the file meta information names another")


def test_a_series_that_does_not_say_research_use_only_is_caught(case, own_result):
    tamper(own_result, Kind.SEG, lambda dataset: setattr(dataset, "SeriesDescription", "Tumour"))
    assert_caught(case, own_result, "seg: SeriesDescription does not end in RESEARCH USE ONLY")


def test_a_result_without_a_report_is_caught(case, own_result):
    paths = paths_of(own_result)
    del paths[Kind.SR]
    with pytest.raises(ResultInvalid, match="the report is missing"):
        prove_results(paths, case.volume, case.findings)


def test_headers_of_two_patients_are_refused_for_a_failure(case, tmp_path):
    headers = [deepcopy(header) for header in case.volume.headers]
    headers[-1].PatientID = "OTHER"
    with pytest.raises(ResultInvalid, match="not all of one patient and study"):
        run_failure(headers, tmp_path)


def test_a_tampered_failure_is_caught(case, tmp_path):
    result = run_failure(case.volume.headers, tmp_path)
    prove_failure(paths_of(result), case.volume.headers)
    tamper(result, Kind.SR, lambda dataset: setattr(dataset, "PatientID", "OTHER"))
    with pytest.raises(ResultInvalid, match="PatientID"):
        prove_failure(paths_of(result), case.volume.headers)


def test_findings_that_contradict_their_labels_leave_no_file(tmp_path):
    case = make_case()
    wrong = replace(case.findings.lesions[0], volume_ml=99.0)
    findings = replace(case.findings, lesions=(wrong, *case.findings.lesions[1:]))
    with pytest.raises(ResultInvalid, match="volume of lesion 1"):
        run(Case(case.volume, findings), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_frame_of_a_multi_frame_source_is_caught(tmp_path):
    case = make_case("sagittal", multi_frame=True)
    result = run(case, tmp_path)
    tamper(result, Kind.SEG, flip_rows)
    assert_caught(case, result, "seg: a frame of segment")


def test_a_reference_to_a_frame_that_does_not_exist_is_caught(tmp_path):
    case = make_case(multi_frame=True)
    result = run(case, tmp_path)

    def change(segmentation):
        source = first_frame(segmentation).DerivationImageSequence[0].SourceImageSequence[0]
        source.ReferencedFrameNumber = 13

    tamper(result, Kind.SEG, change)
    assert_caught(case, result, "seg: .*ReferencedFrameNumber that does not exist")


def test_a_result_that_fails_its_proof_becomes_a_failed_result_with_the_cause(
    stations, series_of, tmp_path, monkeypatch
):
    def wrong(*arguments):
        segmentation = make_segmentation(*arguments)
        flip_columns(segmentation)
        return segmentation

    monkeypatch.setattr(make, "make_segmentation", wrong)
    worked = stations.work(stations.select(series_of(image_spot())), Task(tmp_path / "result", MADE_AT))
    assert worked.findings is None
    assert worked.error == "ResultInvalid"
    assert sorted(path.name for path in (tmp_path / "result").glob("*.dcm")) == ["sc.dcm", "sr.dcm"]
    report = dcmread(tmp_path / "result" / "sr.dcm")
    told = [item.TextValue for item in content_items(report) if item.get("ValueType") == "TEXT"]
    assert any(text.startswith("The analysis failed: seg: ") for text in told), told
