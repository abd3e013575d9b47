"""``heatmap.npz``: the segmenter's probabilities in 255ths, kept beside a result for the page.

The parametric map says the same in floats, but is made only where it is wanted, and is large.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis.findings import Findings

FILE_NAME = "heatmap.npz"


def in_steps(probability: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Round probabilities to 255ths."""
    steps: NDArray[np.uint8] = np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)
    return steps


def write_heatmap(folder: Path, findings: Findings) -> None:
    """Write the slices that the segmenter saw, whole or not at all; without one, nothing."""
    seen = np.flatnonzero(findings.segmented)
    if not len(seen):
        return
    part = folder / f"{FILE_NAME}.part"
    with part.open("wb") as file:
        np.savez_compressed(
            file,
            shape=np.array(findings.probability.shape),
            slices=seen,
            probability=in_steps(findings.probability[seen]),
        )
    part.replace(folder / FILE_NAME)


def read_heatmap(folder: Path) -> NDArray[np.uint8] | None:
    """Read it back on the whole grid, (slices, rows, columns); None when there is none."""
    try:
        with np.load(folder / FILE_NAME) as kept:
            whole = np.zeros(tuple(kept["shape"]), np.uint8)
            whole[kept["slices"]] = kept["probability"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # deleted, or an earlier release's result
        return None
    return whole
