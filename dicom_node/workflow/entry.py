"""What the book says of a series and of its deliveries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dicom_node.series.selection import Verdict
from dicom_node.workflow.worked import Outcome


class State(StrEnum):
    """Where a series' job is on its way."""

    WAITING = "waiting"
    ANALYSING = "analysing"
    SENDING = "sending"
    DONE = "done"
    SKIPPED = "skipped"
    UNDELIVERED = "undelivered"
    FAILED = "failed"  # not even a report of the failure could be made
    CANCELLED = "cancelled"


ENDED = frozenset((State.DONE, State.SKIPPED, State.UNDELIVERED, State.FAILED, State.CANCELLED))


class Sent(StrEnum):
    """Where a delivery is."""

    PENDING = "pending"
    RETRYING = "retrying"
    ASKED = "sent, commitment asked"
    DONE = "sent"
    COMMITTED = "committed"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = (Sent.PENDING, Sent.RETRYING, Sent.ASKED)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One result's way to one destination.

    Attributes
    ----------
    attempts : with this ticket
    remedy : what a person can do when it failed
    since : when the first of these attempts failed
    ticket : of the work that may still be done for it
    ordered : the node is to take it up
    parcel : what is sent, as JSON
    """

    destination: str
    state: Sent
    attempts: int
    detail: str
    remedy: str = ""
    since: datetime | None = None
    ticket: str = ""
    ordered: bool = False
    parcel: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one series.

    Attributes
    ----------
    number : short name for operators
    version : counts the versions of a series from 1; the InstanceNumber of its results
    priority : smaller goes first
    attempts : of the analysis, with this ticket
    remedy : what a person can do when it failed
    since : when the first of these attempts failed
    ticket : of the work that may still be done for it
    ordered : the node is to take it up
    bundle : in the place of the pipeline's
    created_at : when the series was complete, or a further analysis ordered
    """

    job_id: str
    number: int
    version: int
    series_instance_uid: str
    instances: int
    priority: int
    state: State
    outcome: Outcome | None
    detail: str
    remedy: str
    attempts: int
    since: datetime | None
    ticket: str
    ordered: bool
    pipeline: str | None
    bundle: str | None
    folder: str | None
    created_at: datetime
    updated_at: datetime
    trace: tuple[Verdict, ...]
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class Happened:
    """A state that a job, or one of its deliveries, came into.

    Attributes
    ----------
    destination : of the delivery; empty for the job
    """

    at: datetime
    destination: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ran:
    """When a job was taken on, and when its latest state came."""

    created_at: datetime
    updated_at: datetime
    state: State
    outcome: Outcome | None
