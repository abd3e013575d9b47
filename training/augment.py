"""Change a slice as another scanner, another patient position or another day would."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.recipe import AugmentRecipe

Image = NDArray[np.float32]


def _placement(size: int, recipe: AugmentRecipe, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw a 2 x 3 matrix that flips, rotates, scales and shifts about the middle of the square."""
    middle = (size - 1) / 2
    angle = random.uniform(-recipe.rotate_degrees, recipe.rotate_degrees)
    scale = 1.0 + random.uniform(-recipe.scale, recipe.scale)
    matrix = np.asarray(cv2.getRotationMatrix2D((middle, middle), angle, scale), np.float64)
    matrix[:, 2] += random.uniform(-recipe.shift, recipe.shift, size=2) * size
    if random.random() < recipe.flip:  # columns are mirrored first, then placed
        matrix[:, 2] += matrix[:, 0] * (size - 1)
        matrix[:, 0] *= -1
    return matrix


def _appearance(image: Image, recipe: AugmentRecipe, random: np.random.Generator) -> Image:
    size = image.shape[0]
    if random.random() < recipe.alone:
        image = np.repeat(image[:, :, image.shape[2] // 2, None], image.shape[2], axis=2)
    elif random.random() < 0.5:  # feet first or head first
        image = image[:, :, ::-1]
    image = image ** np.float32(np.exp(random.uniform(-recipe.gamma, recipe.gamma)))
    image = image * np.float32(1.0 + random.uniform(-recipe.contrast, recipe.contrast))
    if recipe.bias_field > 0:
        knots = random.uniform(-recipe.bias_field, recipe.bias_field, (4, 4)).astype(np.float32)
        image = image * (1.0 + cv2.resize(knots, (size, size), interpolation=cv2.INTER_CUBIC)[..., None])
    if recipe.blur_pixels > 0 and random.random() < 0.5:
        sigma = random.uniform(0.1, max(0.1, recipe.blur_pixels))
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32).reshape(image.shape)
    if recipe.noise > 0:
        sigma = random.uniform(0.0, recipe.noise)
        image = image + np.float32(sigma) * random.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image, 0.0, 1.0)


def augment(
    image: Image, mask: Image, recipe: AugmentRecipe, random: np.random.Generator
) -> tuple[Image, Image]:
    """Return a changed copy of a slice, (size, size, channels) in 0..1, and its mask, moved alike."""
    size = image.shape[0]
    matrix = _placement(size, recipe, random)
    moved = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
    moved_mask = cv2.warpAffine(mask, matrix, (size, size), flags=cv2.INTER_LINEAR)
    return (
        _appearance(np.asarray(moved, np.float32).reshape(image.shape), recipe, random),
        np.asarray(moved_mask >= 0.5, np.float32),
    )
