"""From voxels of any scanner to the squares that a network was trained on, and back.

Training and node share these functions, so that they cannot differ. MR intensities are
arbitrary and the display window is a matter of taste: neither is used; the rule belongs to
the model and is named in its manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dicom_node.toml_file import Table


class PercentileRule(Table):
    """Map two percentiles of the volume's foreground to 0 and 1, and clip.

    Foreground is every voxel above ``foreground`` times the volume's 99.5th percentile,
    which leaves out the air around the head whatever its noise.
    """

    rule: Literal["percentile"] = "percentile"
    lower: Annotated[float, Field(ge=0, lt=100)] = 1.0
    upper: Annotated[float, Field(gt=0, le=100)] = 99.0
    foreground: Annotated[float, Field(ge=0, lt=1)] = 0.05


def normalise(voxels: NDArray[np.floating], rule: PercentileRule) -> NDArray[np.float32]:
    """Scale a whole volume to 0..1 by the rule.

    Parameters
    ----------
    voxels : (slices, rows, columns), any scale
        All slices of the volume: the percentiles are those of the volume, not of a slice.

    Returns
    -------
    float32, same shape; all zero when the volume is constant.
    """
    values = np.asarray(voxels, np.float32)
    values = values - values.min()
    floor = rule.foreground * float(np.percentile(values, 99.5))
    foreground = values[values > floor]
    if foreground.size == 0:
        return np.zeros_like(values)
    low, high = np.percentile(foreground, [rule.lower, rule.upper])
    if high <= low:  # one value on no ground
        low = 0.0
    scaled: NDArray[np.float32] = np.clip((values - low) / (high - low), 0.0, 1.0).astype(np.float32)
    return scaled


@dataclass(frozen=True, slots=True)
class SquareGrid:
    """A slice's grid padded to a physical square and resized to ``size`` x ``size``, and the way back.

    Parameters
    ----------
    rows, columns : of the source slice
    row_mm, column_mm : distance between rows and between columns
    size : side of the network's input in pixels
    """

    rows: int
    columns: int
    row_mm: float
    column_mm: float
    size: int

    def _padded(self) -> tuple[int, int, int, int]:
        """Rows and columns of the padded slice, and the margins above and left of it."""
        side_mm = max(self.rows * self.row_mm, self.columns * self.column_mm)
        rows = max(self.rows, round(side_mm / self.row_mm))
        columns = max(self.columns, round(side_mm / self.column_mm))
        return rows, columns, (rows - self.rows) // 2, (columns - self.columns) // 2

    def to_square(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pad (rows, columns) with 0 and resize by area to (size, size)."""
        rows, columns, top, left = self._padded()
        bottom, right = rows - self.rows - top, columns - self.columns - left
        if top or left or bottom or right:
            image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0.0)  # type: ignore[assignment]
        shrinks = rows >= self.size and columns >= self.size
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        resized: NDArray[np.float32] = cv2.resize(image, (self.size, self.size), interpolation=method)  # type: ignore[assignment]
        return resized

    def to_source(self, square: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resize (size, size) linearly to the padded slice and cut out (rows, columns)."""
        rows, columns, top, left = self._padded()
        padded = cv2.resize(square, (columns, rows), interpolation=cv2.INTER_LINEAR)
        source: NDArray[np.float32] = padded[top : top + self.rows, left : left + self.columns]  # type: ignore[assignment]
        return source
