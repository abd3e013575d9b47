"""What other scanners, protocols and software do to a volume, before the node's own normalisation.

Each takes voxels float32 (slices, rows, columns) as stored, the mask, and a random generator, and
gives both changed. "Bright" is the 99.5th percentile of the volume's voxels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.volumes import Volume

Voxels = NDArray[np.float32]
Mask = NDArray[np.bool_]
Change = Callable[[Voxels, Mask, np.random.Generator], tuple[Voxels, Mask]]

HEAD = 0.1  # of bright; what is above is head rather than air


def _bright(voxels: Voxels) -> float:
    return float(np.percentile(voxels, 99.5))


def _head(image: Voxels, floor: float) -> Mask:
    """Give the largest thing above the floor on a slice, without holes."""
    closed: Mask = ndimage.binary_closing(image > floor, iterations=2)
    parts, count = ndimage.label(closed)
    if not count:
        return closed
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return np.asarray(ndimage.binary_fill_holes(largest))


def rescaled(voxels: Voxels, mask: Mask, _: np.random.Generator) -> tuple[Voxels, Mask]:
    """Store values in another range, as 16 bits do."""
    return voxels * np.float32(17) + np.float32(1000), mask


def resampled(voxels: Voxels, mask: Mask, _: np.random.Generator, factor: float) -> tuple[Voxels, Mask]:
    """Another matrix over the same field of view."""
    shape = (round(voxels.shape[2] * factor), round(voxels.shape[1] * factor))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    images = np.stack([cv2.resize(image, shape, interpolation=method) for image in voxels])
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    masks = [cv2.resize(part, shape, interpolation=method) >= 0.5 for part in mask.astype(np.float32)]
    # a cubic curve swings beyond the values that it joins
    return images.clip(voxels.min(), voxels.max()).astype(np.float32), np.stack(masks)


def cropped(voxels: Voxels, mask: Mask, _: np.random.Generator, margin: float) -> tuple[Voxels, Mask]:
    """Keep the head and a margin, a part of its size, on each side."""
    floor = HEAD * _bright(voxels)
    head = np.any([_head(image, floor) for image in voxels], axis=0) | mask.any(axis=0)
    if not head.any():
        return voxels, mask
    part = []
    for axis in (1, 0):
        inside = np.flatnonzero(head.any(axis=axis))
        extra = round(margin * (inside[-1] - inside[0] + 1))
        part.append(slice(max(0, inside[0] - extra), inside[-1] + 1 + extra))
    return voxels[:, part[0], part[1]], mask[:, part[0], part[1]]


def padded(voxels: Voxels, mask: Mask, _: np.random.Generator, share: float) -> tuple[Voxels, Mask]:
    """Make the field of view larger by a share of its size, with the darkest value around."""
    rows, columns = (round(share * side / 2) for side in voxels.shape[1:])
    width = ((0, 0), (rows, rows), (columns, columns))
    return np.pad(voxels, width, constant_values=voxels.min()), np.pad(mask, width)


def rotated(voxels: Voxels, mask: Mask, random: np.random.Generator, degrees: float) -> tuple[Voxels, Mask]:
    """Turn the head in the plane, to either side."""
    rows, columns = voxels.shape[1:]
    angle = degrees * random.choice([-1.0, 1.0])
    matrix = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), angle, 1.0)
    dark = float(voxels.min())
    images = [cv2.warpAffine(image, matrix, (columns, rows), borderValue=dark) for image in voxels]
    masks = [cv2.warpAffine(part, matrix, (columns, rows)) >= 0.5 for part in mask.astype(np.float32)]
    return np.stack(images).astype(np.float32), np.stack(masks)


def shaded(voxels: Voxels, mask: Mask, random: np.random.Generator, strength: float) -> tuple[Voxels, Mask]:
    """Multiply by a smooth field of 1 - strength to 1 + strength, as a surface coil leaves behind."""
    shape = voxels.shape[2], voxels.shape[1]
    knots = random.uniform(-1, 1, (2, 3, 3))
    first, last = (cv2.resize(end, shape, interpolation=cv2.INTER_CUBIC) for end in knots)
    field = np.linspace(first, last, len(voxels))
    low, high = field.min(), field.max()
    factor = 1 - strength + 2 * strength * (field - low) / max(high - low, 1e-6)
    return (voxels * factor).astype(np.float32), mask


def noisy(voxels: Voxels, mask: Mask, random: np.random.Generator, level: float) -> tuple[Voxels, Mask]:
    """Add Rician noise whose sigma is ``level`` of bright: that of a magnitude image."""
    sigma = np.float32(level * _bright(voxels))
    real = voxels + sigma * random.standard_normal(voxels.shape, dtype=np.float32)
    return np.hypot(real, sigma * random.standard_normal(voxels.shape, dtype=np.float32)), mask


def blurred(voxels: Voxels, mask: Mask, _: np.random.Generator, share: float) -> tuple[Voxels, Mask]:
    """Blur in the plane with a Gaussian whose sigma is a share of the longer side."""
    sigma = share * max(voxels.shape[1:])
    return ndimage.gaussian_filter(voxels, (0, sigma, sigma)), mask


def bent(voxels: Voxels, mask: Mask, _: np.random.Generator, exponent: float) -> tuple[Voxels, Mask]:
    """Change the contrast: the values' power, where bright stays bright."""
    bright = max(_bright(voxels), 1e-6)
    return (bright * (voxels.clip(0) / bright) ** exponent).astype(np.float32), mask


