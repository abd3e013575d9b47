"""Augmentation and the drawing of epochs: what moves together, and what repeats."""

import numpy as np
import pytest

from training.augment import augment
from training.batches import EpochBatches, ValidationBatches
from training.recipe import AugmentRecipe, Recipe
from training.slices import SliceSet

STRONG = AugmentRecipe(
    flip=0.5,
    rotate_degrees=20,
    scale=0.1,
    shift=0.05,
    gamma=0.2,
    contrast=0.1,
    bias_field=0.1,
    noise=0.02,
    blur_pixels=1.0,
)


def recipe(task="segmenter", augment=STRONG, share=0.0):
    return Recipe.model_validate(
        {
            "task": task,
            "network": {"name": "thesis_unet"},
            "data": {
                "sources": [{"folder": "none", "empty": 0.125}],
                "size": 32,
                "phantom": {"heads": 1, "share": share},
            },
            "fit": {"loss": "dice", "epochs": 1, "batch": 8},
            "augment": augment.model_dump(),
        }
    )


@pytest.fixture
def block():
    image = np.zeros((64, 64, 1), np.float32)
    image[20:30, 10:25] = 0.8
    return image, (image[..., 0] > 0).astype(np.float32)


def slice_set(count, tumours):
    images = np.random.default_rng(0).random((count, 32, 32)).astype(np.float16)
    tumour = np.arange(count) < tumours
    masks = np.zeros((count, 32, 32), np.uint8)
    masks[tumour, 8:16, 8:16] = 1
    return SliceSet(images, masks, tumour, np.arange(count) // 10, np.zeros(count, int))


def test_without_any_range_a_slice_stays_as_it_is(block):
    image, mask = augment(*block, AugmentRecipe(), np.random.default_rng(0))
    np.testing.assert_allclose(image, block[0], atol=1e-6)
    np.testing.assert_array_equal(mask, block[1])


def test_a_flip_mirrors_the_columns(block):
    image, mask = augment(*block, AugmentRecipe(flip=1.0), np.random.default_rng(0))
    np.testing.assert_allclose(image, block[0][:, ::-1], atol=1e-5)
    np.testing.assert_array_equal(mask, block[1][:, ::-1])


def test_image_and_mask_move_together(block):
    place = AugmentRecipe(flip=0.5, rotate_degrees=30, scale=0.2, shift=0.1)
    for seed in range(10):
        image, mask = augment(*block, place, np.random.default_rng(seed))
        np.testing.assert_array_equal(mask > 0, image[..., 0] >= 0.4)


def test_values_stay_between_0_and_1(block):
    for seed in range(10):
        image, mask = augment(*block, STRONG, np.random.default_rng(seed))
        assert image.min() >= 0
        assert image.max() <= 1
        assert set(np.unique(mask)) <= {0.0, 1.0}


def test_an_epoch_has_all_tumour_slices_and_the_wanted_share_of_empty_ones():
    batches = EpochBatches(slice_set(100, 20), None, recipe("detector"), 0)
    targets = np.concatenate([batches[index][1] for index in range(len(batches))])
    assert len(targets) == 30
    assert targets.sum() == 20


def test_phantom_slices_take_their_share_of_an_epoch():
    batches = EpochBatches(slice_set(100, 20), slice_set(10, 10), recipe("detector", share=0.25), 0)
    targets = np.concatenate([batches[index][1] for index in range(len(batches))])
    assert len(targets) == 40
    assert targets.sum() == 30


def test_an_epoch_drawn_again_is_the_same():
    slices = slice_set(40, 10)
    once, again = (EpochBatches(slices, None, recipe(), 1) for _ in range(2))
    for ours, theirs in zip(once[1], again[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_two_epochs_differ():
    slices = slice_set(40, 10)
    first, second = (EpochBatches(slices, None, recipe(), epoch)[0][0] for epoch in (0, 1))
    assert np.abs(first - second).max() > 0.1


def test_validation_shows_every_slice_once_and_unchanged():
    slices = slice_set(20, 5)
    batches = ValidationBatches(slices, recipe())
    images = np.concatenate([batches[index][0] for index in range(len(batches))])
    np.testing.assert_array_equal(images[..., 0], slices.images.astype(np.float32))
