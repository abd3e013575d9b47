"""How many jobs and deliveries are where, counted in the book."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from dicom_node.workflow.book import DELIVERIES, JOBS
from dicom_node.workflow.database import Database
from dicom_node.workflow.entry import ENDED, Sent, State

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


def count(database: Database, dead_letters: Callable[[], int]) -> Census:
    """Count.

    Raises
    ------
    StorageExhausted, DatabaseUnavailable
    """
    by_state = sa.select(JOBS.c.state, sa.func.count()).group_by(JOBS.c.state)
    kinds = (DELIVERIES.c.destination, DELIVERIES.c.state)
    by_destination = sa.select(*kinds, sa.func.count()).group_by(*kinds)
    oldest = sa.select(sa.func.min(JOBS.c.updated_at)).where(JOBS.c.state.not_in(ENDED))
    with database.reading() as connection:
        jobs = {State(state): number for state, number in connection.execute(by_state)}
        sent = {(name, Sent(state)): number for name, state, number in connection.execute(by_destination)}
        since = connection.scalar(oldest)
    open_s = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds() if since else 0.0
    return Census(jobs, sent, dead_letters(), max(0.0, open_s))


class Kept:
    """Counts anew after ``KEPT_S`` at the earliest."""

    def __init__(self, counting: Callable[[], Census], clock: Callable[[], float] = time.monotonic) -> None:
        self._counting, self._clock = counting, clock
        self._lock = threading.Lock()
        self._counted_at = float("-inf")
        self._census = Census({}, {}, 0, 0.0)

    def __call__(self) -> Census:
        """Return counts that are not older than that."""
        with self._lock:
            if self._clock() - self._counted_at >= KEPT_S:
                self._census = self._counting()
                self._counted_at = self._clock()
            return self._census
