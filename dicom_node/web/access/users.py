"""Users with a password of their own here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dicom_node.errors import ConfigurationError
from dicom_node.web.access.passwords import hash_of, is_outdated, matches
from dicom_node.web.access.roles import Role
from dicom_node.web.access.store import SESSIONS, USERS, now, stamp
from dicom_node.workflow.database import Database, insert_unless_there


@dataclass(frozen=True, slots=True)
class User:
    """Somebody; ``seen_at`` is when they last logged in."""

    name: str
    role: Role
    created_at: datetime
    seen_at: datetime | None


class Users:
    """The users of a node."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, role: Role, password: str) -> None:
        """Add a user; ConfigurationError where the name is taken, or name or password are no good."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9._@-]{0,62}", name):
            raise ConfigurationError(f"{name!r}: a user's name has a-z, 0-9 and . _ @ -, 63 at most")
        row = {"name": name, "role": role, "password": hash_of(password), "created_at": now().isoformat()}
        with self._database.writing() as connection:
            if not insert_unless_there(connection, USERS, row):
                raise ConfigurationError(f"there is a user {name} already: remove it, or set its password")

    def remove(self, name: str) -> None:
        """Remove a user and end their sessions; ConfigurationError where there is none."""
        with self._database.writing() as connection:
            gone = connection.execute(USERS.delete().where(USERS.c.name == name))
            _need_one(gone.rowcount, name)
            connection.execute(_sessions_of(name))

    def set_password(self, name: str, password: str) -> None:
        """Change a password and end the user's sessions; ConfigurationError where there is no such user."""
        hashed = hash_of(password)
        with self._database.writing() as connection:
            changed = connection.execute(USERS.update().where(USERS.c.name == name).values(password=hashed))
            _need_one(changed.rowcount, name)
            connection.execute(_sessions_of(name))

    def set_role(self, name: str, role: Role) -> None:
        """Give another role, also in sessions; ConfigurationError where there is no such user."""
        with self._database.writing() as connection:
            changed = connection.execute(USERS.update().where(USERS.c.name == name).values(role=role))
            _need_one(changed.rowcount, name)

    def all(self) -> Sequence[User]:
        """List them by name."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(USERS).order_by(USERS.c.name)).all()
        return [
            User(row.name, Role(row.role), datetime.fromisoformat(row.created_at), stamp(row.seen_at))
            for row in rows
        ]

    def check(self, name: str, password: str) -> bool:
        """Whether a name and a password belong together; takes as long for a name that nobody has."""
        with self._database.reading() as connection:
            hashed = connection.scalar(sa.select(USERS.c.password).where(USERS.c.name == name))
        if not matches(password, hashed) or hashed is None:
            return False
        seen = {"seen_at": now().isoformat()}
        if is_outdated(hashed):
            seen["password"] = hash_of(password)
        with self._database.writing() as connection:
            connection.execute(USERS.update().where(USERS.c.name == name).values(seen))
        return True


def _sessions_of(name: str) -> sa.Delete:
    return SESSIONS.delete().where(SESSIONS.c.name == name, SESSIONS.c.role.is_(None))


def _need_one(count: int, name: str) -> None:
    if not count:
        raise ConfigurationError(f"there is no user {name}")
