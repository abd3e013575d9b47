"""Tokens of programs: sent as ``Authorization: Bearer``, shown once, kept as SHA-256."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from dicom_node.errors import ConfigurationError
from dicom_node.web.access.roles import Role
from dicom_node.web.access.store import TOKENS, digest_of, new_secret, now, stamp
from dicom_node.workflow.database import Database, insert_unless_there

PREFIX = "dicomnode_"  # by which scanners of source code know one
PAUSE = timedelta(minutes=15)  # after which a use counts as a new login


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; ``seen_at`` is when it was last used, to a quarter of an hour."""

    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    seen_at: datetime | None

    @property
    def is_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now()


class Tokens:
    """The tokens of a node."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, role: Role, days: float | None) -> str:
        """Make a token and return it; ConfigurationError where the name is taken or no good.

        Parameters
        ----------
        days : it is valid; None is for ever
        """
        if not re.fullmatch(r"[a-z0-9][a-z0-9._@-]{0,62}", name):
            raise ConfigurationError(f"{name!r}: a token's name has a-z, 0-9 and . _ @ -, 63 at most")
        secret = PREFIX + new_secret()
        made = now()
        row = {
            "name": name,
            "role": role,
            "digest": digest_of(secret),
            "created_at": made.isoformat(),
            "expires_at": None if days is None else (made + timedelta(days=days)).isoformat(),
        }
        with self._database.writing() as connection:
            if not insert_unless_there(connection, TOKENS, row):
                raise ConfigurationError(f"there is a token {name} already: revoke it, or take another name")
        return secret

    def revoke(self, name: str) -> None:
        """End a token; ConfigurationError where there is none."""
        with self._database.writing() as connection:
            if not connection.execute(TOKENS.delete().where(TOKENS.c.name == name)).rowcount:
                raise ConfigurationError(f"there is no token {name}")

    def all(self) -> Sequence[Token]:
        """List them by name."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(TOKENS).order_by(TOKENS.c.name)).all()
        return [_token(row) for row in rows]

    def find(self, secret: str) -> Token | None:
        """Look up a token that is valid."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(TOKENS).where(TOKENS.c.digest == digest_of(secret))).first()
        token = row and _token(row)
        return token if token and not token.is_expired else None

    def note_use(self, token: Token) -> bool:
        """Keep that a token is used; whether that is news, after a pause."""
        if token.seen_at is not None and now() - token.seen_at < PAUSE:
            return False
        with self._database.writing() as connection:
            connection.execute(
                TOKENS.update().where(TOKENS.c.name == token.name).values(seen_at=now().isoformat())
            )
        return True


def _token(row: sa.Row[tuple[object, ...]]) -> Token:
    return Token(
        row.name,
        Role(row.role),
        datetime.fromisoformat(row.created_at),
        stamp(row.expires_at),
        stamp(row.seen_at),
    )
