"""Is there a tumour on this slice? A CNN, one probability per slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis.slice_model import SliceModel


class Detector(SliceModel):
    """The detector of a bundle."""

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
        return self._run(normalised, row_mm, column_mm)[1]
