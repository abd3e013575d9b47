"""Which pixels are tumour? A U-Net, a probability per pixel on the source's own grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis.slice_model import SliceModel


class Segmenter(SliceModel):
    """The segmenter of a bundle."""

    def probabilities(
        self,
        normalised: NDArray[np.float32],
        row_mm: float,
        column_mm: float,
        wanted: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Segment slices of a volume.

        Probabilities are brought back to the source grid before anyone thresholds them:
        that gives a better outline than a resized mask.

        Parameters
        ----------
        normalised : float32, (slices, rows, columns), in [0, 1], in the orientation of training
        row_mm, column_mm : distance between rows and between columns
        wanted : (slices,), which to segment; None segments all

        Returns
        -------
        float32, (slices, rows, columns); 0 where a slice was not wanted
        """
        answer = np.zeros_like(normalised)
        indices = np.arange(len(normalised)) if wanted is None else np.flatnonzero(wanted)
        if len(indices):
            grid, squares = self._run(normalised, row_mm, column_mm, indices)
            answer[indices] = [grid.to_source(square) for square in squares]
        return answer
