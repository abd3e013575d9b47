"""Every kind of object and every variant of the report passes David Clunie's ``dciodvfy``.

Covered: IOD conformance of every kind of object for single-frame and multi-frame sources, for
findings, no findings, failures and second versions; and each warning by name.
Not covered: the templates of the SR, which dciodvfy does not check (test_report_content.py
does, and dcmqi in test_result_geometry.py); what a viewer makes of it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import copy

import pytest
from pydicom import dcmread
from pydicom.uid import BasicTextSRStorage

from dicom_node.results.older_report import OLDER_CLASSES, make_older_report
from dicom_node.results.report_without_segmentation import make_report_without_segmentation
from dicom_node.results.result_set import Kind
from tests.results.result_cases import (
    dciodvfy,
    dsrdump,
    make_case,
    negative,
    path_of,
    read_report_with_dcmqi,
    run,
    run_failure,
)

EXPECTED_WARNINGS = (
    # a device UID in Contributing Equipment tells two sets of weights apart; it is an extension
    "ContributingEquipmentSequence(0018,a001)[1]/DeviceUID(0018,1002)> - Attribute is not present",
    # no public scheme has a concept for the number of positive slices
    "Unrecognized defined term = <99DICOMNODE>",
    # empty, since the source's is: a result must not invent a study ID or a date
    "that would be needed to build DICOMDIR",
)


def assert_conforms(result):
    for made in result.objects:
        errors, warnings = dciodvfy(made.path)
        unexpected = [w for w in warnings if not any(known in w for known in EXPECTED_WARNINGS)]
        assert (made.kind, errors, unexpected) == (made.kind, [], [])


def test_all_objects_of_a_result_with_findings_conform(result):
    assert [made.kind for made in result.objects] == list(Kind)
    assert_conforms(result)


def test_a_result_without_findings_conforms(case, tmp_path):
    result = run(negative(case), tmp_path)
    assert [made.kind for made in result.objects] == [Kind.SC, Kind.SR]
    assert_conforms(result)


def test_a_result_of_a_multi_frame_source_conforms(tmp_path):
    assert_conforms(run(make_case("oblique", multi_frame=True), tmp_path))


def test_a_failed_result_conforms(case, tmp_path):
    result = run_failure(case.volume.headers, tmp_path)
    assert [made.kind for made in result.objects] == [Kind.SC, Kind.SR]
    assert_conforms(result)


VARIANTS = ("with findings", "without findings", "failed", "of frames", "second")


@pytest.fixture(scope="module")
def variants(case, result, tmp_path_factory):
    """A result of each kind of report."""
    folder = tmp_path_factory.mktemp("variants")
    return {
        "with findings": result,
        "without findings": run(negative(case), folder / "negative"),
        "failed": run_failure(case.volume.headers, folder / "failed"),
        "of frames": run(make_case("oblique", multi_frame=True), folder / "frames"),
        "second": run(case, folder / "second", configuration_digest="2", predecessor=result),
    }


@pytest.mark.peer
@pytest.mark.parametrize("variant", VARIANTS)
def test_dsrdump_and_tid1500reader_read_the_report(variant, variants, tmp_path):
    path = path_of(variants[variant], Kind.SR)
    said = dsrdump(path)
    assert "Nobody has verified it" in said
    groups = read_report_with_dcmqi(path, tmp_path).get("Measurements", [])
    lesions = {"without findings": 0, "failed": 0}.get(variant, 2)
    assert len(groups) == 2 * lesions + (variant != "failed")


@pytest.mark.peer
@pytest.mark.parametrize("variant", ["with findings", "of frames"])
def test_dsrdump_reads_the_key_images(variant, variants):
    said = dsrdump(path_of(variants[variant], Kind.KOS))
    assert said.startswith("Key Object Selection Document")
    assert said.count('<contains IMAGE:(,,"Source")=') == 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_pydicom_writes_each_object_as_it_read_it(variant, variants, tmp_path):
    for made in variants[variant].objects:
        dataset = dcmread(made.path)
        list(dataset.iterall())  # decoded, so that it is encoded again
        dataset.save_as(tmp_path / "again.dcm", enforce_file_format=True)
        assert (tmp_path / "again.dcm").read_bytes() == made.path.read_bytes()


@pytest.mark.parametrize("variant", ["with findings", "without findings", "failed"])
def test_the_report_without_a_segmentation_conforms_in_every_class(variant, variants, tmp_path):
    original = variants[variant].objects[-1]
    own = replace(original, path=Path(copy(original.path, tmp_path)))
    reduced = make_report_without_segmentation(own)
    forms = [reduced, *(make_older_report(reduced, uid) for uid in OLDER_CLASSES)]
    assert_conforms(replace(variants[variant], objects=tuple(forms)))
    uids = {form.sop_instance_uid for form in (own, *forms)}
    assert len(uids) == len(forms) + 1
    before = reduced.path.read_bytes()
    assert make_report_without_segmentation(own) == reduced
    assert reduced.path.read_bytes() == before


def test_a_second_version_that_names_the_first_conforms(case, result, tmp_path):
    assert_conforms(run(case, tmp_path, configuration_digest="changed", predecessor=result))


@pytest.mark.parametrize("sop_class_uid", OLDER_CLASSES, ids=lambda uid: uid.name)
def test_the_report_conforms_in_an_older_class(sop_class_uid, own_result):
    original = own_result.objects[-1]
    older = make_older_report(original, sop_class_uid)
    assert_conforms(replace(own_result, objects=(older,)))
    assert older.sop_class_uid == dcmread(older.path).SOPClassUID == sop_class_uid
    assert older.sop_instance_uid != original.sop_instance_uid
    before = older.path.read_bytes()
    assert make_older_report(original, sop_class_uid) == older
    assert older.path.read_bytes() == before


def test_a_report_cannot_be_written_in_any_other_class(own_result):
    with pytest.raises(ValueError, match="cannot be written"):
        make_older_report(own_result.objects[-1], BasicTextSRStorage)


def test_a_report_without_other_objects_conforms(case, tmp_path):
    result = run(case, tmp_path, kinds=(Kind.SR,))
    assert [made.kind for made in result.objects] == [Kind.SR]
    assert_conforms(result)


@pytest.mark.parametrize(
    "missing", ["AccessionNumber", "StudyID", "PatientSex", "PatientBirthDate", "StudyTime", "SeriesNumber"]
)
def test_results_conform_when_the_source_lacks(missing, tmp_path):
    assert_conforms(run(make_case(attributes={missing: None}), tmp_path))
