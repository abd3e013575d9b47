"""``prepare dicom``: the values of an image survive their way into 16 bits, as the network sees them.

Not covered: where they lie (``test_prepare_dicom_place.py``).
"""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from dicom_node.phantom.mr_series import Storage
from dicom_node.series.normalisation import PercentileRule, normalise
from tests.training.labelled import cases_in, read_png, scanned, write_scan
from tests.training.segmentations import (
    node_segmentation,
    prepared,
)
from training.prepare.sixteen_bits import to_16_bits


def test_values_below_zero_are_raised_and_the_network_sees_the_same(tmp_path):
    scan = scanned()
    shifted = replace(scan, voxels=scan.voxels - 300, seen=scan.seen - 300)
    paths = write_scan(shifted, tmp_path / "in", storage=Storage(signed=True))
    node_segmentation(scan, paths, tmp_path / "in")
    done = prepared(tmp_path / "in", tmp_path / "out")
    assert any("below 0" in remark for remark in done.remarks)
    with (tmp_path / "out" / "index.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    (case,) = cases_in(tmp_path / "out")
    np.testing.assert_array_equal(case.voxels * float(row["scale"]) + float(row["offset"]), shifted.seen)
    np.testing.assert_allclose(
        normalise(case.voxels, PercentileRule()), normalise(shifted.seen, PercentileRule()), atol=1e-6
    )
    image, mask = read_png(tmp_path / "out" / row["image"]), tmp_path / "out" / row["mask"]
    assert image.dtype == np.uint16
    assert mask.read_bytes()[24:26] == b"\x01\x00"  # bit depth 1, grey


@pytest.mark.parametrize(
    ("slope", "low", "exact"), [(1.0, 0, True), (0.37, -12.5, True), (2.0, -8192, True), (7.3, 400.0, True)]
)
def test_what_is_whole_after_the_slope_is_kept_to_the_last_bit(slope, low, exact):
    stored = np.random.default_rng(0).integers(0, 4096, (3, 8, 8))
    voxels = (stored * slope + low).astype(np.float32)
    pixels, scale, offset, told = to_16_bits(voxels, slope)
    assert told is exact
    np.testing.assert_allclose(pixels * scale + offset, voxels, atol=slope * 0.02)


def test_what_is_not_whole_is_rounded_to_a_65535th_and_said(tmp_path):
    voxels = np.random.default_rng(0).normal(0, 1000, (3, 8, 8)).astype(np.float32)
    pixels, scale, offset, exact = to_16_bits(voxels)
    assert not exact
    assert np.abs(pixels * scale + offset - voxels).max() <= np.ptp(voxels) / 65535 / 2 * 1.01
