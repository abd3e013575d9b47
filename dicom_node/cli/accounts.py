"""Commands for who may use the page and the API: ``user``, ``token``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from dicom_node.cli.shell import Config, app, errors, out, settings_of
from dicom_node.errors import ConfigurationError
from dicom_node.web.access.roles import Role

if TYPE_CHECKING:
    from dicom_node.web.access.tokens import Tokens
    from dicom_node.web.access.users import Users
    from dicom_node.workflow.database import Database

users = typer.Typer(no_args_is_help=True, help="Who may log in to the page.")
tokens = typer.Typer(no_args_is_help=True, help="Tokens of programs that use the API.")
app.add_typer(users, name="user")
app.add_typer(tokens, name="token")

Note = Callable[[str], None]
"""Takes what was changed, in words, for the audit trail."""

Name = Annotated[str, typer.Argument(help="a-z, 0-9 and . _ @ -")]
RoleName = Annotated[
    Literal["viewer", "operator", "admin"],
    typer.Option("--role", help="Sees; also orders and tries out; also configures."),
]


@users.command("add")
def add_user(name: Name, role: RoleName, config: Config = None) -> None:
    """Add a user; the password is asked for twice, or read as a line from standard input."""
    with _users(config) as (known, note):
        known.add(name, Role(role), _password())
        out.print(f"user {name}: {role}", markup=False)
        note(f"user {name} was added, with the role {role}")


@users.command("password")
def set_password(name: Name, config: Config = None) -> None:
    """Change a password, and end the sessions of its user."""
    with _users(config) as (known, note):
        known.set_password(name, _password())
        out.print(f"user {name}: the password is changed", markup=False)
        note(f"user {name} has another password")


@users.command("role")
def set_role(name: Name, role: RoleName, config: Config = None) -> None:
    """Give a user another role, at once."""
    with _users(config) as (known, note):
        known.set_role(name, Role(role))
        out.print(f"user {name}: {role}", markup=False)
        note(f"user {name} has the role {role}")


@users.command("remove")
def remove_user(name: Name, config: Config = None) -> None:
    """Remove a user, and end their sessions."""
    with _users(config) as (known, note):
        known.remove(name)
        out.print(f"user {name} is removed", markup=False)
        note(f"user {name} was removed")


@users.command("list")
def list_users(config: Config = None) -> None:
    """List the users."""
    with _users(config, is_change=False) as (known, _):
        table = Table("name", "role", "added", "last login")
        for user in known.all():
            table.add_row(user.name, user.role, _day(user.created_at), _day(user.seen_at))
        out.print(table if table.row_count else "no users")


@tokens.command("create")
def create_token(
    name: Name,
    role: RoleName,
    config: Config = None,
    days: Annotated[
        float | None, typer.Option(min=0.001, help="It is valid; else until it is revoked.")
    ] = None,
) -> None:
    """Make a token and print it: it cannot be shown again."""
    with _tokens(config) as (known, note):
        out.print(known.create(name, Role(role), days), markup=False)
        note(f"token {name} was made, with the role {role}")


@tokens.command("revoke")
def revoke_token(name: Name, config: Config = None) -> None:
    """End a token, at once."""
    with _tokens(config) as (known, note):
        known.revoke(name)
        out.print(f"token {name} is revoked", markup=False)
        note(f"token {name} was revoked")


@tokens.command("list")
def list_tokens(config: Config = None) -> None:
    """List the tokens."""
    with _tokens(config, is_change=False) as (known, _):
        table = Table("name", "role", "made", "until", "last used")
        for token in known.all():
            until = "expired" if token.is_expired else _day(token.expires_at, "revoked")
            table.add_row(token.name, token.role, _day(token.created_at), until, _day(token.seen_at))
        out.print(table if table.row_count else "no tokens")


@contextmanager
def _users(config: Path | None, *, is_change: bool = True) -> Iterator[tuple[Users, Note]]:
    with _store(config, is_change=is_change) as (database, note):
        from dicom_node.web.access.users import Users

        yield Users(database), note


@contextmanager
def _tokens(config: Path | None, *, is_change: bool = True) -> Iterator[tuple[Tokens, Note]]:
    with _store(config, is_change=is_change) as (database, note):
        from dicom_node.web.access.tokens import Tokens

        yield Tokens(database), note


@contextmanager
def _store(config: Path | None, *, is_change: bool) -> Iterator[tuple[Database, Note]]:
    os.umask(0o077)  # what is kept there is nobody else's business
    with errors():
        settings = settings_of(config)
        from dicom_node.operate.audit import write_user_change
        from dicom_node.operate.audit_sink import sinks_of
        from dicom_node.web.access.store import open_store

        sinks = sinks_of(settings.audit) if is_change else []  # before anything is changed
        note = partial(write_user_change, sinks, settings.audit.source)
        database = open_store(settings)
        try:
            yield database, note
        finally:
            database.close()


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    line = sys.stdin.readline()
    if not line:
        raise ConfigurationError("no password: give it as a line on standard input")
    return line.rstrip("\r\n")


def _day(when: datetime | None, otherwise: str = "never") -> str:
    return f"{when:%Y-%m-%d %H:%M}" if when else otherwise
