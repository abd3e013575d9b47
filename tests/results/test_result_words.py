"""What is marked has the bundle's name and code in every object, so that two bundles' results differ.

Covered: SEG, report (with findings, without, failed), picture's description, and the refusal of labels
that would not fit. Not covered: the words drawn into the picture's pixels.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from dicom_node.analysis.finding_kind import FindingKind, TypeCode
from dicom_node.results.result_set import Kind
from tests.results.result_cases import (
    ALGORITHM,
    Case,
    dciodvfy,
    make_case,
    negative,
    path_of,
    read,
    run,
    run_failure,
)
from tests.results.test_report_content import child, children, groups_of, tracked

ENHANCING = FindingKind(
    label="enhancing tumour", type=TypeCode(value="C113842", scheme="NCIt", meaning="Enhancing Lesion")
)


@pytest.fixture(scope="module")
def case() -> Case:
    made = make_case("coronal")
    return Case(made.volume, replace(made.findings, algorithm=replace(ALGORITHM, finding=ENHANCING)))


@pytest.fixture(scope="module")
def result(case, tmp_path_factory):
    return run(case, tmp_path_factory.mktemp("result"))


def test_the_series_are_named_after_what_is_marked_and_fit(result):
    assert [read(result, kind).SeriesDescription for kind in (Kind.SEG, Kind.SC, Kind.SR)] == [
        "Enhancing tumour segmentation, RESEARCH USE ONLY",
        "Enhancing tumour summary picture, RESEARCH USE ONLY",
        "Enhancing tumour measurements, RESEARCH USE ONLY",
    ]
    longest = FindingKind(label="x" * 28)
    assert len(f"{longest.title} summary picture, RESEARCH USE ONLY") <= 64


def test_each_segment_has_the_bundles_label_and_code(result):
    segments = read(result, Kind.SEG).SegmentSequence
    assert [s.SegmentLabel for s in segments] == ["Enhancing tumour 1", "Enhancing tumour 2"]
    for segment in segments:
        code = segment.SegmentedPropertyTypeCodeSequence[0]
        assert (code.CodeValue, code.CodingSchemeDesignator) == ("C113842", "NCIt")


def test_each_group_of_the_report_has_the_same_label_and_code(result):
    groups = groups_of(read(result, Kind.SR))
    assert [tracked(group)[0] for group in groups[::2]] == [
        "Enhancing tumour 1",
        "Enhancing tumour 2",
        "Enhancing tumour detector, whole series",
    ]
    assert {child(g, "Finding").ConceptCodeSequence[0].CodeValue for g in groups} == {"C113842"}


def test_the_exam_says_present_or_absent_of_what_the_bundle_marks(case, result, tmp_path):
    for made, code in ((result, "52101004"), (run(negative(case), tmp_path), "272519000")):
        said = child(read(made, Kind.SR), "Qualitative Evaluations").ContentSequence
        (presence,) = [i for i in said if i.ConceptNameCodeSequence[0].CodeValue == "C113842"]
        assert presence.ConceptCodeSequence[0].CodeValue == code


def test_a_failure_has_the_bundles_name_too(case, tmp_path):
    failed = run_failure(case.volume.headers, tmp_path, algorithm=case.findings.algorithm)
    report = read(failed, Kind.SR)
    assert report.SeriesDescription == "Enhancing tumour measurements, RESEARCH USE ONLY"
    assert children(report, "Enhancing Lesion") == []


def test_the_objects_have_no_error(result):
    for kind in Kind:
        assert dciodvfy(path_of(result, kind))[0] == []


@pytest.mark.parametrize("label", ["", "x" * 29, "Läsion", "a\\b", " tumour", "tumour\n"])
def test_a_label_that_no_object_could_hold_is_refused(label):
    with pytest.raises(ValidationError, match="label"):
        FindingKind(label=label)
