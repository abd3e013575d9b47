"""What each perturbation does to a head of known shape, and that masks follow voxels.

Not covered: how near they are to what scanners do; the sheet that ``robustness`` draws shows them.
"""

import numpy as np
import pytest

from dicom_node.phantom.brain import brain_phantom
from dicom_node.series.normalisation import PercentileRule, normalise
from training.cases import Case
from training.perturbations import PERTURBATIONS, perturbed
from training.volumes import Volume

# what only changes voxels; the others move the mask as well
ONLY_VOXELS = {"rescaled", "bias_field", "noise_3", "noise_9", "blurred", "gamma_0.7", "gamma_1.4"}


@pytest.fixture(scope="module")
def head():
    phantom = brain_phantom(3, shape=(12, 96, 80), spacing_mm=(10.0, 2.4, 2.4))
    case = Case("p", phantom.voxels.astype(np.float32), phantom.lesion)
    return Volume(case, "p", "phantoms", "p", "", is_series=True)


def contrast(volume):
    """How much brighter the lesion is than the rest of the head, in normalised units."""
    scaled = normalise(volume.case.voxels, PercentileRule())
    mask = volume.case.mask
    return scaled[mask].mean() - scaled[(scaled > 0.1) & ~mask].mean()


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_it_repeats_leaves_its_source_alone_and_keeps_mask_and_voxels_together(head, name):
    before = head.case.voxels.copy(), head.case.mask.copy()
    once, again, other = perturbed(head, name), perturbed(head, name), perturbed(head, name, seed=1)
    np.testing.assert_array_equal(once.case.voxels, again.case.voxels)
    is_random = name in {"rotated", "bias_field", "noise_3", "noise_9"}
    assert (once.case.voxels != other.case.voxels).any() <= is_random
    np.testing.assert_array_equal(head.case.voxels, before[0])
    np.testing.assert_array_equal(head.case.mask, before[1])
    assert once.case.voxels.dtype == np.float32
    assert once.case.mask.dtype == bool
    assert once.case.voxels.shape == once.case.mask.shape
    assert np.isfinite(once.case.voxels).all()
    # the mask still lies on the lesion, which is brighter than its surroundings
    assert contrast(once) > 0.3 * contrast(head) > 0.05


@pytest.mark.parametrize("name", sorted(ONLY_VOXELS))
def test_what_changes_values_only_leaves_the_mask(head, name):
    changed = perturbed(head, name)
    np.testing.assert_array_equal(changed.case.mask, head.case.mask)
    assert (changed.case.voxels != head.case.voxels).any()


def test_another_scale_and_offset_is_normalised_away(head):
    rule = PercentileRule()
    scaled = normalise(perturbed(head, "rescaled").case.voxels, rule)
    np.testing.assert_allclose(scaled, normalise(head.case.voxels, rule), atol=1e-4)


@pytest.mark.parametrize(("name", "shape"), [("half_matrix", (48, 40)), ("larger_matrix", (144, 120))])
def test_another_matrix_keeps_the_lesions_share_of_the_image(head, name, shape):
    case = perturbed(head, name).case
    assert case.mask.shape == (12, *shape)
    assert case.mask.mean() == pytest.approx(head.case.mask.mean(), rel=0.15)
    assert head.case.voxels.min() <= case.voxels.min() <= case.voxels.max() <= head.case.voxels.max()


def test_a_larger_field_of_view_shows_the_same_head_smaller(head):
    case = perturbed(head, "padded").case
    assert case.voxels.shape == (12, 134, 112)
    np.testing.assert_array_equal(case.voxels[:, 19:-19, 16:-16], head.case.voxels)
    np.testing.assert_array_equal(case.mask[:, 19:-19, 16:-16], head.case.mask)


def test_a_crop_keeps_the_whole_head_and_loses_air(head):
    case = perturbed(head, "cropped").case
    assert case.mask.sum() == head.case.mask.sum()
    bright = 0.2 * head.case.voxels.max()
    assert (case.voxels > bright).sum() == (head.case.voxels > bright).sum()
    assert case.voxels.size < 0.95 * head.case.voxels.size


def test_noise_raises_the_air_as_magnitudes_do(head):
    sigma = 0.09 * np.percentile(head.case.voxels, 99.5)
    air = head.case.voxels < 0.05 * sigma
    assert air.sum() > 1000
    # the mean of a Rayleigh distribution
    assert perturbed(head, "noise_9").case.voxels[air].mean() == pytest.approx(sigma * 1.2533, rel=0.02)


def test_the_bias_field_stays_within_its_bounds_and_is_smooth(head):
    inside = head.case.voxels > 0.1 * head.case.voxels.max()
    ratio = perturbed(head, "bias_field").case.voxels[inside] / head.case.voxels[inside]
    assert ratio.min() >= 0.599
    assert ratio.max() <= 1.401
    assert np.ptp(ratio) > 0.3


def test_without_skull_the_outermost_tissue_is_air_and_the_middle_is_left(head):
    case = perturbed(head, "stripped").case
    number = int(head.case.mask.sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(head.case.voxels[number] > 0.2 * head.case.voxels[number].max())
    assert case.voxels[number, rows.min(), columns[rows.argmin()]] == head.case.voxels.min()
    middle = number, (rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2
    assert case.voxels[middle] == head.case.voxels[middle]
    assert not case.mask[case.voxels == head.case.voxels.min()].any()


def test_a_third_of_the_slices_is_missing_half_of_it_at_either_end(head):
    case = perturbed(head, "shortened").case
    np.testing.assert_array_equal(case.voxels, head.case.voxels[2:10])
    np.testing.assert_array_equal(case.mask, head.case.mask[2:10])


def test_a_mirror_swaps_columns(head):
    case = perturbed(head, "mirrored").case
    np.testing.assert_array_equal(case.voxels[:, :, 0], head.case.voxels[:, :, -1])
    np.testing.assert_array_equal(case.mask[:, :, ::-1], head.case.mask)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_slice_without_anything_survives(name):
    empty = Case("p", np.zeros((1, 32, 32), np.float32), np.zeros((1, 32, 32), bool))
    case = perturbed(Volume(empty, "p", "none", "p", "", is_series=True), name).case
    assert not case.mask.any()
    assert np.isfinite(case.voxels).all()
