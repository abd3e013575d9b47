"""Is there a tumour on this slice? A CNN, one probability per slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis.engine import OnnxNetwork
from dicom_node.series.normalisation import SquareGrid


class Detector:
    """The detector of a bundle."""

    def __init__(self, engine: OnnxNetwork) -> None:
        self.engine = engine

    @property
    def threshold(self) -> float:
        """A slice at or above it is positive."""
        return self.engine.network.threshold

    def probabilities(
        self, normalised: NDArray[np.float32], row_mm: float, column_mm: float
    ) -> NDArray[np.float32]:
        """Judge every slice.

        Parameters
        ----------
        normalised : float32, (slices, rows, columns), in [0, 1], in the orientation of training
        row_mm, column_mm : distance between rows and between columns

        Returns
        -------
        float32, (slices,)
        """
        _, rows, columns = normalised.shape
        grid = SquareGrid(rows, columns, row_mm, column_mm, self.engine.network.size)
        return self.engine.run(np.stack([grid.to_square(image) for image in normalised]))
