"""Where book, transactions and workflows are kept: SQLite files in the node's folder, or one PostgreSQL.

SQLite as the node wants it: readers beside one writer, and durable at every commit. PostgreSQL is for
several nodes that share their work; there too one transaction writes at a time, so that neither has
states that the other has not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.pool import ConnectionPoolEntry

from dicom_node.errors import ConfigurationError, DatabaseUnavailable, StorageExhausted, TransientError
from dicom_node.settings import Settings

OLDEST = (14,)  # PostgreSQL of 2021; sessions can be told to live as long as they are used since
CONNECT_S = 5
# A peer that is gone without a word is noticed after about ten seconds, in every call (libpq's names)
_PATIENCE = {
    "connect_timeout": CONNECT_S,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}
# And by the server: a host that stands still or has no power within a transaction keeps nobody waiting
_IMPATIENCE = "-c idle_in_transaction_session_timeout=10000"
_WRITER = 0x0D1C0_0001  # of the advisory lock that a writer holds until its transaction ends
# As many as there may be workflows, polls of queues and requests at a time
_POOL = {"pool_size": 10, "max_overflow": 20, "pool_timeout": 30, "pool_pre_ping": True}
_MADE_AGAIN = (
    "when it is damaged, move it away with its -wal and -shm; the node makes it again from the spool and "
    "the results"
)


class Database:
    """Tables in a SQLite file or in PostgreSQL.

    Parameters
    ----------
    engine : made by `in_file` or `on_server`
    name : how errors call it
    """

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self.engine, self.name = engine, name

    @classmethod
    def in_file(cls, path: Path, remedy: str = _MADE_AGAIN) -> Self:
        """Open a SQLite file, made when missing, in WAL mode with full synchronisation.

        Parameters
        ----------
        remedy : for one that is damaged

        Raises
        ------
        ConfigurationError
            The file is damaged, or cannot be opened.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

        @sa.event.listens_for(engine, "connect")
        def _pragmas(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")

        try:
            with engine.connect() as connection:
                connection.execute(sa.text("SELECT count(*) FROM sqlite_master"))
        except sa.exc.DatabaseError as error:
            engine.dispose()
            raise ConfigurationError(f"{path} cannot be used ({error.orig}): {remedy}") from error
        return cls(engine, path.name)

    @classmethod
    def on_server(cls, url: sa.URL) -> Self:
        """Connect to a PostgreSQL database.

        Raises
        ------
        ConfigurationError
            It does not answer, is not there, lets us not in, or is too old.
        """
        shown = sa.URL.create("postgresql", url.username, None, url.host, url.port, url.database)
        options = " ".join((*url.normalized_query.get("options", ()), _IMPATIENCE))
        engine = sa.create_engine(url, connect_args={**_PATIENCE, "options": options}, **_POOL)
        try:
            with engine.connect() as connection:
                version = connection.dialect.server_version_info or OLDEST
        except sa.exc.DBAPIError as error:
            engine.dispose()
            raise ConfigurationError(
                f"database.url: {shown} cannot be used ({_first_line(error.orig)}): start the database, or "
                "correct [database]"
            ) from None
        if version < OLDEST:
            engine.dispose()
            raise ConfigurationError(
                f"database.url: {shown} is PostgreSQL {version[0]}; {OLDEST[0]} is needed"
            )
        return cls(engine, f"the database {shown}")

    @property
    def is_shared(self) -> bool:
        """Whether other hosts can use it too."""
        return self.engine.dialect.name == "postgresql"

    def make(self, tables: sa.MetaData) -> bool:
        """Make missing tables, and in those of an earlier release new columns and indexes.

        Returns
        -------
        Whether there were new columns.

        Raises
        ------
        ConfigurationError
            The user may not make tables.
        """
        try:
            with self.writing() as connection:
                return _make(connection, tables)
        except sa.exc.ProgrammingError as error:
            raise ConfigurationError(
                f"database.url: {self.name} takes no tables ({_first_line(error.orig)}): let its user own it"
            ) from None

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Read.

        Raises
        ------
        StorageExhausted, DatabaseUnavailable
        """
        with self.telling(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Write in one transaction, durable at its end; nobody else writes meanwhile.

        Raises
        ------
        StorageExhausted, DatabaseUnavailable
        """
        with self.telling(), self.engine.begin() as connection:
            if self.is_shared:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITER)))
            yield connection

    def close(self) -> None:
        """Let go of files and connections; may be called twice."""
        self.engine.dispose()

    @contextmanager
    def telling(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.OperationalError as error:  # full, locked, read-only; gone
            raise self._error(error.orig) from error
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise self._error(error.orig) from error
        except sa.exc.TimeoutError as error:
            raise self._error(error) from error

    def _error(self, why: BaseException | None) -> TransientError:
        kind = DatabaseUnavailable if self.is_shared else StorageExhausted
        return kind(f"{self.name} cannot be used: {_first_line(why)}")


def _make(connection: sa.Connection, tables: sa.MetaData) -> bool:
    added = False
    tables.create_all(connection)
    for table in tables.sorted_tables:
        there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                declared = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
                connection.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {declared}"))
                added = True
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    return added


def insert_unless_there(connection: sa.Connection, table: sa.Table, row: Mapping[str, object]) -> bool:
    """Insert a row; False when there is one with its key."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    keys = list(table.primary_key.columns)
    made = connection.execute(insert(table).values(row).on_conflict_do_nothing().returning(*keys))
    return made.first() is not None


@dataclass(frozen=True)
class Databases:
    """What a node keeps; on a server all three are one.

    Attributes
    ----------
    ledger : what ``status`` and ``explain`` show
    commitments : transactions of storage commitment
    workflows : durable steps
    """

    ledger: Database
    commitments: Database
    workflows: Database

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Open what the settings name; ``ConfigurationError`` where that cannot be."""
        ledger = open_ledger(settings)
        if ledger.is_shared:
            return cls(ledger, ledger, ledger)
        files = (settings.folder / f"{name}.sqlite" for name in ("commitments", "workflows"))
        return cls(ledger, *map(Database.in_file, files))


def open_ledger(settings: Settings) -> Database:
    """Open what holds the book; ``ConfigurationError`` where that cannot be."""
    if settings.database.url is None:
        return Database.in_file(settings.folder / "ledger.sqlite")
    return Database.on_server(_address(settings))


def _address(settings: Settings) -> sa.URL:
    given = settings.database
    url = sa.make_url(given.url or "").set(drivername="postgresql+psycopg")
    return url.set(password=given.password.read()) if given.password else url


def _first_line(why: BaseException | None) -> str:
    return (str(why).strip().splitlines() or ["?"])[0]
