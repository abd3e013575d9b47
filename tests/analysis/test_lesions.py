"""Separating and measuring lesions on masks whose measures can be calculated.

Not covered: where probabilities come from (test_analyse) and how measures are reported (results).
"""

from __future__ import annotations

import numpy as np
import pytest

from dicom_node.analysis.lesions import find_lesions, measure_axes
from dicom_node.series.volume import Contrast, FrameReference, MRVolume
from tests.support.spot import affine_of, image_spot


def volume_of(affine: np.ndarray, shape: tuple[int, int, int]) -> MRVolume:
    frames = tuple(FrameReference("1", f"1.{k}") for k in range(shape[0]))
    return MRVolume(np.zeros(shape, np.float32), affine, frames, (), Contrast.FLAIR)


def test_a_ball_has_the_volume_the_centre_and_the_axes_of_a_ball() -> None:
    shape, spacing = (40, 64, 64), (1.0, 1.0, 1.0)
    spot = image_spot(
        affine_of(shape=shape, spacing_mm=spacing), shape=shape, centre_mm=(5, -6, 3), radius_mm=10
    )
    labels, (lesion,) = find_lesions(volume_of(spot.affine, shape), spot.mask.astype(np.float32), 0.5, 0.1)
    np.testing.assert_array_equal(labels == 1, spot.mask)
    assert lesion.volume_ml == pytest.approx(spot.volume_ml)
    assert lesion.volume_ml == pytest.approx(4 / 3 * np.pi, rel=0.02)
    np.testing.assert_allclose(lesion.centroid_mm, spot.centroid_mm, atol=1e-9)
    assert lesion.long_axis.length_mm == pytest.approx(20, abs=1.1)
    assert lesion.perpendicular_axis.length_mm == pytest.approx(20, abs=1.1)
    assert lesion.slices[0] < lesion.largest_slice < lesion.slices[1]


def test_a_rectangle_of_pixels_is_as_long_as_its_pixels() -> None:
    mask = np.zeros((40, 40), bool)
    mask[10:12, 5:35] = True
    long_axis, perpendicular = measure_axes(mask, row_mm=2.0, column_mm=0.5)
    assert long_axis.length_mm == pytest.approx(np.hypot(15, 2), abs=0.2)
    assert perpendicular.length_mm == pytest.approx(4, abs=0.4)


def test_axes_are_square_to_each_other_and_lie_on_the_region() -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        mask = np.zeros((50, 60), bool)
        row, column = random.uniform(15, 35, 2)
        y, x = np.mgrid[:50, :60]
        a, b, angle = random.uniform(3, 14), random.uniform(2, 9), random.uniform(0, np.pi)
        u = (y - row) * np.cos(angle) + (x - column) * np.sin(angle)
        v = -(y - row) * np.sin(angle) + (x - column) * np.cos(angle)
        mask[(u / a) ** 2 + (v / b) ** 2 <= 1] = True
        long_axis, perpendicular = measure_axes(mask, 0.8, 0.8)
        along = np.subtract(long_axis.end, long_axis.start)
        across = np.subtract(perpendicular.end, perpendicular.start)
        assert abs(along @ across) < 1e-3 * np.linalg.norm(along) * np.linalg.norm(across)
        assert long_axis.length_mm == pytest.approx(2 * 0.8 * max(a, b), abs=1.6)
        assert perpendicular.length_mm <= long_axis.length_mm + 1e-6


def test_a_single_voxel_has_the_size_of_a_voxel() -> None:
    labels, (lesion,) = find_lesions(
        volume_of(affine_of(shape=(5, 9, 9)), (5, 9, 9)), _points((5, 9, 9), (2, 4, 4)), 0.5, 0.0
    )
    assert labels.sum() == 1
    assert lesion.volume_ml == pytest.approx(4 * 1.5 * 1.5 / 1000)
    assert lesion.long_axis.length_mm == pytest.approx(1.5)
    assert lesion.perpendicular_axis.length_mm == pytest.approx(1.5)


def test_regions_that_touch_at_a_corner_are_one_and_others_are_numbered_by_size() -> None:
    shape = (6, 12, 12)
    probability = _points(shape, (1, 2, 2), (2, 3, 3), (4, 9, 9))
    labels, lesions = find_lesions(volume_of(affine_of(shape=shape), shape), probability, 0.5, 0.0)
    assert [lesion.number for lesion in lesions] == [1, 2]
    assert labels[1, 2, 2] == labels[2, 3, 3] == 1
    assert labels[4, 9, 9] == 2


def test_regions_below_the_smallest_volume_are_dropped() -> None:
    shape = (6, 12, 12)
    labels, lesions = find_lesions(
        volume_of(affine_of(shape=shape), shape), _points(shape, (1, 2, 2)), 0.5, 0.1
    )
    assert not lesions
    assert not labels.any()


def test_a_region_lies_on_a_wanted_slice_or_reaches_one() -> None:
    shape = (6, 12, 12)
    probability = _points(shape, (1, 2, 2), (2, 3, 3), (2, 9, 9), (4, 9, 9))
    wanted = np.arange(6) == 1
    labels, lesions = find_lesions(volume_of(affine_of(shape=shape), shape), probability, 0.5, 0.0, wanted)
    assert [lesion.slices for lesion in lesions] == [(1, 2)]
    assert labels.sum() == 2


def _points(shape: tuple[int, int, int], *at: tuple[int, int, int]) -> np.ndarray:
    probability = np.zeros(shape, np.float32)
    for point in at:
        probability[point] = 0.9
    return probability
