"""Where a series is, in one word, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dicom_node.workflow.entry import Delivery, Entry, Sent, State
from dicom_node.workflow.progress import Stage
from dicom_node.workflow.worked import Outcome


class Tone(StrEnum):
    """What a state means for the one who reads it; never told by colour alone."""

    QUIET = "quiet"
    ACTIVE = "active"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Status:
    """A state in a word.

    Attributes
    ----------
    done, total : of what is under way; ``total`` is 0 where nothing can be counted
    """

    word: str
    tone: Tone
    done: int = 0
    total: int = 0


_OF_STATE = {
    State.WAITING: Status("waiting", Tone.QUIET),
    State.ANALYSING: Status("analysing", Tone.ACTIVE),
    State.SENDING: Status("sending", Tone.ACTIVE),
    State.DONE: Status("done", Tone.GOOD),
    State.SKIPPED: Status("skipped", Tone.QUIET),
    State.UNDELIVERED: Status("not delivered", Tone.BAD),
    State.FAILED: Status("failed", Tone.BAD),
    State.CANCELLED: Status("cancelled", Tone.QUIET),
}
_OF_DELIVERY = {
    Sent.PENDING: Tone.QUIET,
    Sent.RETRYING: Tone.ACTIVE,
    Sent.ASKED: Tone.ACTIVE,
    Sent.DONE: Tone.GOOD,
    Sent.COMMITTED: Tone.GOOD,
    Sent.FAILED: Tone.BAD,
    Sent.CANCELLED: Tone.QUIET,
}


def status_of(entry: Entry, stage: Stage | None = None) -> Status:
    """Say where a series is.

    Parameters
    ----------
    stage : of its analysis, if that runs in this process
    """
    if entry.state is State.ANALYSING and stage is not None:
        return Status(stage.doing, Tone.ACTIVE, stage.done, stage.total)
    states = {delivery.state for delivery in entry.deliveries}
    if entry.state is State.SENDING and states and states <= {Sent.ASKED, Sent.DONE, Sent.COMMITTED}:
        return Status("commitment asked", Tone.ACTIVE)
    if entry.state is State.DONE:
        if entry.outcome is Outcome.FAILED:
            return Status("failed, reported", Tone.BAD)
        if states == {Sent.COMMITTED}:
            return Status("committed", Tone.GOOD)
        if states:
            return Status("sent", Tone.GOOD)
    return _OF_STATE[entry.state]


def tone_of(delivery: Delivery) -> Tone:
    """How a delivery's state is shown."""
    return _OF_DELIVERY[delivery.state]
