"""What each destination takes of results, and as which instance it took each report.

A SOP class that a destination refused is not offered to it again for ``ask_again_hours``, unless its
settings change. A report that names the one it replaces names the instance that this destination has
of it: which that is depends on what it took at the time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from dicom_node.results.report_after import Reference
from dicom_node.settings import AnyDestination
from dicom_node.workflow.database import Database, insert_unless_there

_tables = sa.MetaData()
_refusals = sa.Table(
    "refusals",
    _tables,
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("sop_class_uid", sa.String, primary_key=True),
    sa.Column("settings", sa.String, nullable=False),
    sa.Column("refused_at", sa.String, nullable=False),
)
_reports = sa.Table(
    "reports_sent",
    _tables,
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("report_uid", sa.String, primary_key=True),  # of the result's own, whatever form is sent
    sa.Column("stored_class", sa.String),
    sa.Column("stored_uid", sa.String),
    sa.Column("is_settled", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("names_class", sa.String),
    sa.Column("names_uid", sa.String),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A SOP class that a destination does not take."""

    destination: str
    sop_class_uid: str
    refused_at: datetime
    ask_again_at: datetime


class Acceptance:
    """The node's memory of its destinations.

    Parameters
    ----------
    database : that holds the book
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        database.make(_tables)

    def refused_by(self, destination: AnyDestination) -> frozenset[str]:
        """SOP classes that are not to be offered for now."""
        return frozenset(refusal.sop_class_uid for refusal in self.refusals([destination]))

    def refusals(self, destinations: Iterable[AnyDestination]) -> Iterator[Refusal]:
        """List what these destinations are not offered for now."""
        now = datetime.now(UTC)
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(_refusals).order_by(_refusals.c.sop_class_uid)).all()
        for destination in destinations:
            for row in rows:
                if (row.destination, row.settings) != (destination.name, _digest(destination)):
                    continue
                refused_at = datetime.fromisoformat(row.refused_at)
                ask_again_at = refused_at + timedelta(hours=destination.ask_again_hours)
                if refused_at <= now < ask_again_at:  # a clock that was wrong is no reason to wait
                    yield Refusal(destination.name, row.sop_class_uid, refused_at, ask_again_at)

    def note_refusal(self, destination: AnyDestination, sop_class_uid: str) -> None:
        """Keep that a destination does not take a SOP class."""
        row = {
            "destination": destination.name,
            "sop_class_uid": sop_class_uid,
            "settings": _digest(destination),
            "refused_at": datetime.now(UTC).isoformat(),
        }
        with self._database.writing() as connection:
            connection.execute(_refusals.delete().where(_is_refusal(destination.name, sop_class_uid)))
            connection.execute(_refusals.insert().values(row))

    def forget_refusals(self, destination: AnyDestination) -> None:
        """Offer all again."""
        with self._database.writing() as connection:
            connection.execute(_refusals.delete().where(_refusals.c.destination == destination.name))

    def note_stored(self, destination: str, report_uid: str, stored: Reference) -> None:
        """Keep as which instance a destination has a report.

        Parameters
        ----------
        report_uid : SOP Instance UID of the result's report
        stored : the form of it that was sent
        """
        values = {"stored_class": stored.sop_class_uid, "stored_uid": stored.sop_instance_uid}
        with self._database.writing() as connection:
            row = {"destination": destination, "report_uid": report_uid}
            insert_unless_there(connection, _reports, row)
            connection.execute(_reports.update().where(_is_report(destination, report_uid)).values(values))

    def predecessor_of(self, destination: str, report_uid: str, predecessor_uid: str) -> Reference | None:
        """Say which instance a report names as its predecessor at a destination.

        It is decided the first time that this is asked, so that a repetition sends the same bytes.

        Parameters
        ----------
        predecessor_uid : SOP Instance UID of the report of the result before

        Returns
        -------
        None when the destination was not known to have it: then it is named in the form of the report itself.
        """
        with self._database.writing() as connection:
            insert_unless_there(connection, _reports, {"destination": destination, "report_uid": report_uid})
            this = _is_report(destination, report_uid)
            row = connection.execute(sa.select(_reports).where(this)).one()
            if row.is_settled:
                return None if row.names_uid is None else Reference(row.names_class, row.names_uid)
            stored = sa.select(_reports.c.stored_class, _reports.c.stored_uid)
            before = connection.execute(stored.where(_is_report(destination, predecessor_uid))).first()
            known = None if before is None or before.stored_uid is None else Reference(*before)
            names = {"names_class": known.sop_class_uid, "names_uid": known.sop_instance_uid} if known else {}
            connection.execute(_reports.update().where(this).values(is_settled=True, **names))
        return known


def _is_refusal(destination: str, sop_class_uid: str) -> sa.ColumnElement[bool]:
    return (_refusals.c.destination == destination) & (_refusals.c.sop_class_uid == sop_class_uid)


def _is_report(destination: str, report_uid: str) -> sa.ColumnElement[bool]:
    return (_reports.c.destination == destination) & (_reports.c.report_uid == report_uid)


def _digest(destination: AnyDestination) -> str:
    """Tell the settings of a destination from others; no secret is in them."""
    return hashlib.sha256(destination.model_dump_json().encode()).hexdigest()[:16]
