"""From voxels of any scale to the whole numbers of a 16-bit PNG, without loss where that can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 65535
WHOLE = 0.02  # stored values this near to whole numbers are whole: float32 carries no more


def to_16_bits(
    voxels: NDArray[np.float32], slope: float = 1.0
) -> tuple[NDArray[np.uint16], float, float, bool]:
    """Find whole numbers from 0 to 65535 with ``voxels = pixels * scale + offset``.

    Parameters
    ----------
    slope : smallest rescale slope of the slices

    Returns
    -------
    pixels, scale, offset, and whether that holds exactly; if not, ``pixels`` are rounded to the
    65535th part of the volume's range. The node's normalisation is the same for both.
    """
    low, high = float(voxels.min()), float(voxels.max())
    values = voxels.astype(np.float64)
    for scale, offset in ((1.0, min(low, 0.0)), (slope, min(low, 0.0)), (slope, low)):
        pixels = (values - offset) / scale
        if pixels.max() <= LARGEST and np.abs(pixels - np.rint(pixels)).max() <= WHOLE:
            return np.rint(pixels).astype(np.uint16), scale, offset, True
    scale = (high - low) / LARGEST
    return np.rint((values - low) / scale).astype(np.uint16), scale, low, False
