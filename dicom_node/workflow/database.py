"""SQLite as the node wants it: readers beside one writer, and durable at every commit."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import ConnectionPoolEntry

from dicom_node.errors import ConfigurationError


def open_sqlite(path: Path) -> sa.Engine:
    """Open a SQLite file, made when missing, in WAL mode with full synchronisation.

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
        raise ConfigurationError(
            f"{path} cannot be used ({error.orig}): when it is damaged, move it away with its -wal and -shm; "
            "the node makes it again from the spool and the results"
        ) from error
    return engine


def add_missing_columns(engine: sa.Engine, tables: sa.MetaData) -> bool:
    """Give tables of an earlier release the columns that were added since, each with its default.

    Returns
    -------
    Whether there were any.
    """
    added = False
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
            for column in table.columns:
                if column.name not in there:
                    declared = sa.schema.CreateColumn(column).compile(dialect=engine.dialect)
                    connection.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {declared}"))
                    added = True
    return added
