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
# mallopt(3): in the environment, in a call, and its value
_OPTIONS = (
    ("MALLOC_ARENA_MAX", -8, ARENAS),
    ("MALLOC_MMAP_THRESHOLD_", -3, ALONE_BYTES),
    ("MALLOC_TRIM_THRESHOLD_", -1, 2 * ALONE_BYTES),
)


def give_back_early() -> bool:
    """Tell glibc so, here and in processes that are made later; to be called before there are threads.

    Returns
    -------
    False with another C library, or where the environment has options for glibc's memory (``MALLOC_...``).
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    os.environ.update({name: str(value) for name, _, value in _OPTIONS})
    return all(mallopt(option, value) for _, option, value in _OPTIONS)
