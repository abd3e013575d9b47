"""What became of each series: the operator's book.

The truth is on disk (the spool, the results) and in the durable workflows; the book is what
``status`` and ``explain`` read, from another process too. It holds no patient data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.errors import StorageExhausted
from dicom_node.series.selection import Verdict
from dicom_node.workflow.database import open_sqlite
from dicom_node.workflow.worked import Outcome


class State(StrEnum):
    """Where a series' job is on its way."""

    WAITING = "waiting"
    ANALYSING = "analysing"
    SENDING = "sending"
    DONE = "done"
    SKIPPED = "skipped"
    UNDELIVERED = "undelivered"


ENDED = frozenset((State.DONE, State.SKIPPED, State.UNDELIVERED))


class Sent(StrEnum):
    """Where a delivery is."""

    PENDING = "pending"
    RETRYING = "retrying"
    DONE = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One result's way to one destination."""

    destination: str
    state: Sent
    attempts: int
    detail: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one series."""

    job_id: str
    series_instance_uid: str
    instances: int
    state: State
    outcome: Outcome | None
    detail: str
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
    sa.Column("series_instance_uid", sa.String, nullable=False, index=True),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("outcome", sa.String),
    sa.Column("detail", sa.String, nullable=False, default=""),
    sa.Column("pipeline", sa.String),
    sa.Column("folder", sa.String),
    sa.Column("trace", sa.String, nullable=False, default="[]"),
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

    def open_job(self, job_id: str, series_instance_uid: str, instances: int) -> bool:
        """Enter a new job; False when it was entered before."""
        row = {
            "job_id": job_id,
            "series_instance_uid": series_instance_uid,
            "instances": instances,
            "state": State.WAITING,
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
        outcome: Outcome | None = None,
        detail: str | None = None,
        pipeline: str | None = None,
        folder: Path | None = None,
        trace: Iterable[Verdict] | None = None,
    ) -> None:
        """Move a job on; what is None stays as it is."""
        values = {
            "outcome": outcome,
            "detail": detail,
            "pipeline": pipeline,
            "folder": None if folder is None else str(folder),
            "trace": None if trace is None else json.dumps([(v.rule, v.passed, v.detail) for v in trace]),
        }
        given = {key: value for key, value in values.items() if value is not None}
        change = _jobs.update().where(_jobs.c.job_id == job_id)
        with self._writing() as connection:
            connection.execute(change.values(state=state, updated_at=_now(), **given))

    def deliver(self, job_id: str, delivery: Delivery) -> None:
        """Enter how a delivery stands, and close the job when its last one has ended."""
        values = {
            "state": delivery.state,
            "attempts": delivery.attempts,
            "detail": delivery.detail,
        }
        key = {"job_id": job_id, "destination": delivery.destination}
        change = insert(_deliveries).values(**key, **values)
        with self._writing() as connection:
            connection.execute(change.on_conflict_do_update(index_elements=list(key), set_=values))
            of_job = sa.select(_deliveries.c.state).where(_deliveries.c.job_id == job_id)
            states = set(connection.scalars(of_job))
            if states <= {Sent.DONE, Sent.FAILED}:
                state = State.UNDELIVERED if Sent.FAILED in states else State.DONE
                done = _jobs.update().where(_jobs.c.job_id == job_id)
                connection.execute(done.values(state=state, updated_at=_now()))

    def has_ended(self, job_id: str) -> bool:
        """Whether a job was entered and nothing is left to do for it."""
        query = sa.select(_jobs.c.state).where(_jobs.c.job_id == job_id)
        with self._engine.connect() as connection:
            return connection.scalar(query) in ENDED

    def earlier_result(self, job_id: str) -> Path | None:
        """Folder of the result that came before this job's for the same series."""
        this = sa.select(_jobs.c.series_instance_uid, _jobs.c.created_at).where(_jobs.c.job_id == job_id)
        with self._engine.connect() as connection:
            series_instance_uid, created_at = connection.execute(this).one()
            folder = connection.scalar(
                sa.select(_jobs.c.folder)
                .where(_jobs.c.series_instance_uid == series_instance_uid)
                .where(_jobs.c.created_at < created_at, _jobs.c.folder.is_not(None))
                .order_by(_jobs.c.created_at.desc())
                .limit(1)
            )
        return None if folder is None else Path(folder)

    def series_instance_uids(self) -> set[str]:
        """Every series that was complete at least once."""
        with self._engine.connect() as connection:
            return set(connection.scalars(sa.select(_jobs.c.series_instance_uid).distinct()))

    def open_deliveries(self) -> list[tuple[str, Delivery]]:
        """Deliveries that have not ended, each with its job's id."""
        query = sa.select(_deliveries).where(_deliveries.c.state.in_((Sent.PENDING, Sent.RETRYING)))
        with self._engine.connect() as connection:
            return [(row.job_id, _delivery(row)) for row in connection.execute(query)]

    def entries(self, *, series_instance_uid: str | None = None, limit: int = 100) -> list[Entry]:
        """List jobs, the latest first."""
        query = sa.select(_jobs).order_by(_jobs.c.updated_at.desc()).limit(limit)
        if series_instance_uid is not None:
            query = query.where(_jobs.c.series_instance_uid == series_instance_uid)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
            keys = [row.job_id for row in rows]
            sent = connection.execute(sa.select(_deliveries).where(_deliveries.c.job_id.in_(keys))).all()
        return [_entry(row, [d for d in sent if d.job_id == row.job_id]) for row in rows]


def _entry(row: sa.Row[tuple[object, ...]], deliveries: Sequence[sa.Row[tuple[object, ...]]]) -> Entry:
    return Entry(
        job_id=row.job_id,
        series_instance_uid=row.series_instance_uid,
        instances=row.instances,
        state=State(row.state),
        outcome=Outcome(row.outcome) if row.outcome else None,
        detail=row.detail,
        pipeline=row.pipeline,
        folder=row.folder,
        updated_at=datetime.fromisoformat(row.updated_at),
        trace=tuple(Verdict(*verdict) for verdict in json.loads(row.trace)),
        deliveries=tuple(map(_delivery, deliveries)),
    )


def _delivery(row: sa.Row[tuple[object, ...]]) -> Delivery:
    return Delivery(row.destination, Sent(row.state), row.attempts, row.detail)


def _now() -> str:
    return datetime.now(UTC).isoformat()
