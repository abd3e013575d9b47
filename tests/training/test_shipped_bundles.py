"""The bundles in ``models/``: they load, prove themselves and find a lesion whose place is known.

The heads are synthetic ones that no training saw. How the bundles do on patients is measured by
``python -m training evaluate`` and stands in their cards; it is not repeated here.
"""

from pathlib import Path

import numpy as np
import pytest

from dicom_node.analysis.analyse import analyse
from dicom_node.analysis.bundle import load_bundle
from dicom_node.phantom.brain import brain_phantom
from dicom_node.series.volume import Contrast, MRVolume

MODELS = Path(__file__).parents[2] / "models"
HELD_OUT = (0, 2, 7, 11)


def volume_of(phantom):
    slice_mm, row_mm, column_mm = phantom.spacing_mm
    affine = np.diag([column_mm, row_mm, slice_mm, 1.0])
    return MRVolume(phantom.voxels, affine, frames=(), headers=(), contrast=Contrast.FLAIR)


@pytest.fixture(scope="module")
def flair_glioma():
    return load_bundle(MODELS / "flair-glioma", "cpu")


@pytest.mark.parametrize("folder", sorted(MODELS.glob("*/")), ids=lambda folder: folder.name)
def test_a_bundle_proves_itself_and_comes_with_card_and_licence(folder):
    bundle = load_bundle(folder, "cpu")
    assert bundle.manifest.figures
    assert (folder / "CARD.md").stat().st_size > 1000
    assert bundle.manifest.origin.licence in (folder / "LICENSE").read_text()


@pytest.mark.parametrize("seed", HELD_OUT)
def test_flair_glioma_finds_the_lesion_of_a_head_it_has_not_seen_and_no_other(flair_glioma, seed):
    phantom = brain_phantom(seed)
    findings = analyse(volume_of(phantom), flair_glioma, minimum_lesion_ml=0.5)
    (lesion,) = findings.lesions
    found = np.argwhere(findings.labels == 1).mean(axis=0)
    distance_mm = np.linalg.norm((found - phantom.centre) * phantom.spacing_mm)
    assert distance_mm < 5
    assert lesion.volume_ml == pytest.approx(phantom.volume_ml, rel=0.3)


@pytest.mark.parametrize("seed", HELD_OUT)
def test_flair_glioma_finds_nothing_in_a_healthy_head(flair_glioma, seed):
    findings = analyse(volume_of(brain_phantom(seed, lesion=False)), flair_glioma, minimum_lesion_ml=0.5)
    assert not findings.lesions