def stripped(voxels: Voxels, mask: Mask, _: np.random.Generator, share: float) -> tuple[Voxels, Mask]:
    """Remove the skull, roughly: on each slice the outer shell of the head becomes air.

    The head is what is brighter than a tenth of bright; the shell is as thick as a share of the side
    of a square as large as the head. Tumour within it is not asked for.
    """
    floor = HEAD * _bright(voxels)
    kept = []
    for image in voxels:
        head = _head(image, floor)
        kept.append(ndimage.distance_transform_edt(head) > share * np.sqrt(head.sum()))
    inside = np.stack(kept)
    return np.where(inside, voxels, voxels.min()), mask & inside


def shortened(voxels: Voxels, mask: Mask, _: np.random.Generator, share: float) -> tuple[Voxels, Mask]:
    """Leave out the first and the last slices, a share of all."""
    part = middle(len(voxels), share)
    return voxels[part], mask[part]


def middle(slices: int, share: float) -> slice:
    """Give what is left of slices without a share of them, half of it from either end."""
    missing = round(slices * share / 2)
    return slice(missing, slices - missing)


def mirrored(voxels: Voxels, mask: Mask, _: np.random.Generator) -> tuple[Voxels, Mask]:
    """Swap the columns: left and right of an axial slice."""
    return voxels[:, :, ::-1].copy(), mask[:, :, ::-1].copy()


@dataclass(frozen=True)
class Perturbation:
    """A named change.

    Attributes
    ----------
    text : for the table
    change : what it does
    missing : share of the slices that it leaves out; it is for series only, then
    """

    text: str
    change: Change
    missing: float = 0.0


THIRD = 1 / 3
PERTURBATIONS = {
    "rescaled": Perturbation("values times 17 plus 1000", rescaled),
    "half_matrix": Perturbation("matrix halved", partial(resampled, factor=0.5)),
    "larger_matrix": Perturbation("matrix times 1.5", partial(resampled, factor=1.5)),
    "cropped": Perturbation("cropped to the head plus 3 %", partial(cropped, margin=0.03)),
    "padded": Perturbation("field of view 40 % larger", partial(padded, share=0.4)),
    "rotated": Perturbation("rotated by 10 degrees", partial(rotated, degrees=10.0)),
    "mirrored": Perturbation("left and right swapped", mirrored),
    "bias_field": Perturbation("bias field, 0.6 to 1.4", partial(shaded, strength=0.4)),
    "noise_3": Perturbation("Rician noise, 3 % of bright", partial(noisy, level=0.03)),
    "noise_9": Perturbation("Rician noise, 9 % of bright", partial(noisy, level=0.09)),
    "blurred": Perturbation("blurred, sigma 0.6 % of the side", partial(blurred, share=0.006)),
    "gamma_0.7": Perturbation("gamma 0.7", partial(bent, exponent=0.7)),
    "gamma_1.4": Perturbation("gamma 1.4", partial(bent, exponent=1.4)),
    "stripped": Perturbation("outer 8 % of the head removed", partial(stripped, share=0.08)),
    "shortened": Perturbation("a third of the slices missing", partial(shortened, share=THIRD), THIRD),
}


def perturbed(volume: Volume, name: str, seed: int = 0) -> Volume:
    """Change a volume by its name's perturbation; the same seed gives the same."""
    random = np.random.default_rng((seed, zlib.crc32(f"{name} {volume.data} {volume.name}".encode())))
    case = volume.case
    voxels, mask = PERTURBATIONS[name].change(case.voxels, case.mask, random)
    return replace(volume, case=replace(case, voxels=np.ascontiguousarray(voxels), mask=mask))
