"""What became of each series: the operator's book.

The truth is on disk (the spool, the results) and in the durable workflows; the book is what
``status`` and ``explain`` read, from another process too. It holds no patient data.

Each job and each delivery has a *ticket*: work is done for the one that the book shows, and
an operator's order writes a new one. So what was cancelled or begun anew ends by itself,
wherever it is, and nothing has to be stopped from outside.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.errors import Cancelled, StorageExhausted
from dicom_node.series.selection import Verdict
from dicom_node.workflow.database import add_missing_columns, open_sqlite
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
_STOPPED = "it was cancelled or begun anew"


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
    folder: str | None
    updated_at: datetime
    trace: tuple[Verdict, ...]
    deliveries: tuple[Delivery, ...]


_tables = sa.MetaData()
_jobs = sa.Table(
    "jobs",
    _tables,
    sa.Column("job_id", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False, server_default="0"),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("series_instance_uid", sa.String, nullable=False, index=True),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False, server_default="2"),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("outcome", sa.String),
    sa.Column("detail", sa.String, nullable=False, server_default=""),
    sa.Column("remedy", sa.String, nullable=False, server_default=""),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("since", sa.String),
    sa.Column("ticket", sa.String, nullable=False, server_default=""),
    sa.Column("ordered", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("pipeline", sa.String),
    sa.Column("folder", sa.String),
    sa.Column("trace", sa.String, nullable=False, server_default="[]"),
    sa.Column("created_at", sa.String, nullable=False),
    sa.Column("updated_at", sa.String, nullable=False, index=True),
)
_deliveries = sa.Table(
    "deliveries",
    _tables,
    sa.Column("job_id", sa.String, sa.ForeignKey("jobs.job_id"), primary_key=True),
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("detail", sa.String, nullable=False),
    sa.Column("remedy", sa.String, nullable=False, server_default=""),
    sa.Column("since", sa.String),
    sa.Column("ticket", sa.String, nullable=False, server_default=""),
    sa.Column("ordered", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("parcel", sa.String, nullable=False, server_default=""),
)


class Ledger:
    """The book, in one SQLite file.

    Parameters
    ----------
    path : the file; made when missing
    """

    def __init__(self, path: Path) -> None:
        self._engine = open_sqlite(path)
        _tables.create_all(self._engine)
        if add_missing_columns(self._engine, _tables):  # a book of an earlier release
            with self._writing() as connection:
                connection.execute(sa.text("UPDATE jobs SET number = rowid WHERE number = 0"))

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.OperationalError as error:  # full, locked, read-only
            raise StorageExhausted(f"the book cannot be written: {error.orig}") from error

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            raise StorageExhausted(f"the book cannot be read: {error.orig}") from error

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
    ) -> bool:
        """Enter a new job; False when it was entered before.

        Parameters
        ----------
        ordered : the node is to take it up; otherwise the caller does
        version : of a job that was lost; a new one gets the next
        """
        number = sa.select(sa.func.coalesce(sa.func.max(_jobs.c.number), 0) + 1).scalar_subquery()
        of_series = _jobs.c.series_instance_uid == series_instance_uid
        latest = sa.select(sa.func.coalesce(sa.func.max(_jobs.c.version), 0) + 1).where(of_series)
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
            "created_at": _now(),
            "updated_at": _now(),
        }
        with self._writing() as connection:
            return connection.execute(insert(_jobs).values(row).on_conflict_do_nothing()).rowcount == 1

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
            The ticket is no longer the job's.
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
            given["since"] = sa.func.coalesce(_jobs.c.since, _now()) if remedy else None
        with self._writing() as connection:
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
                connection.execute(insert(_deliveries).values(row).on_conflict_do_nothing())
            if parcels:
                _close_when_ended(connection, job_id)  # made again, when all was sent before

    def deliver(self, job_id: str, delivery: Delivery) -> None:
        """Enter how a delivery stands, and close the job when its last one has ended.

        Raises
        ------
        Cancelled
            The delivery's ticket is no longer the one in the book, or it was cancelled; but what
            has been sent is entered as sent.
        """
        values: dict[str, Any] = {
            "state": delivery.state,
            "attempts": delivery.attempts,
            "detail": delivery.detail,
            "remedy": delivery.remedy,
            "since": sa.func.coalesce(_deliveries.c.since, _now()) if delivery.remedy else None,
        }
        this = _delivery_is(job_id, delivery.destination) & (_deliveries.c.ticket == delivery.ticket)
        if delivery.state not in (Sent.DONE, Sent.COMMITTED):
            this &= _deliveries.c.state != Sent.CANCELLED
        with self._writing() as connection:
            if connection.execute(_deliveries.update().where(this).values(values)).rowcount == 0:
                raise Cancelled(_STOPPED)
            _close_when_ended(connection, job_id)

    def need(self, job_id: str, ticket: str, destination: str | None = None) -> None:
        """See that work with this ticket is still wanted for a job, or for one of its deliveries.

        Raises
        ------
        Cancelled
        """
        if destination is None:
            query = sa.select(_jobs.c.state).where(_jobs.c.job_id == job_id, _jobs.c.ticket == ticket)
        else:
            this = _delivery_is(job_id, destination)
            query = sa.select(_deliveries.c.state).where(this, _deliveries.c.ticket == ticket)
        with self._reading() as connection:
            state = connection.scalar(query)
        # A step may run again after its own last word, so that only a cancelled one is not wanted
        if state in (None, State.CANCELLED):
            raise Cancelled(_STOPPED)

    # Orders of operators, written by another process; the node takes them up.

    def cancel(self, job_id: str, destination: str | None = None) -> bool:
        """Cancel a job with its open deliveries, or one delivery; False when nothing was open."""
        pending = sa.and_(_deliveries.c.job_id == job_id, _deliveries.c.state.in_(OPEN))
        if destination is not None:
            pending &= _deliveries.c.destination == destination
        with self._writing() as connection:
            stop = {"state": Sent.CANCELLED, "detail": "cancelled by an operator", "ordered": False}
            stopped = connection.execute(_deliveries.update().where(pending).values(stop)).rowcount
            if destination is None:
                running = (_jobs.c.job_id == job_id) & _jobs.c.state.in_((State.WAITING, State.ANALYSING))
                change = _jobs.update().where(running).values(**stop, updated_at=_now())
                stopped += connection.execute(change).rowcount
            if stopped:
                _close_when_ended(connection, job_id)
        return stopped > 0

    def order_job(self, job_id: str, detail: str) -> None:
        """Let the node work on a job once more, from the start."""
        with self._writing() as connection:
            fresh = {"state": State.WAITING, "detail": detail, "remedy": "", "attempts": 0, "since": None}
            _move(connection, job_id, None, **fresh, ordered=True, ticket=_new_ticket())

    def order_delivery(self, job_id: str, destination: str, detail: str) -> None:
        """Let the node send the same files once more."""
        fresh = {"state": Sent.PENDING, "detail": detail, "remedy": "", "attempts": 0, "since": None}
        change = _deliveries.update().where(_delivery_is(job_id, destination))
        with self._writing() as connection:
            connection.execute(change.values(**fresh, ordered=True, ticket=_new_ticket()))
            _move(connection, job_id, None, state=State.SENDING)

    def ordered(self) -> tuple[list[Entry], list[tuple[Entry, Delivery]]]:
        """Jobs and deliveries that the node is to take up."""
        with self._reading() as connection:
            jobs = list(connection.scalars(sa.select(_jobs.c.job_id).where(_jobs.c.ordered)))
            deliveries = connection.execute(sa.select(_deliveries).where(_deliveries.c.ordered)).all()
        if not jobs and not deliveries:
            return [], []
        of_these = _jobs.c.job_id.in_([*jobs, *(row.job_id for row in deliveries)])
        entries = {entry.job_id: entry for entry in self._entries(of_these)}
        return [entries[job] for job in jobs], [(entries[row.job_id], _delivery(row)) for row in deliveries]

    def taken_up(self, ticket: str) -> None:
        """Note that the work with this ticket has its workflow."""
        with self._writing() as connection:
            for table in (_jobs, _deliveries):
                connection.execute(table.update().where(table.c.ticket == ticket).values(ordered=False))

    # What is in the book.

    def has_ended(self, job_id: str) -> bool:
        """Whether a job was entered and nothing is left to do for it."""
        query = sa.select(_jobs.c.state).where(_jobs.c.job_id == job_id)
        with self._reading() as connection:
            return connection.scalar(query) in ENDED

    def earlier_result(self, job_id: str) -> Path | None:
        """Folder of the result that came before this job's for the same series."""
        this = sa.select(_jobs.c.series_instance_uid, _jobs.c.version).where(_jobs.c.job_id == job_id)
        with self._reading() as connection:
            series_instance_uid, version = connection.execute(this).one()
            folder = connection.scalar(
                sa.select(_jobs.c.folder)
                .where(_jobs.c.series_instance_uid == series_instance_uid)
                .where(_jobs.c.version < version, _jobs.c.folder.is_not(None))
                .order_by(_jobs.c.version.desc())
                .limit(1)
            )
        return None if folder is None else Path(folder)

    def series_instance_uids(self) -> set[str]:
        """Every series that was complete at least once."""
        with self._reading() as connection:
            return set(connection.scalars(sa.select(_jobs.c.series_instance_uid).distinct()))

    def job_ids(self) -> set[str]:
        """Every job in the book."""
        with self._reading() as connection:
            return set(connection.scalars(sa.select(_jobs.c.job_id)))

    def entry(self, job_id: str) -> Entry | None:
        """Look up one job."""
        return next(iter(self._entries(_jobs.c.job_id == job_id)), None)

    def entry_by_number(self, number: int) -> Entry | None:
        """Look up the job that operators call by this number."""
        return next(iter(self._entries(_jobs.c.number == number)), None)

    def entries(self, *, series_instance_uid: str | None = None, limit: int = 100) -> list[Entry]:
        """List jobs, the latest first."""
        if series_instance_uid is None:
            return self._entries(sa.true(), limit)
        return self._entries(_jobs.c.series_instance_uid == series_instance_uid, limit)

    def unfinished(self) -> list[Entry]:
        """List jobs of which something has not ended."""
        return self._entries(_jobs.c.state.not_in(ENDED))

    def failed(self) -> list[Entry]:
        """List the jobs that need a person: not delivered, without a result, or with a failed analysis.

        A failed analysis counts until a later version of the series has been analysed.
        """
        later = _jobs.alias()
        replaced = sa.exists().where(
            later.c.series_instance_uid == _jobs.c.series_instance_uid, later.c.version > _jobs.c.version
        )
        undelivered = sa.exists().where(
            _deliveries.c.job_id == _jobs.c.job_id, _deliveries.c.state == Sent.FAILED
        )
        analysis_failed = (_jobs.c.outcome == Outcome.FAILED) & (_jobs.c.state != State.CANCELLED)
        return self._entries(
            undelivered | (((_jobs.c.state == State.FAILED) | analysis_failed) & ~replaced),
        )

    def _entries(self, condition: sa.ColumnElement[bool], limit: int | None = None) -> list[Entry]:
        query = sa.select(_jobs).where(condition).order_by(_jobs.c.updated_at.desc(), _jobs.c.number.desc())
        with self._reading() as connection:
            rows = connection.execute(query.limit(limit)).all()
            keys = [row.job_id for row in rows]
            sent = connection.execute(sa.select(_deliveries).where(_deliveries.c.job_id.in_(keys))).all()
        return [_entry(row, [d for d in sent if d.job_id == row.job_id]) for row in rows]


