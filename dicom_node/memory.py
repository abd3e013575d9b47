"""What is freed goes back to the system, so that a process that works for long does not grow.

glibc has an arena of memory for each thread, up to eight for each core, and learns to keep large blocks in
them. Many short threads with large arrays leave holes in all of them: after some hundred series, a third of
what the node's arenas held was free, and the process a tenth larger.
"""

from __future__ import annotations

import ctypes
import os

ARENAS = 2
ALONE_BYTES = 1 << 20  # of a block that is mapped, and given back, by itself
# mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_OPTIONS = {_ARENA_MAX: ARENAS, _MMAP_THRESHOLD: ALONE_BYTES, _TRIM_THRESHOLD: 2 * ALONE_BYTES}


def give_back_early() -> bool:
    """Tell glibc so; to be called before there are threads.

    Returns
    -------
    False with another C library, or where the environment has options for glibc's memory (``MALLOC_...``).
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, value) for option, value in _OPTIONS.items())
