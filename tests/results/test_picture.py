"""The summary picture shows the slice as it is stored, with square pixels and the right letters.

Covered: orientation of the image, aspect, letters of all directions, where the heatmap is laid,
the outline, the banner, cards of any length.
Not covered: beauty.
"""

from __future__ import annotations

import numpy as np
import pytest

from dicom_node.results.picture import card, direction_letters, png, slice_picture
from dicom_node.series.volume import Contrast, FrameReference, MRVolume
from tests.results.result_cases import (
    ORIENTATIONS,
    SHAPE,
    Case,
    affine_of,
    findings_of,
    make_case,
    two_lesions,
)

PANE = 512
BANNER = 40


def picture_of(case):
    return slice_picture(case.volume, case.findings, case.findings.key_slice)


def panes(picture):
    content = picture[BANNER : BANNER + PANE]
    return content[:, :PANE], content[:, PANE:]


def flat_case(voxels, spacing_mm=(5.0, 1.0, 1.0), probability=None):
    volume = MRVolume(
        voxels.astype(np.float32),
        affine_of("axial", spacing_mm),
        tuple(FrameReference("1.2", f"2.25.{i + 1}", i + 1) for i in range(len(voxels))),
        (),
        Contrast.FLAIR,
    )
    return Case(
        volume,
        findings_of(volume, probability if probability is not None else np.zeros(voxels.shape, np.float32)),
    )


def test_the_first_row_is_at_the_top_and_the_first_column_left():
    voxels = np.zeros((1, 64, 64))
    voxels[0, 8:16, 8:16] = 100
    left, _ = panes(picture_of(flat_case(voxels)))
    assert left[96, 96].min() > 200
    assert left[96, PANE - 96].max() == left[PANE - 96, 96].max() == 0


def test_pixels_are_square_in_mm():
    voxels = np.full((1, 40, 80), 50.0)
    voxels[0, :, :40] = 100
    left, _ = panes(picture_of(flat_case(voxels, (5.0, 4.0, 1.0))))
    bright = np.argwhere(left[:, 60:240].max(axis=2) > 250)
    # 160 mm high and 80 mm wide: the image fills the height, and half of the width
    width = np.count_nonzero(left[100].max(axis=1) > 0)
    assert np.ptp(bright[:, 0]) > 480
    assert width == pytest.approx(128, abs=2)


def test_heat_lies_on_the_right_pane_where_the_probability_is_and_nowhere_else():
    probability = np.zeros((2, 64, 64), np.float32)
    probability[1, 10:20, 40:50] = 1.0
    case = flat_case(np.full((2, 64, 64), 10.0) + np.eye(64), probability=probability)
    left, right = panes(picture_of(case))
    inside, outside = right[15 * 8, 45 * 8].astype(int), right[40 * 8, 20 * 8].astype(int)
    assert inside[0] - inside[2] > 50  # JET is red at 1
    assert np.ptp(outside) == 0
    assert np.ptp(left[15 * 8, 45 * 8].astype(int)) == 0


def test_the_key_slice_is_the_one_with_the_largest_lesion():
    case = make_case()
    assert case.findings.key_slice in range(3, 5)


@pytest.mark.parametrize(
    ("direction", "letters"),
    [
        ((1, 0, 0), "L"),
        ((-1, 0, 0), "R"),
        ((0, 1, 0), "P"),
        ((0, -1, 0), "A"),
        ((0, 0, 1), "H"),
        ((0, 0, -2), "F"),
        ((0.8, 0.6, 0), "LP"),
        ((0.95, 0.31, 0), "L"),
        ((0.6, 0, -0.8), "FL"),
    ],
)
def test_directions_have_the_letters_of_the_standard(direction, letters):
    assert direction_letters(np.array(direction)) == letters


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_picture_is_made_for_every_orientation(orientation):
    case = make_case(orientation, probability=two_lesions())
    picture = picture_of(case)
    assert picture.shape == (616, 1024, 3)
    assert picture.dtype == np.uint8
    assert case.volume.shape == SHAPE


def test_a_constant_slice_does_no_harm():
    case = flat_case(np.full((1, 16, 16), 7.0))
    assert picture_of(case).any()


def test_a_card_grows_with_its_text_and_keeps_the_banner():
    short, long = card("Failed", ["A cause."]), card("Failed", ["A long sentence. " * 200])
    assert long.shape[0] > short.shape[0]
    assert long.shape[1] == short.shape[1]
    assert (short[:BANNER] == long[:BANNER]).all()
    assert short[:BANNER].max() > 200


def test_empty_paragraphs_take_no_room():
    assert (card("Failed", ["A cause.", ""]) == card("Failed", ["A cause."])).all()


def test_png_bytes_are_the_same_for_the_same_picture():
    case = make_case()
    first, second = (png(picture_of(case)) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG")