def _delivery_is(job_id: str, destination: str) -> sa.ColumnElement[bool]:
    return (_deliveries.c.job_id == job_id) & (_deliveries.c.destination == destination)


def _move(connection: sa.Connection, job_id: str, needed: str | None, **values: object) -> bool:
    this = _jobs.c.job_id == job_id
    if needed is not None:
        this &= (_jobs.c.ticket == needed) & (_jobs.c.state != State.CANCELLED)
    change = _jobs.update().where(this).values(**values | {"updated_at": _now()})
    return connection.execute(change).rowcount > 0


def _close_when_ended(connection: sa.Connection, job_id: str) -> None:
    states = set(connection.scalars(sa.select(_deliveries.c.state).where(_deliveries.c.job_id == job_id)))
    if not states or states & set(OPEN):
        return
    bad = [s for s in ((Sent.FAILED, State.UNDELIVERED), (Sent.CANCELLED, State.CANCELLED)) if s[0] in states]
    _move(connection, job_id, None, state=bad[0][1] if bad else State.DONE)


def _entry(row: sa.Row[tuple[object, ...]], deliveries: Sequence[sa.Row[tuple[object, ...]]]) -> Entry:
    return Entry(
        job_id=row.job_id,
        number=row.number,
        version=row.version,
        series_instance_uid=row.series_instance_uid,
        instances=row.instances,
        priority=row.priority,
        state=State(row.state),
        outcome=Outcome(row.outcome) if row.outcome else None,
        detail=row.detail,
        remedy=row.remedy,
        attempts=row.attempts,
        since=_stamp(row.since),
        ticket=row.ticket,
        ordered=row.ordered,
        pipeline=row.pipeline,
        folder=row.folder,
        updated_at=datetime.fromisoformat(row.updated_at),
        trace=tuple(Verdict(*verdict) for verdict in json.loads(row.trace)),
        deliveries=tuple(map(_delivery, deliveries)),
    )


def _delivery(row: sa.Row[tuple[object, ...]]) -> Delivery:
    return Delivery(
        row.destination,
        Sent(row.state),
        row.attempts,
        row.detail,
        row.remedy,
        _stamp(row.since),
        row.ticket,
        row.ordered,
        row.parcel,
    )


def _stamp(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _new_ticket() -> str:
    return uuid4().hex[:12]


def _now() -> str:
    return datetime.now(UTC).isoformat()
