"""Cases as the squares that a network sees, held in memory for a whole training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.phantom.brain import brain_phantom
from dicom_node.series.normalisation import PercentileRule, SquareGrid, normalise
from training.cases import Case
from training.recipe import PhantomRecipe


@dataclass(frozen=True)
class SliceSet:
    """Prepared slices of many volumes.

    Attributes
    ----------
    images : float16, (n, size, size), 0 to 1
    masks : uint8, same shape, 0 or 1
    tumour : bool, (n,); told by the source mask, which resizing may lose
    """

    images: NDArray[np.float16]
    masks: NDArray[np.uint8]
    tumour: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tumour)


def grid_of(shape: tuple[int, ...], size: int) -> SquareGrid:
    """Give the grid of slices whose pixels are taken to be square, (..., rows, columns)."""
    return SquareGrid(rows=shape[-2], columns=shape[-1], row_mm=1.0, column_mm=1.0, size=size)


def prepare(cases: Iterable[Case], size: int, rule: PercentileRule) -> SliceSet:
    """Normalise each case as a volume and bring its slices to squares, as the node does."""
    images, masks, tumour = [], [], []
    for case in cases:
        grid = grid_of(case.voxels.shape, size)
        for image, mask in zip(normalise(case.voxels, rule), case.mask, strict=True):
            images.append(grid.to_square(image).astype(np.float16))
            masks.append((grid.to_square(mask.astype(np.float32)) >= 0.5).astype(np.uint8))
        tumour.append(case.has_tumour)
    return SliceSet(np.stack(images), np.stack(masks), np.concatenate(tumour))


def phantom_cases(recipe: PhantomRecipe) -> Iterable[Case]:
    """Yield the synthetic heads of a recipe, every third without a lesion."""
    for number in range(recipe.heads):
        seed = recipe.first_seed + number
        phantom = brain_phantom(seed, lesion=number % 3 != 2)
        yield Case(f"phantom-{seed}", phantom.voxels, phantom.lesion)
