"""What detector and segmenter share: an engine, its calibration and threshold, and what it is fed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from dicom_node.analysis.engine import Engine
from dicom_node.analysis.manifest import Calibration
from dicom_node.series.normalisation import SquareGrid


class SliceModel:
    """A network of a bundle that judges one slice at a time."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def threshold(self) -> float:
        """A calibrated probability at or above it is positive."""
        return self.engine.network.threshold

    def _run(
        self,
        normalised: NDArray[np.float32],
        row_mm: float,
        column_mm: float,
        wanted: NDArray[np.integer] | None = None,
    ) -> tuple[SquareGrid, NDArray[np.float32]]:
        """Run slices of a volume, (n, rows, columns); the grid of their squares and the probabilities."""
        _, rows, columns = normalised.shape
        grid = SquareGrid(rows, columns, row_mm, column_mm, self.engine.network.size)
        squares = np.stack([grid.to_square(image) for image in normalised])
        return grid, calibrated(self.engine.run(squares, wanted), self.engine.network.calibration)


def calibrated(probability: NDArray[np.float32], calibration: Calibration) -> NDArray[np.float32]:
    """Apply a calibration to probabilities of any shape; it keeps their order."""
    if calibration == Calibration():
        return probability
    certain = np.float32(1e-6)  # nearer to 0 and 1 a float32 has no logit
    raw = logit(probability.clip(certain, 1 - certain))
    answer: NDArray[np.float32] = expit(raw * np.float32(calibration.slope) + np.float32(calibration.offset))
    return answer
