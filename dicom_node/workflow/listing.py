"""Pages of the book: which jobs are wanted, and one page of them after another.

A page begins after a job's number, not after so many jobs: the thousandth costs what the first does, and
jobs that come meanwhile move nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from dicom_node.workflow.book import DELIVERIES, JOBS
from dicom_node.workflow.entry import ENDED, Sent, State
from dicom_node.workflow.worked import Outcome


class Group(StrEnum):
    """Jobs that are looked for together."""

    ALL = "all"
    UNDER_WAY = "under way"
    WAITING = "waiting"
    ANALYSING = "analysing"
    SENDING = "sending"
    DONE = "done"
    COMMITTED = "committed"
    ATTENTION = "needs attention"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs.

    Attributes
    ----------
    text : in the series' UID, the detail, the pipeline or a destination; a number is a job's, too
    pipeline : its name; empty for any
    outcome : of the analysis; None for any
    """

    group: Group = Group.ALL
    text: str = ""
    pipeline: str = ""
    outcome: Outcome | None = None


def condition_of(wanted: Wanted) -> sa.ColumnElement[bool]:
    """Say it in SQL."""
    condition = _of_group(wanted.group)
    if wanted.pipeline:
        condition &= JOBS.c.pipeline == wanted.pipeline
    if wanted.outcome is not None:
        condition &= JOBS.c.outcome == wanted.outcome
    for word in wanted.text.split():
        condition &= _holds(word)
    return condition


def _of_group(group: Group) -> sa.ColumnElement[bool]:
    sent = DELIVERIES.c.job_id == JOBS.c.job_id
    match group:
        case Group.ALL:
            return sa.true()
        case Group.UNDER_WAY:
            return JOBS.c.state.not_in(ENDED)
        case Group.COMMITTED:
            other = sa.exists().where(sent, DELIVERIES.c.state != Sent.COMMITTED)
            return (JOBS.c.state == State.DONE) & sa.exists().where(sent) & ~other
        case Group.ATTENTION:
            failed = (JOBS.c.outcome == Outcome.FAILED) & (JOBS.c.state != State.CANCELLED)
            return JOBS.c.state.in_((State.FAILED, State.UNDELIVERED)) | failed
        case _:
            return JOBS.c.state == State(group.value)


def _holds(word: str) -> sa.ColumnElement[bool]:
    found = sa.or_(
        *(
            column.icontains(word, autoescape=True)
            for column in (JOBS.c.series_instance_uid, JOBS.c.detail, JOBS.c.pipeline)
        )
    )
    to = sa.exists().where(
        DELIVERIES.c.job_id == JOBS.c.job_id, DELIVERIES.c.destination.icontains(word, autoescape=True)
    )
    return found | to | (JOBS.c.number == int(word)) if word.isdecimal() and len(word) < 10 else found | to
