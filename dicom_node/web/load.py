"""How much the node does: the last day by the hour, the queue, the disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

from dicom_node.web.node_view import NodeView
from dicom_node.workflow.entry import ENDED, OPEN, Ran, State

HOURS = 24


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
    """What waits now."""

    waiting: int
    analysing: int
    deliveries: int


@dataclass(frozen=True, slots=True)
class Disk:
    """Where the node keeps what it has."""

    total: int
    free: int


def last_day(ran: Sequence[Ran], now: datetime) -> list[Hour]:
    """Sum up hours, the present one last; the sum is right for what has not been touched since."""
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    hours = []
    for back in range(HOURS - 1, -1, -1):
        begins = this_hour - timedelta(hours=back)
        ended = [
            each
            for each in ran
            if each.state in ENDED
            and each.state not in (State.CANCELLED, State.SKIPPED)
            and begins <= each.updated_at < begins + timedelta(hours=1)
        ]
        failed = sum(each.state in (State.FAILED, State.UNDELIVERED) for each in ended)
        times = [(each.updated_at - each.created_at).total_seconds() for each in ended]
        hours.append(Hour(begins, len(ended) - failed, failed, median(times) if times else None))
    return hours


def day_of(node: NodeView) -> list[Hour]:
    """Sum up the last day of a node."""
    now = datetime.now(UTC)
    return last_day(node.ledger.ran_since(now - timedelta(hours=HOURS)), now)


def queue_of(node: NodeView) -> Queue:
    """Count what is under way."""
    entries = node.ledger.unfinished()
    return Queue(
        waiting=sum(entry.state is State.WAITING for entry in entries),
        analysing=sum(entry.state is State.ANALYSING for entry in entries),
        deliveries=sum(d.state in OPEN for entry in entries for d in entry.deliveries),
    )


def disk_of(node: NodeView) -> Disk:
    """Look at the file system."""
    usage = shutil.disk_usage(node.settings.folder)
    return Disk(usage.total, usage.free)
