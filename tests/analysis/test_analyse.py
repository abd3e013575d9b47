"""A volume through a bundle: places survive turning, resizing and thresholding.

The bundle sees bright spots, so the right answer is known in every orientation.
Not covered: the shipped weights (tests/test_shipped_bundles.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.analysis.analyse import analyse, describe
from dicom_node.analysis.bundle import Bundle, load_bundle
from dicom_node.analysis.manifest import Calibration
from dicom_node.series.geometry import order_stack
from dicom_node.series.read import read_volume
from dicom_node.series.volume import Contrast, MRVolume
from tests.series.test_geometry import ORIENTATIONS
from tests.support.frames import read_frames
from tests.support.spot import Spot, affine_of, image_spot


@pytest.fixture(scope="module")
def bundle(spot_models: Path) -> Bundle:
    return load_bundle(spot_models / "spot", "cpu")


def volume_of(spot: Spot, series_of: Callable[..., list[Path]]) -> MRVolume:
    return read_volume(order_stack(read_frames(series_of(spot))), Contrast.FLAIR)


@pytest.mark.parametrize("spacing_mm", [(4.0, 1.5, 1.5), (4.0, 2.0, 1.0)], ids=["square", "oblong"])
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_lesion_is_where_the_spot_is(
    name: str, spacing_mm: tuple[float, float, float], bundle: Bundle, series_of: Callable
) -> None:
    row, column = (np.array(v, float) for v in ORIENTATIONS[name])
    column = column - row * (row @ column) / (row @ row)
    spot = image_spot(affine_of(tuple(row), tuple(column), spacing_mm=spacing_mm))
    findings = analyse(volume_of(spot, series_of), bundle)
    (lesion,) = findings.lesions
    assert np.linalg.norm(np.array(lesion.centroid_mm) - spot.centroid_mm) < 0.75
    assert lesion.volume_ml == pytest.approx(spot.volume_ml, rel=0.1)
    shared = (findings.labels > 0) & spot.mask
    assert 2 * shared.sum() / ((findings.labels > 0).sum() + spot.mask.sum()) > 0.95


def test_only_positive_slices_and_their_neighbours_are_segmented_unless_all_are_wanted(
    bundle: Bundle, series_of: Callable
) -> None:
    spot = image_spot()
    volume = volume_of(spot, series_of)
    few = analyse(volume, bundle)
    inside = np.flatnonzero(spot.mask.any(axis=(1, 2)))
    np.testing.assert_array_equal(np.flatnonzero(few.slice_positive), inside)
    np.testing.assert_array_equal(np.flatnonzero(few.segmented), np.r_[inside[0] - 1 : inside[-1] + 2])
    every = analyse(volume, bundle, segment="all")
    assert every.segmented.all()
    np.testing.assert_array_equal(every.labels, few.labels)


def test_a_region_below_the_smallest_volume_is_no_finding(bundle: Bundle, series_of: Callable) -> None:
    spot = image_spot()
    findings = analyse(volume_of(spot, series_of), bundle, minimum_lesion_ml=2 * spot.volume_ml)
    assert not findings.lesions
    assert not findings.labels.any()
    assert findings.slice_positive.any()


def test_the_same_volume_gives_the_same_findings(bundle: Bundle, series_of: Callable) -> None:
    volume = volume_of(image_spot(), series_of)
    first, second = analyse(volume, bundle), analyse(volume, bundle)
    np.testing.assert_array_equal(first.probability, second.probability)
    assert first.lesions == second.lesions
    assert first.algorithm == second.algorithm


@pytest.mark.parametrize(
    "changed",
    [{"threshold": 0.500001}, {"calibration": Calibration(slope=0.9)}, {"channels": "neighbours"}],
    ids=str,
)
@pytest.mark.parametrize("network", ["detector", "segmenter"])
def test_whatever_of_the_manifest_decides_an_outcome_is_told_apart(
    network: str, changed: dict[str, object], bundle: Bundle
) -> None:
    other = getattr(bundle.manifest, network).model_copy(update=changed)
    manifest = bundle.manifest.model_copy(update={network: other})
    usual = describe(bundle, segment="positive", minimum_lesion_ml=0.1)
    assert describe(replace(bundle, manifest=manifest), segment="positive", minimum_lesion_ml=0.1) != usual
    words = bundle.manifest.model_copy(update={"limitations": "Others.", "figures": {"dice": 0.5}})
    assert describe(replace(bundle, manifest=words), segment="positive", minimum_lesion_ml=0.1) == usual
