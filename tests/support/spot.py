"""A grey ellipsoid with one bright spot, in any orientation: geometry that tests can calculate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Series = Callable[..., list[Path]]  # the fixture ``series_of``

HEAD, SPOT = 300.0, 1000.0  # stored values


@dataclass(frozen=True)
class Spot:
    """An imaged spot.

    Attributes
    ----------
    voxels : (slices, rows, columns)
    affine : (4, 4), maps (column, row, slice, 1) to LPS mm
    mask : where the spot is
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]
    mask: NDArray[np.bool_]

    @property
    def centroid_mm(self) -> NDArray[np.float64]:
        """From the mask and the affine."""
        slice_, row, column = np.argwhere(self.mask).mean(axis=0)
        return (self.affine @ [column, row, slice_, 1.0])[:3]

    @property
    def volume_ml(self) -> float:
        return float(self.mask.sum() * abs(np.linalg.det(self.affine[:3, :3])) / 1000)


def affine_of(
    row: tuple[float, ...] = (1, 0, 0),
    column: tuple[float, ...] = (0, 1, 0),
    *,
    shape: tuple[int, int, int] = (12, 96, 80),
    spacing_mm: tuple[float, float, float] = (4.0, 1.5, 1.5),
) -> NDArray[np.float64]:
    """Affine of a stack around the origin whose rows run along ``row`` and columns along ``column``."""
    along_row = np.array(row, float) / np.linalg.norm(row)
    along_column = np.array(column, float) / np.linalg.norm(column)
    affine = np.eye(4)
    affine[:3, 0] = along_row * spacing_mm[2]
    affine[:3, 1] = along_column * spacing_mm[1]
    affine[:3, 2] = np.cross(along_row, along_column) * spacing_mm[0]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return affine


def image_spot(
    affine: NDArray[np.float64] | None = None,
    *,
    shape: tuple[int, int, int] = (12, 96, 80),
    centre_mm: tuple[float, float, float] = (18.0, -14.0, 6.0),
    radius_mm: float = 11.0,
) -> Spot:
    """Image a head of 45 x 55 x 60 mm around the origin with a spot, as a scanner with this affine would."""
    affine = affine_of(shape=shape) if affine is None else affine
    index = np.indices(shape)[::-1].reshape(3, -1)
    points = affine[:3, :3] @ index + affine[:3, 3:]
    head = ((points / np.array([[45.0], [55.0], [60.0]])) ** 2).sum(axis=0) <= 1
    spot = ((points - np.array(centre_mm)[:, None]) ** 2).sum(axis=0) <= radius_mm**2
    voxels = np.where(spot, SPOT, np.where(head, HEAD, 0.0)).reshape(shape).astype(np.float32)
    return Spot(voxels, affine, spot.reshape(shape))
