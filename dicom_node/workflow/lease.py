"""Who of several processes is alive, and which of them leads.

Each process holds a lock of PostgreSQL under its name for as long as its session lives (an advisory
lock): ``kill -9`` frees it at once, a host without power after a few seconds without an answer; a process
that ends in order frees it, too. What a dead one leaves behind is the matter of
:mod:`dicom_node.workflow.watch`.

One process leads: it does what must not be done by two at a time. That is a lock, too.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from dicom_node.errors import ConfigurationError, DatabaseUnavailable
from dicom_node.workflow.database import Database
from dicom_node.workflow.engine import SHAPE
from dicom_node.workflow.roles import Role, Roles

PATIENCE_S = 10.0  # for the lock of a process of the same name that has just died
# A host that is gone without a word loses its session after about five seconds
_WATCHFUL = (
    "SET tcp_keepalives_idle = 2",
    "SET tcp_keepalives_interval = 1",
    "SET tcp_keepalives_count = 3",
    "SET idle_session_timeout = 0",
)


def _key(name: str) -> int:
    """Key of the lock of a name: 63 bits, as PostgreSQL takes and shows them alike."""
    digest = hashlib.sha256(f"dicom-node {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _key_of(executor: str) -> int:
    return _key(f"executor {executor}")


_LEADER = _key("leader")

_tables = sa.MetaData()
_executors = sa.Table(
    "executors",
    _tables,
    sa.Column("executor", sa.String, primary_key=True),
    sa.Column("roles", sa.String, nullable=False),
    sa.Column("shape", sa.String, nullable=False),
    sa.Column("since", sa.String, nullable=False),
)

log = structlog.get_logger()


@dataclass(frozen=True)
class Executor:
    """A process that shares the database.

    Attributes
    ----------
    shape : of the workflows that it runs
    """

    name: str
    roles: Roles
    shape: str


class Lease:
    """The place of this process among those of a database; alone where that is a SQLite file.

    Parameters
    ----------
    database : of the workflows
    executor : name of this process
    """

    def __init__(self, database: Database, executor: str, roles: Roles) -> None:
        self._database, self._me = database, Executor(executor, roles, SHAPE)
        self._session: sa.Connection | None = None
        self._leads = False
        self._shapes = {SHAPE}
        self._stolen_at: float | None = None
        self._using = threading.Lock()

    def take(self) -> None:
        """Take this process's place.

        Raises
        ------
        ConfigurationError
            Another process has it.
        DatabaseUnavailable
        """
        if not self._database.is_shared:
            self._leads = True
            return
        self._database.make(_tables)
        deadline = time.monotonic() + PATIENCE_S
        while not self._open():
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"database.executor: {self._me.name!r} is in use by another process of this database; "
                    "give each a name of its own"
                )
            time.sleep(0.5)
        self._enter()

    def keep(self) -> bool:
        """See that the place is still held, and take it anew where the session was lost; False: it is not."""
        if not self._database.is_shared:
            return True
        try:
            with self._asking() as session:
                if session is not None:
                    self._leads = self._leads or _try_lock(session, _LEADER)
                    return True
            if self._open():
                self._enter()
                self._stolen_at = None
                log.warning("lease_taken_anew", executor=self._me.name)
                return True
        except DatabaseUnavailable:
            return False
        now = time.monotonic()
        self._stolen_at = self._stolen_at or now
        if now - self._stolen_at > 2 * PATIENCE_S:
            log.error(
                "lease_lost_to_another", executor=self._me.name, remedy="give each process its own name"
            )
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    @property
    def is_kept(self) -> bool:
        """Whether the place was held when last looked at."""
        return self._session is not None or not self._database.is_shared

    @property
    def leads(self) -> bool:
        """Whether this process does what is nobody's part."""
        return self._leads

    def shapes(self) -> set[str]:
        """Shapes of workflows that a process runs, as last seen."""
        return self._shapes

    def others(self) -> tuple[list[Executor], list[Executor]]:
        """Look which other processes are alive, and which are not.

        Raises
        ------
        DatabaseUnavailable
        """
        if not self._database.is_shared:
            return [], []
        held = sa.text(
            "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory'"
            " AND objsubid = 1 AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        with self._database.reading() as connection:
            locks = set(connection.scalars(held))
            rows = connection.execute(
                sa.select(_executors).where(_executors.c.executor != self._me.name)
            ).all()
        known = [Executor(row.executor, frozenset(map(Role, row.roles.split())), row.shape) for row in rows]
        alive = [each for each in known if _key_of(each.name) in locks]
        self._shapes = {SHAPE, *(each.shape for each in alive)}
        return alive, [each for each in known if each not in alive]

    @contextmanager
    def in_place_of(self, other: Executor) -> Iterator[bool]:
        """Hold the place of a process that is gone; False when somebody else holds it."""
        with self._database.telling():
            session = self._session_of_its_own()
        try:
            with self._database.telling():
                taken = _try_lock(session, _key_of(other.name))
            yield taken
        finally:
            with suppress(sa.exc.DBAPIError):
                session.close()

    def forget(self, other: Executor) -> None:
        """Strike out a process that left nothing behind any more; to be called in its place."""
        with self._database.writing() as connection:
            connection.execute(_executors.delete().where(_executors.c.executor == other.name))

    def leave(self) -> None:
        """Give the place back: the others take over what is left."""
        with self._using:
            if self._session is not None and self._database.is_shared:
                with suppress(sa.exc.DBAPIError):  # the server sees a closed session only a moment later
                    self._session.execute(sa.text("SELECT pg_advisory_unlock_all()"))
            self._close()

    def _enter(self) -> None:
        row = {
            "executor": self._me.name,
            "roles": " ".join(sorted(self._me.roles)),
            "shape": self._me.shape,
            "since": datetime.now(UTC).isoformat(),
        }
        with self._database.writing() as connection:
            connection.execute(_executors.delete().where(_executors.c.executor == self._me.name))
            connection.execute(_executors.insert().values(row))

    def _open(self) -> bool:
        """Open a session of our own and lock our name in it; False when somebody else has it."""
        with self._using, self._database.telling():
            session = self._session_of_its_own()
            try:
                if _try_lock(session, _key_of(self._me.name)):
                    self._leads = _try_lock(session, _LEADER)
                    self._session = session
                    return True
            except BaseException:
                session.close()
                raise
            session.close()
            return False

    def _session_of_its_own(self) -> sa.Connection:
        """Open a session that is in no pool: what is locked in it is free when it is closed."""
        session = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        session.detach()
        for setting in _WATCHFUL:
            session.execute(sa.text(setting))
        return session

    @contextmanager
    def _asking(self) -> Iterator[sa.Connection | None]:
        """Use the session; None when it is lost."""
        with self._using:
            if self._session is not None:
                try:
                    self._session.execute(sa.text("SELECT 1"))
                except sa.exc.DBAPIError:
                    log.warning("lease_session_lost", executor=self._me.name)
                    self._close()
            yield self._session

    def _close(self) -> None:
        session, self._session = self._session, None
        self._leads = self._leads and not self._database.is_shared
        if session is not None:
            with suppress(sa.exc.DBAPIError):
                session.close()


def _try_lock(session: sa.Connection, key: int) -> bool:
    return bool(session.scalar(sa.select(sa.func.pg_try_advisory_lock(key))))
