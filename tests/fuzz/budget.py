"""How long damage is tried, and what one try may cost.

``FUZZ=100`` tries a hundred times as much, ``FUZZ_FROM=50000`` begins at that number: each number
makes one input, always the same.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

MOST_CPU_S = 20.0
MOST_MEMORY_MB = 600


def tries(count: int) -> Iterator[tuple[int, Random]]:
    """Numbers, and the generator that each begins."""
    first = int(os.environ.get("FUZZ_FROM", "0"))
    for number in range(first, first + count * int(os.environ.get("FUZZ", "1"))):
        yield number, Random(number)


@contextmanager
def within_bounds(number: int) -> Iterator[None]:
    """Fail when what is done takes too long, or takes the process to more memory than it ever had."""
    cpu_s, memory_kb = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    cpu_s = time.process_time() - cpu_s
    memory_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_kb) >> 10
    assert cpu_s < MOST_CPU_S, f"number {number} took {cpu_s:.0f} s"
    assert memory_mb < MOST_MEMORY_MB, f"number {number} took {memory_mb} MB"
