"""The book's tables, and what can be read in them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from dicom_node.series.selection import Verdict
from dicom_node.workflow.database import Database
from dicom_node.workflow.entry import ENDED, Delivery, Entry, Happened, Ran, Sent, State
from dicom_node.workflow.worked import Outcome

TABLES = sa.MetaData()
JOBS = sa.Table(
    "jobs",
    TABLES,
    sa.Column("job_id", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False, server_default="0", index=True),
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
    sa.Column("bundle", sa.String),
    sa.Column("folder", sa.String),
    sa.Column("trace", sa.String, nullable=False, server_default="[]"),
    sa.Column("created_at", sa.String, nullable=False),
    sa.Column("updated_at", sa.String, nullable=False, index=True),
)
DELIVERIES = sa.Table(
    "deliveries",
    TABLES,
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
HISTORY = sa.Table(
    "history",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("job_id", sa.String, nullable=False, index=True),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("destination", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("detail", sa.String, nullable=False),
)


class Book:
    """The book as its readers see it.

    Parameters
    ----------
    where : a SQLite file, made when missing, or the database that holds the book
    """

    def __init__(self, where: Path | Database) -> None:
        self.database = where if isinstance(where, Database) else Database.in_file(where)
        is_older = self.database.make(TABLES)
        if is_older and not self.database.is_shared:  # a book of before there were numbers
            with self.database.writing() as connection:
                connection.execute(sa.text("UPDATE jobs SET number = rowid WHERE number = 0"))

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    def ordered(self) -> tuple[list[Entry], list[tuple[Entry, Delivery]]]:
        """Jobs and deliveries that the node is to take up."""
        with self.database.reading() as connection:
            jobs = list(connection.scalars(sa.select(JOBS.c.job_id).where(JOBS.c.ordered)))
            deliveries = connection.execute(sa.select(DELIVERIES).where(DELIVERIES.c.ordered)).all()
        if not jobs and not deliveries:
            return [], []
        of_these = JOBS.c.job_id.in_([*jobs, *(row.job_id for row in deliveries)])
        entries = {entry.job_id: entry for entry in self._entries(of_these)}
        return [entries[job] for job in jobs], [(entries[row.job_id], _delivery(row)) for row in deliveries]

    def has_ended(self, job_id: str) -> bool:
        """Whether a job was entered and nothing is left to do for it."""
        query = sa.select(JOBS.c.state).where(JOBS.c.job_id == job_id)
        with self.database.reading() as connection:
            return connection.scalar(query) in ENDED

    def earlier_result(self, job_id: str) -> Path | None:
        """Folder of the result that came before this job's for the same series."""
        this = sa.select(JOBS.c.series_instance_uid, JOBS.c.version).where(JOBS.c.job_id == job_id)
        with self.database.reading() as connection:
            series_instance_uid, version = connection.execute(this).one()
            folder = connection.scalar(
                sa.select(JOBS.c.folder)
                .where(JOBS.c.series_instance_uid == series_instance_uid)
                .where(JOBS.c.version < version, JOBS.c.folder.is_not(None))
                .order_by(JOBS.c.version.desc())
                .limit(1)
            )
        return None if folder is None else Path(folder)

    def analysed_before(self, job_id: str) -> int | None:
        """Version of the same series, an earlier one, that is being analysed now; None without one."""
        this = sa.select(JOBS.c.series_instance_uid, JOBS.c.version).where(JOBS.c.job_id == job_id).subquery()
        query = sa.select(sa.func.max(JOBS.c.version)).where(
            JOBS.c.series_instance_uid == this.c.series_instance_uid,
            JOBS.c.version < this.c.version,
            JOBS.c.state == State.ANALYSING,
        )
        with self.database.reading() as connection:
            version: int | None = connection.scalar(query)
        return version

    def series_instance_uids(self) -> set[str]:
        """Every series that was complete at least once."""
        with self.database.reading() as connection:
            return set(connection.scalars(sa.select(JOBS.c.series_instance_uid).distinct()))

    def job_ids(self) -> set[str]:
        """Every job in the book."""
        with self.database.reading() as connection:
            return set(connection.scalars(sa.select(JOBS.c.job_id)))

    def entry(self, job_id: str) -> Entry | None:
        """Look up one job."""
        return next(iter(self._entries(JOBS.c.job_id == job_id)), None)

    def entry_by_number(self, number: int) -> Entry | None:
        """Look up the job that operators call by this number."""
        return next(iter(self._entries(JOBS.c.number == number)), None)

    def entries(self, *, series_instance_uid: str | None = None, limit: int = 100) -> list[Entry]:
        """List jobs, the latest first."""
        if series_instance_uid is None:
            return self._entries(sa.true(), limit)
        return self._entries(JOBS.c.series_instance_uid == series_instance_uid, limit)

    def page(
        self,
        condition: sa.ColumnElement[bool],
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> list[Entry]:
        """List jobs, the latest taken on first: those before a number, or the next ones after it.

        Parameters
        ----------
        condition : from :func:`dicom_node.workflow.listing.condition_of`
        """
        if before is not None:
            condition &= JOBS.c.number < before
        if after is None:
            return self._entries(condition, limit, JOBS.c.number.desc())
        return self._entries(condition & (JOBS.c.number > after), limit, JOBS.c.number.asc())[::-1]

    def history(self, job_id: str) -> list[Happened]:
        """List the states of a job and of its deliveries, the first first."""
        query = sa.select(HISTORY).where(HISTORY.c.job_id == job_id).order_by(HISTORY.c.number)
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            Happened(datetime.fromisoformat(row.at), row.destination, row.state, row.detail) for row in rows
        ]

    def changes(self) -> int:
        """Count what ever happened: the same number again means that nothing has."""
        with self.database.reading() as connection:
            return connection.scalar(sa.select(sa.func.coalesce(sa.func.max(HISTORY.c.number), 0))) or 0

    def ran_since(self, when: datetime) -> list[Ran]:
        """List when the jobs were taken on and ended that were touched since."""
        columns = (JOBS.c.created_at, JOBS.c.updated_at, JOBS.c.state, JOBS.c.outcome)
        query = sa.select(*columns).where(JOBS.c.updated_at >= when.isoformat())
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(JOBS.c.updated_at)).all()
        return [
            Ran(
                datetime.fromisoformat(row.created_at),
                datetime.fromisoformat(row.updated_at),
                State(row.state),
                Outcome(row.outcome) if row.outcome else None,
            )
            for row in rows
        ]

    def unfinished(self) -> list[Entry]:
        """List jobs of which something has not ended."""
        return self._entries(JOBS.c.state.not_in(ENDED))

    def failed(self) -> list[Entry]:
        """List the jobs that need a person: not delivered, without a result, or with a failed analysis.

        A failed analysis counts until a later version of the series has been analysed.
        """
        return self._entries(_needs_a_person())

    def count_failed(self) -> int:
        """Count the jobs that `failed` lists."""
        query = sa.select(sa.func.count()).select_from(JOBS).where(_needs_a_person())
        with self.database.reading() as connection:
            return connection.scalar(query) or 0

    def _entries(
        self,
        condition: sa.ColumnElement[bool],
        limit: int | None = None,
        *order: sa.ColumnElement[object],
    ) -> list[Entry]:
        order = order or (JOBS.c.updated_at.desc(), JOBS.c.number.desc())
        query = sa.select(JOBS).where(condition).order_by(*order)
        with self.database.reading() as connection:
            rows = connection.execute(query.limit(limit)).all()
            keys = [row.job_id for row in rows]
            these = sa.select(DELIVERIES).where(DELIVERIES.c.job_id.in_(keys))
            sent = connection.execute(these.order_by(DELIVERIES.c.destination)).all()
        of_job = defaultdict(list)
        for each in sent:
            of_job[each.job_id].append(each)
        return [_entry(row, of_job[row.job_id]) for row in rows]


def _needs_a_person() -> sa.ColumnElement[bool]:
    """Say of a job whether `Book.failed` lists it."""
    later = JOBS.alias()
    replaced = sa.exists().where(
        later.c.series_instance_uid == JOBS.c.series_instance_uid, later.c.version > JOBS.c.version
    )
    undelivered = sa.exists().where(DELIVERIES.c.job_id == JOBS.c.job_id, DELIVERIES.c.state == Sent.FAILED)
    analysis_failed = (JOBS.c.outcome == Outcome.FAILED) & (JOBS.c.state != State.CANCELLED)
    return undelivered | (((JOBS.c.state == State.FAILED) | analysis_failed) & ~replaced)


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
        bundle=row.bundle,
        folder=row.folder,
        created_at=datetime.fromisoformat(row.created_at),
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
