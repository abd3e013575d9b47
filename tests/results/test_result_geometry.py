"""A lesion at a known place lies there in the SEG and in the report, for every orientation.

Covered: centroid, voxel count and volume of each segment as dcmqi reads them back, which
shares no code with us; the digits of positions and orientations; sources in any order of
files and frames; gaps between lesions; the outline of a lesion; each value of the probability map.
Not covered: registration to other series; gaps and slices that are not parallel, which the series
station refuses (tests/series/test_geometry.py; tests/workflow/test_bad_input.py for the report of it).
"""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import DataElement

from dicom_node.results.measurements import outline
from dicom_node.results.result_set import Kind
from tests.results.result_cases import (
    ORIENTATIONS,
    SHAPE,
    make_case,
    path_of,
    read,
    read_map_with_dcmqi,
    read_report_with_dcmqi,
    read_with_dcmqi,
    run,
)


def assert_same_place(case, result, tmp_path):
    found = read_with_dcmqi(path_of(result, Kind.SEG), tmp_path / "dcmqi")
    assert sorted(found) == [lesion.number for lesion in case.findings.lesions]
    for lesion in case.findings.lesions:
        count, centroid_mm, volume_ml = found[lesion.number]
        assert count == np.count_nonzero(case.findings.labels == lesion.number)
        assert centroid_mm == pytest.approx(lesion.centroid_mm, abs=1e-3)
        assert volume_ml == pytest.approx(lesion.volume_ml, rel=1e-4)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_dcmqi_finds_each_lesion_where_it_is_when_the_series_is(orientation, tmp_path):
    case = make_case(orientation)
    assert_same_place(case, run(case, tmp_path / "result"), tmp_path)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_dcmqi_reads_each_probability_of_the_map_at_its_place_when_the_series_is(orientation, tmp_path):
    case = make_case(orientation)
    assert_same_map(case, run(case, tmp_path / "result"), tmp_path)


@pytest.mark.parametrize("options", [{"reversed_order": True}, {"multi_frame": True}], ids=str)
def test_dcmqi_reads_the_map_of_a_source_in_any_order(options, tmp_path):
    case = make_case("oblique", spacing_mm=(2.5, 0.7, 1.3), **options)
    assert_same_map(case, run(case, tmp_path / "result"), tmp_path)


def assert_same_map(case, result, tmp_path):
    values, affine = read_map_with_dcmqi(path_of(result, Kind.PM), tmp_path / "map")
    assert values.shape[2] == len(case.findings.segmented)
    indices = np.argwhere(values > 0)
    assert len(indices) == np.count_nonzero(case.findings.probability)
    points = indices @ affine[:3, :3].T + affine[:3, 3]
    to_voxels = np.linalg.inv(case.volume.affine)
    column, row, slice_ = np.rint(points @ to_voxels[:3, :3].T + to_voxels[:3, 3]).astype(int).T
    back = np.stack([column, row, slice_], axis=1) @ case.volume.affine[:3, :3].T + case.volume.affine[:3, 3]
    assert points == pytest.approx(back, abs=1e-3)
    assert (case.findings.probability[slice_, row, column] == values[tuple(indices.T)]).all()


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (6.5, 0.4297, 0.4297), (0.7, 2.0, 0.5)])
def test_dcmqi_finds_each_lesion_with_spacing(spacing_mm, tmp_path):
    case = make_case("sagittal", spacing_mm=spacing_mm)
    assert_same_place(case, run(case, tmp_path / "result"), tmp_path)


@pytest.mark.parametrize("options", [{"reversed_order": True}, {"shuffled_numbers": True}], ids=str)
def test_the_order_and_numbers_of_the_source_files_do_not_matter(options, tmp_path):
    case = make_case("coronal", **options)
    assert_same_place(case, run(case, tmp_path / "result"), tmp_path)


@pytest.mark.parametrize("orientation", ["axial", "oblique"])
def test_frames_of_a_multi_frame_source_may_come_in_any_order(orientation, tmp_path):
    case = make_case(orientation, multi_frame=True)
    result = run(case, tmp_path / "result")
    assert_same_place(case, result, tmp_path)
    sources = [
        groups.DerivationImageSequence[0].SourceImageSequence[0]
        for groups in read(result, Kind.SEG).PerFrameFunctionalGroupsSequence
        if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1
    ]
    assert {s.ReferencedSOPInstanceUID for s in sources} == {case.volume.headers[0].SOPInstanceUID}
    # the first lesion is on slices 3 to 6; frames count from 1 and run the other way
    assert {s.ReferencedFrameNumber for s in sources} == {SHAPE[0] - index for index in range(3, 7)}


