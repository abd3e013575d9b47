"""What a network sees of a slice: the slice itself, or the slice between its neighbours."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Channels = Literal["slice", "repeated", "neighbours"]
Layout = Literal["NHWC", "NCHW"]

OFFSETS: dict[Channels, tuple[int, ...]] = {
    "slice": (0,),
    "repeated": (0, 0, 0),
    "neighbours": (-1, 0, 1),
}


def in_channels(
    squares: NDArray[np.float32],
    channels: Channels,
    layout: Layout,
    wanted: NDArray[np.integer] | None = None,
) -> NDArray[np.float32]:
    """Feed some slices of a volume.

    Parameters
    ----------
    squares : float32, (n, size, size), the volume's slices in order
    channels : ``slice``, ``repeated`` (three times the slice) or ``neighbours`` (the slice before, the
        slice, the slice after it); the first and last slice are their own neighbours
    layout : order of the axes
    wanted : indices of slices, (m,); None takes all

    Returns
    -------
    float32, (m, size, size, channels) or (m, channels, size, size)
    """
    middle = np.arange(len(squares)) if wanted is None else wanted
    taken = squares[(middle[:, None] + OFFSETS[channels]).clip(0, len(squares) - 1)]
    return taken if layout == "NCHW" else np.ascontiguousarray(np.moveaxis(taken, 1, 3))
