"""What became of each series: the operator's book.

The truth is on disk (the spool, the results) and in the durable workflows; the book is what
``status`` and ``explain`` read, from another process too. It holds no patient data.

Each job and each delivery has a *ticket*: work is done for the one that the book shows, and
an operator's order writes a new one. So what was cancelled or begun anew ends by itself,
wherever it is, and nothing has to be stopped from outside.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from dicom_node.errors import Cancelled
from dicom_node.series.selection import Verdict
from dicom_node.workflow.book import DELIVERIES, HISTORY, JOBS, Book
from dicom_node.workflow.database import insert_unless_there
from dicom_node.workflow.entry import ENDED, OPEN, Delivery, Entry, Sent, State
from dicom_node.workflow.worked import Outcome

__all__ = ["ENDED", "OPEN", "Delivery", "Entry", "Ledger", "Sent", "State"]

_STOPPED = "it was cancelled or begun anew"


class Ledger(Book):
    """The book as it is written."""

    # The job's own way.

    def open_job(
        self,
        job_id: str,
        series_instance_uid: str,
        instances: int,
        *,
        priority: int = 2,
        ordered: bool = False,
        detail: str = "",
        version: int | None = None,
        bundle: str | None = None,
    ) -> bool:
        """Enter a new job; False when it was entered before.

        Parameters
        ----------
        bundle : in the place of the pipeline's
        ordered : the node is to take it up; otherwise the caller does
        version : of a job that was lost; a new one gets the next
        """
        number = sa.select(sa.func.coalesce(sa.func.max(JOBS.c.number), 0) + 1).scalar_subquery()
        of_series = JOBS.c.series_instance_uid == series_instance_uid
        latest = sa.select(sa.func.coalesce(sa.func.max(JOBS.c.version), 0) + 1).where(of_series)
        row = {
            "job_id": job_id,
            "number": number,
            "version": latest.scalar_subquery() if version is None else version,
            "series_instance_uid": series_instance_uid,
            "instances": instances,
            "priority": priority,
            "state": State.WAITING,
            "detail": detail,
            "ticket": _new_ticket(),
            "ordered": ordered,
            "bundle": bundle,
            "created_at": _now(),
            "updated_at": _now(),
        }
        with self.database.writing() as connection:
            is_new = insert_unless_there(connection, JOBS, row)
            if is_new:
                _note(connection, job_id, State.WAITING, detail)
            return is_new

    def update(
        self,
        job_id: str,
        state: State,
        *,
        ticket: str | None = None,
        outcome: Outcome | None = None,
        detail: str | None = None,
        remedy: str | None = None,
        attempts: int | None = None,
        pipeline: str | None = None,
        folder: Path | None = None,
        trace: Iterable[Verdict] | None = None,
        parcels: Mapping[str, str] | None = None,
    ) -> None:
        """Move a job on; what is None stays as it is.

        Parameters
        ----------
        ticket : of the work that asks for it
        parcels : what is to be delivered, by destination, as JSON

        Raises
        ------
        Cancelled
            The ticket is no longer the job's, or the job has ended and would be open again.
        """
        values = {
            "outcome": outcome,
            "detail": detail,
            "remedy": remedy,
            "attempts": attempts,
            "pipeline": pipeline,
            "folder": None if folder is None else str(folder),
            "trace": None if trace is None else json.dumps([(v.rule, v.passed, v.detail) for v in trace]),
        }
        given: dict[str, Any] = {key: value for key, value in values.items() if value is not None}
        if remedy is not None:
            given["since"] = sa.func.coalesce(JOBS.c.since, _now()) if remedy else None
        with self.database.writing() as connection:
            if not _move(connection, job_id, ticket, state=state, **given):
                raise Cancelled(_STOPPED)
            for destination, parcel in (parcels or {}).items():
                row = {
                    "job_id": job_id,
                    "destination": destination,
                    "state": Sent.PENDING,
                    "attempts": 0,
                    "detail": "",
                    "ticket": _new_ticket(),
                    "parcel": parcel,
                }
                # A step that runs again after a crash must not make a delivery anew
                if insert_unless_there(connection, DELIVERIES, row):
                    _note(connection, job_id, Sent.PENDING, "", destination)
            if parcels:
                _close_when_ended(connection, job_id)  # made again, when all was sent before

    def fail(self, job_id: str, why: str, remedy: str, ticket: str | None = None) -> None:
        """End a job without a result; as :meth:`update`."""
        self.update(job_id, State.FAILED, ticket=ticket, outcome=Outcome.FAILED, detail=why, remedy=remedy)

    def deliver(self, job_id: str, delivery: Delivery) -> None:
        """Enter how a delivery stands, and close the job when its last one has ended.

        Raises
        ------
        Cancelled
            The delivery's ticket is no longer the one in the book, or it has ended; but what has been
            sent is entered as sent, and what is committed as committed.
        """
        values: dict[str, Any] = {
            "state": delivery.state,
            "attempts": delivery.attempts,
            "detail": delivery.detail,
            "remedy": delivery.remedy,
            "since": sa.func.coalesce(DELIVERIES.c.since, _now()) if delivery.remedy else None,
        }
        this = _delivery_is(job_id, delivery.destination) & (DELIVERIES.c.ticket == delivery.ticket)
        # Whoever comes late - a process that stood still, an answer after the report - undoes nothing
        if delivery.state is Sent.DONE:
            this &= DELIVERIES.c.state != Sent.COMMITTED
        elif delivery.state is not Sent.COMMITTED:
            this &= DELIVERIES.c.state.in_((*OPEN, delivery.state))
        with self.database.writing() as connection:
            if connection.execute(DELIVERIES.update().where(this).values(values)).rowcount == 0:
                raise Cancelled(_STOPPED)
            _note(connection, job_id, delivery.state, delivery.detail, delivery.destination)
            _close_when_ended(connection, job_id)

    def need(self, job_id: str, ticket: str, destination: str | None = None) -> None:
        """See that work with this ticket is still wanted for a job, or for one of its deliveries.

        Raises
        ------
        Cancelled
        """
        if destination is None:
            query = sa.select(JOBS.c.state).where(JOBS.c.job_id == job_id, JOBS.c.ticket == ticket)
        else:
            this = _delivery_is(job_id, destination)
            query = sa.select(DELIVERIES.c.state).where(this, DELIVERIES.c.ticket == ticket)
        with self.database.reading() as connection:
            state = connection.scalar(query)
        # A step may run again after its own last word, so that only a cancelled one is not wanted
        if state in (None, State.CANCELLED):
            raise Cancelled(_STOPPED)

    # Orders of operators, written by another process; the node takes them up.

    def cancel(self, job_id: str, destination: str | None = None) -> bool:
        """Cancel a job with its open deliveries, or one delivery; False when nothing was open."""
        pending = sa.and_(DELIVERIES.c.job_id == job_id, DELIVERIES.c.state.in_(OPEN))
        if destination is not None:
            pending &= DELIVERIES.c.destination == destination
        with self.database.writing() as connection:
            detail = "cancelled by an operator"
            stop = {"state": Sent.CANCELLED, "detail": detail, "ordered": False}
            stopped = connection.execute(DELIVERIES.update().where(pending).values(stop)).rowcount
            if destination is None:
                running = (JOBS.c.job_id == job_id) & JOBS.c.state.in_((State.WAITING, State.ANALYSING))
                change = JOBS.update().where(running).values(**stop, updated_at=_now())
                stopped += connection.execute(change).rowcount
            if stopped:
                _note(connection, job_id, State.CANCELLED, detail, destination or "")
                _close_when_ended(connection, job_id)
        return stopped > 0

    def order_job(self, job_id: str, detail: str, ticket: str | None = None) -> bool:
        """Let the node work on a job once more, from the start.

        Parameters
        ----------
        ticket : only where this is still the job's, and it has not ended; otherwise False is returned
        """
        with self.database.writing() as connection:
            fresh = {"state": State.WAITING, "detail": detail, "remedy": "", "attempts": 0, "since": None}
            return _move(connection, job_id, ticket, **fresh, ordered=True, ticket=_new_ticket())

    def order_delivery(self, job_id: str, destination: str, detail: str, ticket: str | None = None) -> bool:
        """Let the node send the same files once more.

        Parameters
        ----------
        ticket : only where this is still the delivery's, and it has not ended; otherwise False is returned
        """
        fresh = {"state": Sent.PENDING, "detail": detail, "remedy": "", "attempts": 0, "since": None}
        this = _delivery_is(job_id, destination)
        if ticket is not None:
            this &= (DELIVERIES.c.ticket == ticket) & DELIVERIES.c.state.in_(OPEN)
        change = DELIVERIES.update().where(this).values(**fresh, ordered=True, ticket=_new_ticket())
        with self.database.writing() as connection:
            if connection.execute(change).rowcount == 0:
                return False
            _note(connection, job_id, Sent.PENDING, detail, destination)
            _move(connection, job_id, None, state=State.SENDING)
            return True

    def taken_up(self, ticket: str) -> None:
        """Note that the work with this ticket has its workflow."""
        with self.database.writing() as connection:
            for table in (JOBS, DELIVERIES):
                connection.execute(table.update().where(table.c.ticket == ticket).values(ordered=False))


def _delivery_is(job_id: str, destination: str) -> sa.ColumnElement[bool]:
    return (DELIVERIES.c.job_id == job_id) & (DELIVERIES.c.destination == destination)


def _move(connection: sa.Connection, job_id: str, needed: str | None, **values: object) -> bool:
    """Change a job; False where the ticket that is needed is not the job's, or it has ended meanwhile."""
    this = JOBS.c.job_id == job_id
    if needed is not None:
        over = (State.CANCELLED,) if values["state"] in ENDED else tuple(ENDED)
        this &= (JOBS.c.ticket == needed) & JOBS.c.state.not_in(over)
    change = JOBS.update().where(this).values(**values | {"updated_at": _now()})
    moved = connection.execute(change).rowcount > 0
    if moved:
        _note(connection, job_id, str(values["state"]), str(values.get("detail", "")))
    return moved


def _note(connection: sa.Connection, job_id: str, state: str, detail: str, destination: str = "") -> None:
    """Keep that this happened."""
    row = {"job_id": job_id, "at": _now(), "destination": destination, "state": state, "detail": detail}
    connection.execute(HISTORY.insert().values(row))


def _close_when_ended(connection: sa.Connection, job_id: str) -> None:
    states = set(connection.scalars(sa.select(DELIVERIES.c.state).where(DELIVERIES.c.job_id == job_id)))
    if not states or states & set(OPEN):
        return
    bad = [s for s in ((Sent.FAILED, State.UNDELIVERED), (Sent.CANCELLED, State.CANCELLED)) if s[0] in states]
    _move(connection, job_id, None, state=bad[0][1] if bad else State.DONE)


def _new_ticket() -> str:
    return uuid4().hex[:12]


def _now() -> str:
    return datetime.now(UTC).isoformat()