def test_a_lesion_on_one_slice_keeps_its_volume(tmp_path):
    probability = np.zeros(SHAPE, np.float32)
    probability[7, 10:14, 20:23] = 0.9
    case = make_case(probability=probability)
    assert_same_place(case, run(case, tmp_path / "result"), tmp_path)


def test_a_lesion_on_the_first_and_last_slice_is_kept(tmp_path):
    probability = np.zeros(SHAPE, np.float32)
    probability[0, 0:3, 0:2] = 0.9
    probability[-1, -3:, -5:] = 0.9
    case = make_case("negative row", probability=probability)
    assert_same_place(case, run(case, tmp_path / "result"), tmp_path)


def test_positions_and_orientation_have_the_digits_of_the_source(tmp_path):
    case = make_case("oblique")
    segmentation = read(run(case, tmp_path), Kind.SEG)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    header = case.volume.headers[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == header.ImageOrientationPatient
    assert shared.PixelMeasuresSequence[0].PixelSpacing == header.PixelSpacing
    assert segmentation.FrameOfReferenceUID == header.FrameOfReferenceUID
    assert (segmentation.Rows, segmentation.Columns) == (header.Rows, header.Columns)
    by_uid = {h.SOPInstanceUID: h for h in case.volume.headers}
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        source = by_uid[groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert groups.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient


@pytest.mark.parametrize("thickness", [None, "", "0", "-3", ["3", "3"], "thick", "nan", "1e400"])
def test_a_thickness_that_is_none_is_the_distance_between_slices(thickness, tmp_path):
    case = make_case()
    for header in case.volume.headers:
        header.pop("SliceThickness", None)
        if thickness is not None:
            header.add(DataElement("SliceThickness", "LO", thickness, already_converted=True))
    made = read(run(case, tmp_path, kinds=(Kind.SEG,)), Kind.SEG)
    stated = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness
    assert stated == (3.0 if isinstance(thickness, list) else 5.0)


def test_orientation_that_jitters_between_slices_gives_one_orientation(tmp_path):
    case = make_case("oblique")
    for index, header in enumerate(case.volume.headers):
        jittered = [float(x) + 1e-5 * (index % 2) for x in header.ImageOrientationPatient]
        header.ImageOrientationPatient = [f"{x:.9f}" for x in jittered]
    assert_same_place(case, run(case, tmp_path / "result"), tmp_path)


def test_empty_frames_are_left_out(case, result):
    labels = case.findings.labels
    expected = sum(int((labels == n).any(axis=(1, 2)).sum()) for n in (1, 2))
    assert read(result, Kind.SEG).NumberOfFrames == expected


def test_dcmqi_reads_the_volumes_from_the_report(case, result, tmp_path):
    groups = read_report_with_dcmqi(path_of(result, Kind.SR), tmp_path)["Measurements"]
    volumes = {
        group["ReferencedSegment"]: float(item["value"])
        for group in groups
        if "ReferencedSegment" in group
        for item in group["measurementItems"]
        if item["quantity"]["CodeMeaning"] == "Volume"
    }
    expected = {lesion.number: lesion.volume_ml for lesion in case.findings.lesions}
    assert volumes == pytest.approx(expected, abs=1e-4)


def test_the_outline_runs_along_the_pixels_edges():
    mask = np.zeros((9, 12), bool)
    mask[2:5, 3:10] = True
    points = outline(mask)
    assert (points[0] == points[-1]).all()
    assert points.min(axis=0) == pytest.approx([3, 2], abs=0.2)
    assert points.max(axis=0) == pytest.approx([10, 5], abs=0.2)


def test_the_outline_of_a_single_pixel_has_an_area():
    mask = np.zeros((5, 5), bool)
    mask[2, 3] = True
    points = outline(mask)
    assert points.mean(axis=0) == pytest.approx([3.5, 2.5], abs=0.2)
    assert len(np.unique(points, axis=0)) >= 3
