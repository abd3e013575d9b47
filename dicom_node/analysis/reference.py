"""What a network answered when its bundle was made: whatever runs it now must answer the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Reference:
    """Stored squares and the network's answer.

    Attributes
    ----------
    squares : float32, (n, size, size), slices of one volume
    answer : float32, (n,) or (n, size, size), uncalibrated
    tolerance : of each value
    """

    squares: NDArray[np.float32]
    answer: NDArray[np.float32]
    tolerance: float

    def objection(self, answer: NDArray[np.float32]) -> str | None:
        """Say how an answer to the squares differs; None when it does not."""
        if answer.shape != self.answer.shape:
            return f"answers {answer.shape}, stored is {self.answer.shape}"
        worst = float(np.abs(answer - self.answer).max())
        if worst <= self.tolerance:
            return None
        return f"is off its stored answer by {worst:.2g} (tolerance {self.tolerance:.2g})"


def read_reference(path: Path, network: str, tolerance: float) -> Reference:
    """Read what is stored for ``detector`` or ``segmenter``, from a file whose digest was checked."""
    with np.load(path) as stored:
        squares = stored[f"{network}_input"].astype(np.float32)
        return Reference(squares, stored[f"{network}_output"].astype(np.float32), tolerance)
