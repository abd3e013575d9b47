"""Epochs of batches: balanced, augmented, and the same for the same seed and epoch."""

from __future__ import annotations

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from training.augment import augment
from training.networks.localisation import CELL_PIXELS
from training.recipe import Recipe
from training.slices import SliceSet

Target = NDArray[np.float32] | dict[str, NDArray[np.float32]]
Batch = tuple[NDArray[np.float32], Target]


def _target(recipe: Recipe, masks: NDArray[np.float32], tumour: NDArray[np.bool_]) -> Target:
    """Give what a network should answer: masks, or whether there is tumour and perhaps where."""
    if recipe.task == "segmenter":
        return masks[..., None]
    probability = tumour.astype(np.float32)[:, None]
    if recipe.fit.localisation == 0:
        return probability
    cells = recipe.data.size // CELL_PIXELS[recipe.network.name]
    coverage = [cv2.resize(mask, (cells, cells), interpolation=cv2.INTER_AREA) for mask in masks]
    return {"probability": probability, "coverage": np.stack(coverage).astype(np.float32)[..., None]}


class EpochBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """The slices of one epoch: all with tumour, some without and some of phantoms.

    Everything random follows from the recipe's seed, the epoch and the position in it, so a
    resumed training sees what an uninterrupted one would have seen.

    Parameters
    ----------
    patients, phantoms : SliceSet
        The second may be None.
    epoch : from 0
    """

    def __init__(self, patients: SliceSet, phantoms: SliceSet | None, recipe: Recipe, epoch: int) -> None:
        super().__init__(workers=1, max_queue_size=8)
        self._sets = [patients] if phantoms is None else [patients, phantoms]
        self._recipe = recipe
        self._epoch = epoch
        self._chosen = self._draw()

    def _draw(self) -> NDArray[np.int64]:
        """Choose (set, slice) pairs, shuffled."""
        random = np.random.default_rng((self._recipe.fit.seed, self._epoch))
        patients = self._sets[0]
        drawn = []
        for number, source in enumerate(self._recipe.data.sources):
            own = patients.source == number
            for kind, times in ((patients.tumour, source.tumour), (~patients.tumour, source.empty)):
                slices = np.flatnonzero(own & kind)
                whole, rest = divmod(round(times * len(slices)), max(1, len(slices)))
                drawn += [slices] * whole + [random.choice(slices, rest, replace=False)]
        chosen = np.concatenate(drawn)
        pairs = np.stack([np.zeros_like(chosen), chosen], axis=1)
        if len(self._sets) > 1:
            share = self._recipe.data.phantom.share
            count = round(len(chosen) * share / (1 - share))
            synthetic = random.integers(0, len(self._sets[1]), count)
            pairs = np.concatenate([pairs, np.stack([np.ones_like(synthetic), synthetic], axis=1)])
        random.shuffle(pairs)
        return pairs

    def __len__(self) -> int:
        return -(-len(self._chosen) // self._recipe.fit.batch)

    def __getitem__(self, index: int) -> Batch:
        size = self._recipe.fit.batch
        images, masks, tumour = [], [], []
        for position in range(index * size, min((index + 1) * size, len(self._chosen))):
            which, number = self._chosen[position]
            source = self._sets[which]
            random = np.random.default_rng((self._recipe.fit.seed, self._epoch, position))
            image, mask = augment(
                source.channels(number, self._recipe.data.context),
                source.masks[number].astype(np.float32),
                self._recipe.augment,
                random,
            )
            images.append(image)
            masks.append(mask)
            tumour.append(source.tumour[number])
        return np.stack(images), _target(self._recipe, np.stack(masks), np.asarray(tumour))


class ValidationBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Every slice of a set once, in order and unchanged."""

    def __init__(self, slices: SliceSet, recipe: Recipe) -> None:
        super().__init__(workers=1)
        self._slices, self._recipe, self._batch = slices, recipe, recipe.fit.batch

    def __len__(self) -> int:
        return -(-len(self._slices) // self._batch)

    def __getitem__(self, index: int) -> Batch:
        first = index * self._batch
        part = slice(first, min(first + self._batch, len(self._slices)))
        context = self._recipe.data.context
        images = np.stack([self._slices.channels(n, context) for n in range(part.start, part.stop)])
        masks = self._slices.masks[part].astype(np.float32)
        return images, _target(self._recipe, masks, self._slices.tumour[part])
