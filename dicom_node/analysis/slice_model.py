"""What detector and segmenter share: an engine, a threshold and the squares that it is fed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis.engine import OnnxNetwork
from dicom_node.series.normalisation import SquareGrid


class SliceModel:
    """A network of a bundle that looks at one slice at a time."""

    def __init__(self, engine: OnnxNetwork) -> None:
        self.engine = engine

    @property
    def threshold(self) -> float:
        """A probability at or above it is positive."""
        return self.engine.network.threshold

    def _run(
        self, normalised: NDArray[np.float32], row_mm: float, column_mm: float
    ) -> tuple[SquareGrid, NDArray[np.float32]]:
        """Run slices, (n, rows, columns), n at least 1; the grid of their squares and the answers."""
        _, rows, columns = normalised.shape
        grid = SquareGrid(rows, columns, row_mm, column_mm, self.engine.network.size)
        return grid, self.engine.run(np.stack([grid.to_square(image) for image in normalised]))
