"""Storage commitment transactions, durable before an archive hears of them (PS3.4 J.3.2).

A report is known by its transaction UID alone, and it may come before the request was answered,
after the node was restarted, or days late.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict, cast

import sqlalchemy as sa

from dicom_node.deliver.commitment import reference_of
from dicom_node.workflow.database import Database

KEPT_DAYS = 400


class Kept(TypedDict):
    """An object that a destination has stored."""

    path: str
    sop_class_uid: str
    sop_instance_uid: str


class Request(TypedDict):
    """What a destination is asked to commit itself to.

    ``objects`` are all of a delivery that it has not committed itself to; ``number`` counts the
    requests of a delivery from 1; ``resend`` says that it lacks the objects.
    """

    job_id: str
    destination: str
    ticket: str
    priority: int
    objects: list[Kept]
    number: int
    resend: bool


_tables = sa.MetaData()
_transactions = sa.Table(
    "transactions",
    _tables,
    sa.Column("transaction_uid", sa.String, primary_key=True),
    sa.Column("ticket", sa.String, nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("request", sa.String, nullable=False),
    sa.Column("reported", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("lacking", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("asked_at", sa.String, nullable=False),
)


def kept_of(path: Path) -> Kept:
    """Describe a file that was stored."""
    sop_class_uid, sop_instance_uid = reference_of(path)
    return Kept(path=str(path), sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid)


class Transactions:
    """The transactions; old ones are forgotten when they are opened.

    Parameters
    ----------
    where : a SQLite file, made when missing, or the database that holds them
    """

    def __init__(self, where: Path | Database) -> None:
        self._database = where if isinstance(where, Database) else Database.in_file(where)
        self._database.make(_tables)
        old = (datetime.now(UTC) - timedelta(days=KEPT_DAYS)).isoformat()
        with self._database.writing() as connection:
            connection.execute(_transactions.delete().where(_transactions.c.asked_at < old))

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def open(self, transaction_uid: str, request: Request) -> None:
        """Keep a transaction: once this returns it outlives a loss of power."""
        row = {
            "transaction_uid": transaction_uid,
            "ticket": request["ticket"],
            "number": request["number"],
            "request": json.dumps(request),
            "asked_at": datetime.now(UTC).isoformat(),
        }
        with self._database.writing() as connection:
            connection.execute(_transactions.insert().values(row))

    def find(self, transaction_uid: str) -> Request | None:
        """Look up what was asked for."""
        query = sa.select(_transactions.c.request)
        with self._database.reading() as connection:
            text = connection.scalar(query.where(_transactions.c.transaction_uid == transaction_uid))
        return None if text is None else cast("Request", json.loads(text))

    def note_report(self, transaction_uid: str, *, lacking: bool) -> None:
        """Keep that the report has come, and whether objects are lacking."""
        this = _transactions.c.transaction_uid == transaction_uid
        with self._database.writing() as connection:
            connection.execute(_transactions.update().where(this).values(reported=True, lacking=lacking))

    def awaits_report(self, transaction_uid: str, request: Request) -> bool:
        """Whether a transaction has no report yet and is of the latest request of its delivery."""
        return self.is_latest(request) and not self._was_reported(transaction_uid)

    def is_latest(self, request: Request) -> bool:
        """Whether no later request of the same delivery was made."""
        query = sa.select(sa.func.max(_transactions.c.number))
        with self._database.reading() as connection:
            latest = connection.scalar(query.where(_transactions.c.ticket == request["ticket"]))
        return latest is None or request["number"] >= latest

    def is_outdated(self, request: Request) -> bool:
        """Whether a later request of the same delivery was answered with objects lacking."""
        later = (_transactions.c.ticket == request["ticket"]) & (_transactions.c.number > request["number"])
        query = sa.select(sa.func.count()).where(later, _transactions.c.lacking)
        with self._database.reading() as connection:
            return bool(connection.scalar(query))

    def _was_reported(self, transaction_uid: str) -> bool:
        query = sa.select(_transactions.c.reported)
        with self._database.reading() as connection:
            return bool(connection.scalar(query.where(_transactions.c.transaction_uid == transaction_uid)))
