"""Cases as the squares that a network sees, held in memory for a whole training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.phantom.cut import cut_head
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
    volume : int32, (n,); slices with the same number are neighbours, in order
    source : int32, (n,); which data set
    """

    images: NDArray[np.float16]
    masks: NDArray[np.uint8]
    tumour: NDArray[np.bool_]
    volume: NDArray[np.int32]
    source: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.tumour)

    def channels(self, number: int, context: int) -> NDArray[np.float32]:
        """Give a slice between its neighbours, (size, size, 2 * context + 1); ends are repeated."""
        wanted = np.arange(number - context, number + context + 1).clip(0, len(self) - 1)
        same = self.volume[wanted] == self.volume[number]
        chosen = np.where(same, wanted, number)
        return np.moveaxis(self.images[chosen], 0, -1).astype(np.float32)


def grid_of(case: Case, size: int) -> SquareGrid:
    """Give the grid of a volume's slices."""
    _, rows, columns = case.voxels.shape
    return SquareGrid(rows, columns, *case.pixel_mm, size)


def prepare(sources: Iterable[Iterable[Case]], size: int, rule: PercentileRule) -> SliceSet:
    """Normalise each case as a volume and bring its slices to squares, as the node does."""
    images, masks, tumour = [], [], []
    lengths: list[tuple[int, int]] = []  # of each volume: which source, how many slices
    for source, cases in enumerate(sources):
        for case in cases:
            grid = grid_of(case, size)
            for image, mask in zip(normalise(case.voxels, rule), case.mask, strict=True):
                images.append(grid.to_square(image).astype(np.float16))
                masks.append((grid.to_square(mask.astype(np.float32)) >= 0.5).astype(np.uint8))
            tumour.append(case.has_tumour)
            lengths.append((source, len(case.mask)))
    origin, counts = np.array(lengths, np.int32).T
    return SliceSet(
        np.stack(images),
        np.stack(masks),
        np.concatenate(tumour),
        volume=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        source=np.repeat(origin, counts),
    )


def phantom_cases(recipe: PhantomRecipe) -> Iterable[Case]:
    """Yield the synthetic heads of a recipe, every other without a lesion."""
    for number in range(recipe.heads):
        seed, plane = recipe.first_seed + number, recipe.planes[number // 2 % len(recipe.planes)]
        cut = cut_head(seed, plane, contrast=recipe.contrast, lesion=number % 2 == 0).of_the_head()
        yield Case(f"phantom-{seed}", cut.voxels, cut.lesion)
