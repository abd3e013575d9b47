"""Which pixels are tumour? A U-Net, a probability per pixel on the source's own grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis.slice_model import SliceModel


class Segmenter(SliceModel):
    """The segmenter of a bundle."""

    def probabilities(
        self, normalised: NDArray[np.float32], row_mm: float, column_mm: float
    ) -> NDArray[np.float32]:
        """Segment every slice.

        Probabilities are brought back to the source grid before anyone thresholds them:
        that gives a better outline than a resized mask.

        Parameters
        ----------
        normalised : float32, (slices, rows, columns), in [0, 1], in the orientation of training
        row_mm, column_mm : distance between rows and between columns

        Returns
        -------
        float32, (slices, rows, columns)
        """
        if not len(normalised):
            return np.zeros_like(normalised)
        grid, squares = self._run(normalised, row_mm, column_mm)
        return np.stack([grid.to_source(square) for square in squares])
