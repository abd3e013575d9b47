"""How much the node does: the last day by the hour, the queue, the disk."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

from dicom_node.operate.census import count
from dicom_node.web.node_view import NodeView
from dicom_node.workflow.entry import ENDED, OPEN, Ran, State

HOURS = 24
_COUNTED = frozenset(ENDED) - {State.CANCELLED, State.SKIPPED}


@dataclass(frozen=True, slots=True)
class Hour:
    """What ended within an hour.

    Attributes
    ----------
    latency_s : from the complete series to its end, the median; None where nothing ended
    """

    begins: datetime
    done: int
    failed: int
    latency_s: float | None


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits now, and what waits for a person."""

    waiting: int
    analysing: int
    deliveries: int
    attention: int


@dataclass(frozen=True, slots=True)
class Disk:
    """Where the node keeps what it has."""

    total: int
    free: int


def last_day(ran: Iterable[Ran], now: datetime) -> list[Hour]:
    """Sum up hours, the present one last; the sum is right for what has not been touched since."""
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    ended: defaultdict[int, list[Ran]] = defaultdict(list)
    for each in ran:
        if each.state in _COUNTED:
            ended[-((each.updated_at - this_hour) // timedelta(hours=1))].append(each)
    return [_hour(this_hour - timedelta(hours=back), ended[back]) for back in range(HOURS - 1, -1, -1)]


def _hour(begins: datetime, ended: Sequence[Ran]) -> Hour:
    failed = sum(each.state in (State.FAILED, State.UNDELIVERED) for each in ended)
    times = [(each.updated_at - each.created_at).total_seconds() for each in ended]
    return Hour(begins, len(ended) - failed, failed, median(times) if times else None)


def day_of(node: NodeView) -> list[Hour]:
    """Sum up the last day of a node."""
    now = datetime.now(UTC)
    return last_day(node.ledger.ran_since(now - timedelta(hours=HOURS)), now)


def queue_of(node: NodeView) -> Queue:
    """Count what is under way."""
    census = count(node.ledger.database, node.ledger.count_failed)
    return Queue(
        waiting=census.jobs.get(State.WAITING, 0),
        analysing=census.jobs.get(State.ANALYSING, 0),
        deliveries=sum(number for (_, state), number in census.deliveries.items() if state in OPEN),
        attention=census.dead_letters,
    )


def disk_of(node: NodeView) -> Disk:
    """Look at the file system."""
    usage = shutil.disk_usage(node.settings.folder)
    return Disk(usage.total, usage.free)
