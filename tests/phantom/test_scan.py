"""The phantom as a series: each contrast and plane is read as what it is, with its lesion where it says.

The bundle sees bright spots only, so it finds the lesion, and the scalp too. How the shipped bundles
do on these heads: tests/training/test_shipped_bundles.py. Not covered: what a scanner would write besides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_node.analysis.analyse import analyse
from dicom_node.analysis.bundle import load_bundle
from dicom_node.phantom.brain import brain_phantom
from dicom_node.phantom.cut import cut_head
from dicom_node.phantom.mr_series import write_series
from dicom_node.phantom.scan import scan_phantom
from dicom_node.series.read import read_volume
from dicom_node.series.selection import Outcome, select
from dicom_node.series.volume import Contrast, Plane
from dicom_node.settings import Match, Pipeline
from tests.support.bundles import write_spot_bundle
from tests.support.frames import read_frames


def _selected(scan, folder: Path, contrast: Contrast, plane: Plane):
    pipeline = Pipeline(name="one", bundle="one", match=Match(contrasts=(contrast,)))
    return select(read_frames(write_series(scan.datasets, folder)), [pipeline], {"one": (plane,)})


@pytest.mark.parametrize("plane", Plane)
def test_a_t1ce_head_goes_through_the_analysis_to_its_known_lesion(plane: Plane, tmp_path: Path) -> None:
    scan = scan_phantom(contrast="T1CE", plane=plane)
    chosen = _selected(scan, tmp_path / "series", Contrast.T1CE, plane)
    assert chosen.outcome is Outcome.CHOSEN, chosen.reason
    assert chosen.stack is not None
    assert chosen.stack.remarks == ()
    volume = read_volume(chosen.stack, chosen.contrast)
    folder = write_spot_bundle(tmp_path / "spot", contrasts=("T1CE",), planes=(plane.value,))
    bundle = load_bundle(folder, "cpu")
    marked = analyse(volume, bundle, minimum_lesion_ml=0.5).labels > 0
    slices, rows, columns = np.nonzero(scan.cut.lesion)
    known_mm = scan.cut.affine @ np.stack([columns, rows, slices, np.ones_like(rows)])
    column, row, slice_ = np.rint(np.linalg.solve(volume.affine, known_mm)[:3]).astype(int)
    assert marked[slice_, row, column].mean() > 0.7  # mostly a bright rim, and it may touch the scalp


def test_a_flair_head_is_flair_and_no_t1ce(tmp_path: Path) -> None:
    scan = scan_phantom()
    assert _selected(scan, tmp_path / "a", Contrast.FLAIR, Plane.AXIAL).outcome is Outcome.CHOSEN
    other = _selected(scan, tmp_path / "b", Contrast.T1CE, Plane.AXIAL)
    assert other.outcome is Outcome.SKIPPED
    assert "contrast is FLAIR, it takes T1CE" in other.reason


def test_one_head_has_its_lesion_at_one_place_in_every_plane() -> None:
    axial, coronal, sagittal = (cut_head(0, plane, contrast="T1CE").of_the_head() for plane in Plane)
    assert coronal.voxels.shape[1:] == sagittal.voxels.shape[1:] == (128, 176)
    for cut in (axial, coronal, sagittal):
        row, column, normal = cut.affine[:3, :3].T
        assert np.cross(row, column) @ normal > 0
        np.testing.assert_allclose(cut.lesion_centre_mm, axial.lesion_centre_mm, atol=1.5)
        assert cut.lesion_ml == pytest.approx(axial.lesion_ml, rel=0.1)


def test_slices_before_and_behind_the_head_are_left_out() -> None:
    whole = cut_head(0, Plane.SAGITTAL, contrast="T1CE")
    part = whole.of_the_head()
    assert 10 < len(part.voxels) < len(whole.voxels)
    assert part.lesion.sum() == whole.lesion.sum()
    np.testing.assert_allclose(part.lesion_centre_mm, whole.lesion_centre_mm)


def test_the_axial_series_is_the_phantom_itself() -> None:
    scan, phantom = scan_phantom(1), brain_phantom(1)
    stored = np.stack([dataset.pixel_array for dataset in scan.datasets])
    np.testing.assert_array_equal(stored, np.rint(phantom.voxels))
    assert scan.cut.lesion_ml == pytest.approx(phantom.volume_ml)


def test_series_of_one_head_are_of_one_study_with_numbers_of_their_own() -> None:
    datasets = [
        scan_phantom(contrast=contrast, plane=plane).datasets[0]
        for contrast, plane in (("FLAIR", Plane.AXIAL), ("T1CE", Plane.AXIAL), ("T1CE", Plane.SAGITTAL))
    ]
    assert len({dataset.StudyInstanceUID for dataset in datasets}) == 1
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 3
    assert len({dataset.SeriesNumber for dataset in datasets}) == 3
    assert [d.SeriesDescription for d in datasets] == [
        "AX FLAIR phantom",
        "AX T1 SE +C phantom",
        "SAG T1 SE +C phantom",
    ]
