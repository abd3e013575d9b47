"""How many jobs and deliveries are where, counted in the book."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dicom_node.workflow.ledger import Sent, State

KEPT_S = 5.0  # however often it is asked for


@dataclass(frozen=True)
class Census:
    """Counts of one moment.

    Attributes
    ----------
    deliveries : by destination and state
    dead_letters : jobs that need a person, as ``status --failed`` shows them
    oldest_open_s : since the book last heard of the job that it has not heard of for longest
    """

    jobs: Mapping[State, int]
    deliveries: Mapping[tuple[str, Sent], int]
    dead_letters: int
    oldest_open_s: float


class Kept:
    """Counts anew after ``KEPT_S`` at the earliest."""

    def __init__(self, count: Callable[[], Census], clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._clock = count, clock
        self._lock = threading.Lock()
        self._counted_at = float("-inf")
        self._census = Census({}, {}, 0, 0.0)

    def __call__(self) -> Census:
        """Return counts that are not older than that."""
        with self._lock:
            if self._clock() - self._counted_at >= KEPT_S:
                self._census = self._count()
                self._counted_at = self._clock()
            return self._census
