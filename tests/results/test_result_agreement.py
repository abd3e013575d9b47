"""What the objects of one result say of the same lesion agrees: number, name, colour, slice.

Covered: SEG, report, picture and key images of two lesions, on one slice and on different ones, single
frames and frames of one image.
Not covered: which colours a viewer makes of them.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from highdicom.color import CIELabColor

from dicom_node.results.marks import rgb_of
from dicom_node.results.picture import slice_picture
from dicom_node.results.result_set import Kind
from tests.results.result_cases import SHAPE, make_case, read, run
from tests.results.test_report_content import child, groups_of, tracked

PANE, BANNER = 512, 40


def beside_each_other():
    """Two lesions on the same slices, the larger one on the right."""
    probability = np.zeros(SHAPE, np.float32)
    probability[4:8, 8:28, 18:28] = 0.9
    probability[4:8, 12:20, 4:9] = 0.8
    return probability


@pytest.fixture(scope="module", params=[False, True], ids=["single frames", "frames of one image"])
def pair(request, tmp_path_factory):
    """A case whose larger lesion lies elsewhere than most of both, and its result."""
    case = make_case("sagittal", multi_frame=request.param)
    return case, run(case, tmp_path_factory.mktemp("agreement"))


def named(reference):
    return reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber")


def test_segment_and_groups_of_the_report_have_one_number_name_and_uid(pair):
    _, result = pair
    segments = {
        s.SegmentNumber: (s.TrackingID, s.TrackingUID) for s in read(result, Kind.SEG).SegmentSequence
    }
    volumetric = groups_of(read(result, Kind.SR))[:4:2]
    numbers = [
        child(g, "Referenced Segment").ReferencedSOPSequence[0].ReferencedSegmentNumber for g in volumetric
    ]
    assert numbers == [1, 2]
    assert [segments[number] for number in numbers] == [tracked(group) for group in volumetric]
    assert all(name.endswith(f" {number}") for number, (name, _) in segments.items())


def test_picture_and_key_images_show_the_slice_that_the_outline_refers_to(pair):
    _, result = pair
    planar = groups_of(read(result, Kind.SR))[1:4:2]
    outlined = [named(child(g, "Image Region").ContentSequence[0].ReferencedSOPSequence[0]) for g in planar]
    (shown,) = read(result, Kind.SC).SourceImageSequence
    assert named(shown) == outlined[0]
    selected = [
        named(item.ReferencedSOPSequence[0])
        for item in read(result, Kind.KOS).ContentSequence
        if item.ValueType == "IMAGE"
    ]
    assert sorted(selected) == sorted(outlined)


def test_each_outline_in_the_picture_has_the_colour_of_its_segment(tmp_path):
    case = make_case(probability=beside_each_other(), spacing_mm=(4.0, 1.0, 1.0))
    picture = slice_picture(case.volume, case.findings, case.findings.key_slice)
    right = picture[BANNER : BANNER + PANE, PANE:].astype(int)
    pixel = PANE / SHAPE[1]
    margin = (PANE - SHAPE[2] * pixel) / 2
    for segment in read(run(case, tmp_path), Kind.SEG).SegmentSequence:
        colour = CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb(clip=True)
        assert colour == rgb_of(segment.SegmentNumber)
        rows, columns = np.nonzero((np.abs(right - colour) <= 4).all(axis=2))
        mask = case.findings.labels[case.findings.key_slice] == segment.SegmentNumber
        there = np.argwhere(mask)
        (top, left), (bottom, beyond) = there.min(axis=0) * pixel, (there.max(axis=0) + 1) * pixel
        on_line = (rows > top - 4) & (rows < bottom + 4) & (columns > margin + left - 4)
        on_line &= columns < margin + beyond + 4
        assert np.count_nonzero(on_line) > 100
        # else only in its number, upper right of it
        assert (rows[~on_line] < top + 20).all()
        assert (columns[~on_line] > margin + beyond).all()


def test_with_more_lesions_than_colours_neighbours_in_number_differ():
    colours = [rgb_of(number) for number in range(1, 14)]
    assert all(first != second for first, second in pairwise(colours))
    assert colours[0] == (255, 0, 0)
