"""Sessions of people who logged in: kept here, so that each can be ended at once, and through a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from dicom_node.settings import Login
from dicom_node.web.access.roles import Role
from dicom_node.web.access.store import SESSIONS, USERS, digest_of, new_secret, now
from dicom_node.workflow.database import Database

_SEEN_EVERY = timedelta(seconds=30)  # written down, at most


@dataclass(frozen=True, slots=True)
class Session:
    """A login that has not ended.

    Attributes
    ----------
    digest : by which it is known; the browser has what it is the digest of
    csrf : what a form in it must carry
    """

    digest: str
    name: str
    role: Role
    csrf: str
    host: str
    began_at: datetime
    seen_at: datetime


class Sessions:
    """The sessions of a node.

    Parameters
    ----------
    rules : how long they last
    """

    def __init__(self, database: Database, rules: Login) -> None:
        self._database = database
        self._idle, self._longest = timedelta(minutes=rules.idle_minutes), timedelta(hours=rules.hours)

    def begin(self, name: str, host: str, role: Role | None = None) -> str:
        """Begin a session and return what the browser keeps; those that are over are forgotten.

        Parameters
        ----------
        role : of somebody whom a provider sent; a user's own is looked up each time
        """
        secret, began = new_secret(), now()
        row = {
            "digest": digest_of(secret),
            "name": name,
            "role": role,
            "csrf": new_secret(),
            "host": host,
            "began_at": began.isoformat(),
            "seen_at": began.isoformat(),
        }
        over = (SESSIONS.c.seen_at < (began - self._idle).isoformat()) | (
            SESSIONS.c.began_at < (began - self._longest).isoformat()
        )
        with self._database.writing() as connection:
            connection.execute(SESSIONS.delete().where(over))
            connection.execute(SESSIONS.insert().values(row))
        return secret

    def find(self, secret: str, *, by_itself: bool = False) -> Session | None:
        """Look up a session that has not ended, and keep that it is used.

        Parameters
        ----------
        by_itself : a page asks, not a person
        """
        found = self._find(SESSIONS.c.digest == digest_of(secret))
        if not found:
            return None
        (session,) = found
        if not by_itself and now() - session.seen_at >= _SEEN_EVERY:
            with self._database.writing() as connection:
                connection.execute(
                    SESSIONS.update()
                    .where(SESSIONS.c.digest == session.digest)
                    .values(seen_at=now().isoformat())
                )
        return session

    def all(self) -> Sequence[Session]:
        """List those that have not ended, the latest first."""
        return sorted(self._find(sa.true()), key=lambda each: each.began_at, reverse=True)

    def end(self, digest: str) -> None:
        """End a session."""
        with self._database.writing() as connection:
            connection.execute(SESSIONS.delete().where(SESSIONS.c.digest == digest))

    def _find(self, condition: sa.ColumnElement[bool]) -> list[Session]:
        # A user who was removed has no role any more
        role = sa.func.coalesce(SESSIONS.c.role, USERS.c.role).label("now_role")
        joined = SESSIONS.outerjoin(USERS, USERS.c.name == SESSIONS.c.name)
        query = sa.select(SESSIONS, role).select_from(joined).where(condition, role.is_not(None))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        sessions = [
            Session(
                row.digest,
                row.name,
                Role(row.now_role),
                row.csrf,
                row.host,
                datetime.fromisoformat(row.began_at),
                datetime.fromisoformat(row.seen_at),
            )
            for row in rows
        ]
        return [each for each in sessions if not self._is_over(each)]

    def _is_over(self, session: Session) -> bool:
        return now() - session.seen_at >= self._idle or now() - session.began_at >= self._longest
