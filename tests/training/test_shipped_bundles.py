"""The bundles in ``models/``: they load, prove themselves and find a lesion whose place is known.

The heads are synthetic ones that no training saw, in each contrast and plane that the bundle reads. How
the bundles do on patients is measured by ``python -m training evaluate`` and stands in their cards; it is
not repeated here.
"""

from functools import lru_cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from dicom_node.analysis.analyse import analyse
from dicom_node.analysis.bundle import Bundle, load_bundle
from dicom_node.analysis.manifest import FILE_NAME, read_manifest
from dicom_node.phantom.brain import PhantomContrast
from dicom_node.phantom.cut import Cut, cut_head
from dicom_node.series.volume import Contrast, MRVolume, Plane

MODELS = Path(__file__).parents[2] / "models"
# each is examined; an alternative need not be among them
SHIPPED = ["flair-glioma", "t1ce-tumour"]
VOLUME_TOLERANCE = {"flair-glioma": 0.3, "t1ce-tumour": 0.4}  # it marks the soft border generously
HELD_OUT = {Plane.AXIAL: (0, 2, 7, 11), Plane.CORONAL: (0, 7), Plane.SAGITTAL: (0, 7)}


def examinations() -> list[object]:
    """Give bundle, contrast, plane and seed; a head that is cut in two planes comes twice in a row."""
    made = []
    for name in SHIPPED:
        manifest = read_manifest(MODELS / name)
        wanted = [(c, s, p) for c in manifest.contrasts for p in manifest.planes for s in HELD_OUT[p]]
        for contrast, seed, plane in sorted(wanted, key=lambda each: (each[0], each[1])):
            words = f"{name}-{contrast}-{plane}-{seed}".lower()
            made.append(pytest.param(name, contrast, plane, seed, id=words))
    return made


@lru_cache(maxsize=1)
def bundle_of(name: str) -> Bundle:
    return load_bundle(MODELS / name, "cpu")


def volume_of(cut: Cut, contrast: Contrast) -> MRVolume:
    return MRVolume(cut.voxels, cut.affine, frames=(), headers=(), contrast=contrast)


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in MODELS.glob(f"*/{FILE_NAME}")), ids=lambda folder: folder.name
)
def test_a_bundle_proves_itself_and_comes_with_card_and_licence(folder: Path) -> None:
    bundle = load_bundle(folder, "cpu")
    assert bundle.manifest.figures
    assert (folder / "CARD.md").stat().st_size > 1000
    assert bundle.manifest.origin.licence in (folder / "LICENSE").read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_bundle_reads_contrasts_of_which_there_are_phantoms(name: str) -> None:
    assert set(read_manifest(MODELS / name).contrasts) <= set(get_args(PhantomContrast))


@pytest.mark.parametrize(("name", "contrast", "plane", "seed"), examinations())
def test_a_bundle_finds_the_lesion_of_a_head_it_has_not_seen_and_no_other(
    name: str, contrast: PhantomContrast, plane: Plane, seed: int
) -> None:
    cut = cut_head(seed, plane, contrast=contrast).of_the_head()
    findings = analyse(volume_of(cut, Contrast(contrast)), bundle_of(name), minimum_lesion_ml=0.5)
    (lesion,) = findings.lesions
    assert np.linalg.norm(np.array(lesion.centroid_mm) - cut.lesion_centre_mm) < 5
    assert lesion.volume_ml == pytest.approx(cut.lesion_ml, rel=VOLUME_TOLERANCE[name])


@pytest.mark.parametrize(("name", "contrast", "plane", "seed"), examinations())
def test_a_bundle_finds_nothing_in_a_healthy_head(
    name: str, contrast: PhantomContrast, plane: Plane, seed: int
) -> None:
    cut = cut_head(seed, plane, contrast=contrast, lesion=False).of_the_head()
    findings = analyse(volume_of(cut, Contrast(contrast)), bundle_of(name), minimum_lesion_ml=0.5)
    assert not findings.lesions
