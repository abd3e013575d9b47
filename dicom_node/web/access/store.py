"""Users, tokens and sessions: where they are kept, and in what form.

A database of its own beside the book, which can be made anew from spool and results; these cannot. With
``database.url`` they are tables there, and a session counts at every node. No password and no token can
be read in it.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime

import sqlalchemy as sa

from dicom_node.settings import Settings
from dicom_node.workflow.database import Database, open_ledger

FILE_NAME = "access.sqlite"
_REMEDY = "when it is damaged, restore it from a backup, or move it away and add users and tokens again"

_TABLES = sa.MetaData()
USERS = sa.Table(
    "web_users",
    _TABLES,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("password", sa.String, nullable=False),
    sa.Column("created_at", sa.String, nullable=False),
    sa.Column("seen_at", sa.String),
)
TOKENS = sa.Table(
    "web_tokens",
    _TABLES,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False, index=True),
    sa.Column("created_at", sa.String, nullable=False),
    sa.Column("expires_at", sa.String),
    sa.Column("seen_at", sa.String),
)
SESSIONS = sa.Table(
    "web_sessions",
    _TABLES,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, index=True),
    sa.Column("role", sa.String),  # of somebody whom a provider sent; a user's own may change
    sa.Column("csrf", sa.String, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("began_at", sa.String, nullable=False),
    sa.Column("seen_at", sa.String, nullable=False),
)


def open_store(settings: Settings, ledger: Database | None = None) -> Database:
    """Open the database, made when missing.

    Parameters
    ----------
    ledger : the book's, where it is open already

    Raises
    ------
    ConfigurationError
    """
    if settings.database.url is None:
        database = Database.in_file(settings.folder / FILE_NAME, _REMEDY)
    else:
        database = ledger or open_ledger(settings)
    database.make(_TABLES)
    return database


def new_secret() -> str:
    """Draw 256 bits, as text for a cookie or a header."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What is kept of a secret of 256 bits; it needs no salt and no slow hash, as nobody can guess one."""
    return hashlib.sha256(secret.encode()).hexdigest()


def now() -> datetime:
    """The time, to the second, as it is kept."""
    return datetime.now(UTC).replace(microsecond=0)


def stamp(text: str | None) -> datetime | None:
    """Read a time that was kept."""
    return None if text is None else datetime.fromisoformat(text)
