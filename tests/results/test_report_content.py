"""What the report says, item by item of TID 1500, in its three variants.

Covered: groups per lesion and their shared tracking, codes, units and values; the detector's
group; the statement on the exam; limitations and wording; the predecessor; the image library.
Not covered: how a viewer shows it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dicom_node.results.result_set import Kind
from tests.results.result_cases import (
    LIMITATIONS,
    SHAPE,
    Case,
    findings_of,
    make_case,
    negative,
    read,
    run,
    run_failure,
)


def concept(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""


def children(item, name):
    return [below for below in item.ContentSequence if concept(below) == name]


def child(item, name):
    (found,) = children(item, name)
    return found


def number(item):
    value = item.MeasuredValueSequence[0]
    return float(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue


def groups_of(report):
    return child(report, "Imaging Measurements").ContentSequence


def tracked(group):
    return child(group, "Tracking Identifier").TextValue, child(group, "Tracking Unique Identifier").UID


def evaluation(report):
    """Codes of the summary and of the tumour's presence, and the comments."""
    container = child(report, "Qualitative Evaluations")
    codes = {
        concept(i): i.ConceptCodeSequence[0].CodeValue
        for i in container.ContentSequence
        if "ConceptCodeSequence" in i
    }
    comments = [item.TextValue for item in children(container, "Comment")]
    return codes.get("CAD Processing and Findings Summary"), codes.get("Neoplasm"), comments


@pytest.fixture(scope="module")
def report(result):
    return read(result, Kind.SR)


def test_it_is_complete_preliminary_and_unverified(report):
    assert report.SOPClassUID.name == "Comprehensive 3D SR Storage"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    flags = (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag)
    assert flags == ("COMPLETE", "PRELIMINARY", "UNVERIFIED")


def test_the_observer_is_a_device_that_follows_from_the_weights(report):
    device = child(report, "Device Observer UID").UID
    assert device == report.ContributingEquipmentSequence[0].DeviceUID
    assert child(report, "Device Observer Model Name").TextValue == "flair-glioma 1.0.0"


def test_each_lesion_has_a_volume_group_and_a_planar_group_with_one_tracking_uid(report, result):
    groups = groups_of(report)
    names = [tracked(group)[0] for group in groups]
    assert names == ["Tumour 1", "Tumour 1", "Tumour 2", "Tumour 2", "Tumour detector, whole series"]
    by_segment = {
        (segment.TrackingID, segment.TrackingUID) for segment in read(result, Kind.SEG).SegmentSequence
    }
    assert {tracked(group) for group in groups[:4]} == by_segment


def test_the_groups_hold_the_measurements_with_their_units(report, case):
    volumetric, planar = groups_of(report)[:2]
    lesion = case.findings.lesions[0]
    assert number(child(volumetric, "Volume")) == (pytest.approx(lesion.volume_ml, abs=1e-4), "cm3")
    for name, derivation, probability in (
        ("Mean probability", "Mean", lesion.mean_probability),
        ("Certainty of Finding", "Maximum", lesion.maximum_probability),
    ):
        item = child(volumetric, name)
        assert number(item) == (pytest.approx(100 * probability, abs=0.01), "%")
        assert child(item, "Derivation").ConceptCodeSequence[0].CodeMeaning == derivation
    long_axis, perpendicular = lesion.long_axis.length_mm, lesion.perpendicular_axis.length_mm
    assert number(child(planar, "Long axis")) == (pytest.approx(long_axis, abs=0.01), "mm")
    assert number(child(planar, "Perpendicular Axis")) == (pytest.approx(perpendicular, abs=0.01), "mm")


def test_the_volume_group_names_the_segment_and_the_planar_group_the_image(report, result, case):
    volumetric, planar = groups_of(report)[2:4]
    segment = child(volumetric, "Referenced Segment").ReferencedSOPSequence[0]
    assert segment.ReferencedSOPInstanceUID == read(result, Kind.SEG).SOPInstanceUID
    assert segment.ReferencedSegmentNumber == 2
    region = child(planar, "Image Region")
    assert region.GraphicType == "POLYLINE"
    image = region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert image == case.volume.frames[case.findings.lesions[1].largest_slice].sop_instance_uid


def test_finding_category_and_site_are_coded(report):
    for group in groups_of(report)[:4]:
        assert child(group, "Finding").ConceptCodeSequence[0].CodeValue == "108369006"
        assert child(group, "Finding category").ConceptCodeSequence[0].CodeValue == "49755003"
        assert child(group, "Finding Site").ConceptCodeSequence[0].CodeValue == "12738006"


def test_the_detector_reports_its_highest_certainty_on_its_slice(report, case):
    group = groups_of(report)[-1]
    certainty = child(group, "Certainty of Finding")
    highest = 100 * float(case.findings.slice_probability.max())
    assert number(certainty) == (pytest.approx(highest, abs=0.01), "%")
    border = next(item for item in certainty.ContentSequence if item.ValueType == "SCOORD")
    image = border.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert image == case.volume.frames[case.findings.top_slice].sop_instance_uid
    positive = child(group, "Number of slices called positive")
    assert number(positive) == (float(case.findings.slice_positive.sum()), "{slices}")


