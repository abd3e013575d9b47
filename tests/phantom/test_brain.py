"""The synthetic head: repeatable, placed as it says, and honest about its lesion.

Not covered: whether it looks like a head (people judge that) and how networks answer to it
(the bundles' tests do).
"""

import hashlib

import numpy as np
import pytest

from dicom_node.phantom.brain import brain_phantom


def test_the_same_seed_gives_the_same_head_and_another_seed_another():
    first, again, other = brain_phantom(3), brain_phantom(3), brain_phantom(4)
    np.testing.assert_array_equal(first.voxels, again.voxels)
    np.testing.assert_array_equal(first.lesion, again.lesion)
    assert np.abs(first.voxels - other.voxels).max() > 100


def test_the_flair_head_of_the_self_test_is_the_one_it_always_was():
    """Bundles' references and published figures were made with it.

    The last bits of a voxel differ between processors: 79 units is the step at which no voxel of
    the sample lies near a border, and the mean notices what the step does not.
    """
    phantom = brain_phantom(0)
    coarse = np.rint(phantom.voxels[::4, ::8, ::8].astype(float) / 79).astype(np.uint8)
    digest = hashlib.sha256(coarse.tobytes()).hexdigest()
    assert digest == "f7026d83e5436038b1a272b1a05faa678d5b81ed369cb2cd3edbc4809635fa48"
    assert phantom.voxels.mean(dtype=float) == pytest.approx(140.70038, rel=1e-6)
    assert phantom.voxels[phantom.lesion].mean(dtype=float) == pytest.approx(825.68187, rel=1e-6)
    assert phantom.lesion.sum() == 5425


def test_voxels_are_finite_and_not_negative_and_fill_the_shape():
    phantom = brain_phantom(0)
    assert phantom.voxels.shape == phantom.lesion.shape == (24, 256, 256)
    assert phantom.voxels.dtype == np.float32
    assert phantom.lesion.dtype == bool
    assert np.isfinite(phantom.voxels).all()
    assert phantom.voxels.min() >= 0


def test_air_around_the_head_is_dark_and_the_lesion_is_brighter_than_the_brain():
    phantom = brain_phantom(0)
    middle = phantom.voxels[12]
    tissue = np.median(middle[100:156, 100:156])
    assert middle[:10, :10].mean() < 0.1 * tissue
    assert phantom.voxels[phantom.lesion].mean() > 1.4 * tissue


@pytest.mark.parametrize("seed", [0, 1, 2, 5, 8])
def test_centre_and_volume_are_those_of_the_mask(seed):
    phantom = brain_phantom(seed)
    np.testing.assert_allclose(phantom.centre, np.argwhere(phantom.lesion).mean(axis=0))
    voxel_ml = np.prod(phantom.spacing_mm) / 1000
    assert phantom.volume_ml == pytest.approx(phantom.lesion.sum() * voxel_ml)
    assert 2 < phantom.volume_ml < 80


@pytest.mark.parametrize("seed", range(6))
def test_the_lesion_lies_on_one_side_of_the_midline(seed):
    phantom = brain_phantom(seed)
    columns = np.flatnonzero(phantom.lesion.any(axis=(0, 1)))
    assert columns.max() < 128 or columns.min() > 127


@pytest.mark.parametrize("seed", range(6))
def test_there_is_one_lesion_in_one_piece(seed):
    from scipy import ndimage

    _, count = ndimage.label(brain_phantom(seed).lesion, np.ones((3, 3, 3)))
    assert count == 1


def test_without_a_lesion_the_rest_of_the_head_is_the_same():
    ill, well = brain_phantom(7), brain_phantom(7, lesion=False)
    assert well.centre is None
    assert well.volume_ml == 0
    assert not well.lesion.any()
    far = np.ones(ill.lesion.shape, bool)
    first, last = np.flatnonzero(ill.lesion.any(axis=(1, 2)))[[0, -1]]
    far[first - 4 : last + 5] = False
    np.testing.assert_allclose(ill.voxels[far], well.voxels[far], rtol=1e-3, atol=1e-2)


def test_another_sampling_shows_the_same_lesion_in_the_same_place():
    coarse = brain_phantom(2)
    fine = brain_phantom(2, shape=(40, 320, 300), spacing_mm=(3.0, 0.7, 0.75))

    def centre_mm(phantom):
        middle = (np.array(phantom.lesion.shape) - 1) / 2
        return (np.array(phantom.centre) - middle) * phantom.spacing_mm

    np.testing.assert_allclose(centre_mm(coarse), centre_mm(fine), atol=1.0)
    assert fine.volume_ml == pytest.approx(coarse.volume_ml, rel=0.05)


def test_noise_can_be_set():
    corner = (slice(None), slice(0, 12), slice(0, 12))
    quiet, loud = brain_phantom(0, noise=0.002), brain_phantom(0, noise=0.05)
    assert loud.voxels[corner].mean() > 10 * quiet.voxels[corner].mean()