def test_the_detectors_group_names_each_slice_that_it_called_positive(report, case, tmp_path):
    called = np.flatnonzero(case.findings.slice_positive)
    assert 0 < len(called) < len(case.volume.frames)
    assert named_by_the_detector(report) == [case.volume.frames[i].sop_instance_uid for i in called]
    without = read(run(negative(case), tmp_path), Kind.SR)
    assert named_by_the_detector(without) == [case.volume.frames[0].sop_instance_uid]


def named_by_the_detector(report):
    images = (item for item in groups_of(report)[-1].ContentSequence if item.ValueType == "IMAGE")
    return [image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for image in images]


def test_the_exam_with_findings_says_so_with_limitations_and_research_use(report):
    outcome, tumour, comments = evaluation(report)
    assert (outcome, tumour) == ("111242", "52101004")
    assert LIMITATIONS in comments
    assert any("RESEARCH USE ONLY" in comment for comment in comments)
    assert any(comment.startswith("2 regions were outlined, 2.1 ml") for comment in comments)


def test_the_exam_without_findings_says_absent_and_keeps_the_detectors_group(case, tmp_path):
    report = read(run(negative(case), tmp_path), Kind.SR)
    outcome, tumour, comments = evaluation(report)
    assert (outcome, tumour) == ("111241", "272519000")
    assert any(comment.startswith("No region was outlined") for comment in comments)
    assert [tracked(group)[0] for group in groups_of(report)] == ["Tumour detector, whole series"]


def test_where_the_detector_alone_sees_something_the_report_says_neither_present_nor_absent(case, tmp_path):
    faint = np.where(np.arange(SHAPE[0]) == 4, 0.49, 0).astype(np.float32)[:, None, None]
    findings = findings_of(case.volume, np.broadcast_to(faint, SHAPE).copy())
    findings.slice_positive[4] = True
    result = run(Case(case.volume, findings), tmp_path)
    assert [made.kind for made in result.objects] == [Kind.SC, Kind.KOS, Kind.SR]
    outcome, tumour, comments = evaluation(read(result, Kind.SR))
    assert (outcome, tumour) == ("111242", None)
    assert "No region was outlined; the detector called 1 of" in " ".join(comments)


def test_the_failed_exam_states_the_cause_and_no_finding_either_way(case, tmp_path):
    result = run_failure(case.volume.headers, tmp_path, limitations=LIMITATIONS)
    report = read(result, Kind.SR)
    outcome, tumour, comments = evaluation(report)
    assert (outcome, tumour) == ("111245", None)
    assert comments[0] == "The analysis failed: There is a gap of 10 mm after slice 7."
    assert children(report, "Imaging Measurements") == []


def test_the_failed_exam_is_one_that_a_viewer_shows_as_text(case, tmp_path):
    """OHIF shows text under any title but Imaging Measurement Report, if every item has a name."""
    report = read(run_failure(case.volume.headers, tmp_path), Kind.SR)
    title = report.ConceptNameCodeSequence[0]
    assert (title.CodeValue, report.ContentTemplateSequence[0].TemplateIdentifier) == ("126001", "1500")
    assert all(concept(item) for item in report.ContentSequence)
    listed = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(listed.ReferencedSOPSequence) == len(case.volume.headers)


def test_the_volume_stands_in_the_planar_group_when_no_segmentation_is_made(case, tmp_path):
    report = read(run(case, tmp_path, kinds=(Kind.SR,)), Kind.SR)
    groups = groups_of(report)
    assert [tracked(group)[0] for group in groups[:2]] == ["Tumour 1", "Tumour 2"]
    assert number(child(groups[0], "Volume"))[1] == "cm3"


def test_remarks_on_the_volume_are_repeated(case, tmp_path):
    volume = replace(case.volume, remarks=("Contrast agent is not known.",))
    _, _, comments = evaluation(read(run(Case(volume, case.findings), tmp_path), Kind.SR))
    assert "Contrast agent is not known." in comments


def test_text_outside_ascii_is_written_so_that_any_character_set_can_hold_it(case, tmp_path):
    made = read(run(case, tmp_path, limitations="Für Läsionen über 5 mm"), Kind.SR)
    assert "Fur Lasionen uber 5 mm" in evaluation(made)[2]


def test_a_second_version_names_the_first(case, result, tmp_path):
    second = read(run(case, tmp_path, configuration_digest="2", predecessor=result), Kind.SR)
    series = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == result.objects[-1].sop_instance_uid
    assert series.SeriesInstanceUID == result.objects[-1].series_instance_uid


def test_the_image_library_lists_every_source_image(report, case):
    group = child(child(report, "Image Library"), "Image Library Group")
    listed = [
        i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for i in group.ContentSequence
        if i.ValueType == "IMAGE"
    ]
    assert listed == [frame.sop_instance_uid for frame in case.volume.frames]
    assert child(group, "Modality").ConceptCodeSequence[0].CodeValue == "MR"


def test_a_multi_frame_source_is_referred_to_by_frame(tmp_path):
    case = make_case(multi_frame=True)
    planar = groups_of(read(run(case, tmp_path), Kind.SR))[1]
    image = child(planar, "Image Region").ContentSequence[0].ReferencedSOPSequence[0]
    lesion = case.findings.lesions[0]
    assert image.ReferencedFrameNumber == case.volume.frames[lesion.largest_slice].frame_number
