"""The commands for users and tokens, and where these are kept.

Covered: what each command prints, returns and changes, and that the audit trail has it; a password by a
line on standard input and by a terminal, twice; what is refused; the secret of a provider proven by
check-config; a PostgreSQL in place of the file. Not covered: what users and tokens may do (test_access).
"""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.errors import ConfigurationError
from dicom_node.operate.audit import write_user_change
from dicom_node.operate.audit_sink import File
from dicom_node.settings import Login, Settings
from dicom_node.web.access.desk import Desk
from dicom_node.web.access.roles import Role
from dicom_node.web.access.sessions import Sessions
from dicom_node.web.access.store import open_store
from dicom_node.web.access.tokens import Tokens
from dicom_node.web.access.users import Users
from dicom_node.workflow.database import open_ledger
from tests.operate.audit_checks import alert_of, check, summary
from tests.support.postgres import PASSWORD as OF_POSTGRES
from tests.support.postgres import Postgres, postgres
from tests.support.running import free_port
from tests.web.gated import PASSWORD


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'folder = "{tmp_path / "var"}"\n')
    return path


def say(configuration: Path, *arguments: str, text: str = "", exit_code: int = 0) -> str:
    done = CliRunner().invoke(app, [*arguments, "--config", str(configuration)], input=text)
    assert done.exit_code == exit_code, done.output
    return done.output


def test_a_user_is_added_changed_listed_and_removed(configuration: Path) -> None:
    assert say(configuration, "user", "list") == "no users\n"
    told = say(configuration, "user", "add", "anna", "--role", "viewer", text=f"{PASSWORD}\n")
    assert told == "user anna: viewer\n"
    say(configuration, "user", "role", "anna", "--role", "admin")
    say(configuration, "user", "password", "anna", text="another good password\n")
    listed = say(configuration, "user", "list")
    assert "anna" in listed
    assert "admin" in listed
    assert PASSWORD not in listed
    store = configuration.parent / "var" / "access.sqlite"
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    database = open_store(Settings(folder=store.parent))
    assert Users(database).check("anna", "another good password")
    assert not Users(database).check("anna", PASSWORD)
    database.close()
    say(configuration, "user", "remove", "anna")
    assert say(configuration, "user", "list") == "no users\n"


@pytest.mark.parametrize(
    ("arguments", "text", "why"),
    [
        (("add", "anna", "--role", "viewer"), "short\n", "a password has 12 to 1024 characters"),
        (("add", "anna", "--role", "viewer"), "", "give it as a line on standard input"),
        (("add", "Anna", "--role", "viewer"), f"{PASSWORD}\n", "a user's name has a-z"),
        (("add", "there", "--role", "viewer"), f"{PASSWORD}\n", "there is a user there already"),
        (("add", "anna", "--role", "anybody"), f"{PASSWORD}\n", "not one of 'viewer'"),
        (("password", "nobody"), f"{PASSWORD}\n", "there is no user nobody"),
        (("role", "nobody", "--role", "admin"), "", "there is no user nobody"),
        (("remove", "nobody"), "", "there is no user nobody"),
    ],
)
def test_what_is_no_good_is_refused(
    arguments: tuple[str, ...], text: str, why: str, configuration: Path
) -> None:
    say(configuration, "user", "add", "there", "--role", "viewer", text=f"{PASSWORD}\n")
    assert why in say(configuration, "user", *arguments, text=text, exit_code=2)


def test_each_change_is_written_into_the_audit_trail(configuration: Path) -> None:
    trail = configuration.parent / "audit.xml"
    configuration.write_text(f'{configuration.read_text()}[audit]\nfile = "{trail}"\n')
    say(configuration, "user", "add", "anna", "--role", "viewer", text=f"{PASSWORD}\n")
    say(configuration, "user", "role", "anna", "--role", "admin")
    say(configuration, "user", "list")
    say(configuration, "user", "remove", "nobody", exit_code=2)
    secret = say(configuration, "token", "create", "lab", "--role", "viewer").strip()
    told = [ET.fromstring(line) for line in trail.read_text().splitlines()]  # noqa: S314 - ours
    for message in told:
        check(message)
    assert [summary(message) for message in told] == [("110113", ["110137"], "E", "0")] * 3
    assert [alert_of(message) for message in told] == [
        "user anna was added, with the role viewer",
        "user anna has the role admin",
        "token lab was made, with the role viewer",
    ]
    assert secret not in trail.read_text()
    assert PASSWORD not in trail.read_text()


def test_a_trail_that_cannot_be_written_to_is_named_before_anything_changes(configuration: Path) -> None:
    configuration.write_text(f'{configuration.read_text()}[audit]\nfile = "{configuration.parent}"\n')
    add = ("user", "add", "anna", "--role", "viewer")
    assert "audit.file" in say(configuration, *add, text=f"{PASSWORD}\n", exit_code=2)
    assert say(configuration, "user", "list") == "no users\n"


def test_a_server_that_cannot_be_told_of_a_change_is_named(configuration: Path) -> None:
    server = f'[audit.syslog]\nhost = "127.0.0.1"\nport = {free_port()}\n'
    configuration.write_text(f"{configuration.read_text()}{server}")
    told = say(configuration, "user", "add", "anna", "--role", "viewer", text=f"{PASSWORD}\n", exit_code=2)
    assert "it is done, but the audit trail was not told" in told
    assert "anna" in say(configuration, "user", "list")


def test_a_sink_that_cannot_be_told_of_a_change_keeps_it_from_no_other(tmp_path: Path) -> None:
    trail = tmp_path / "audit.xml"
    sinks = (File(tmp_path / "gone" / "audit.xml"), File(trail))
    with pytest.raises(ConfigurationError, match="was not told"):
        write_user_change(sinks, "node", "user anna was added")
    assert alert_of(ET.fromstring(trail.read_text())) == "user anna was added"  # noqa: S314 - ours


def test_a_token_is_made_listed_and_revoked(configuration: Path) -> None:
    secret = say(configuration, "token", "create", "research", "--role", "operator", "--days", "90").strip()
    assert secret.startswith("dicomnode_")
    assert len(secret) > 50
    listed = say(configuration, "token", "list")
    assert "research" in listed
    assert secret not in listed
    assert "already" in say(configuration, "token", "create", "research", "--role", "viewer", exit_code=2)
    say(configuration, "token", "revoke", "research")
    assert "there is no token research" in say(configuration, "token", "revoke", "research", exit_code=2)


@pytest.mark.slow
def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(configuration: Path) -> None:
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "dicom_node", "user", "add", "anna", "--role", "viewer"]
    command += ["--config", str(configuration)]
    shown = b""
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as asking:
        os.close(terminal)
        for answer in (PASSWORD, "a slip of the fingers", PASSWORD, PASSWORD):
            while not shown.endswith(b": "):  # the space is asked for once nothing is echoed
                shown += os.read(main, 1000)
            shown += b"\n"
            os.write(main, f"{answer}\n".encode())
        with suppress(OSError):  # Linux says so when the other side is closed
            while more := os.read(main, 1000):
                shown += more
        assert asking.wait(60) == 0, shown
    os.close(main)
    assert b"user anna: viewer" in shown
    assert PASSWORD.encode() not in shown


def test_a_secret_of_the_provider_that_is_missing_is_named_by_check_config(configuration: Path) -> None:
    text = configuration.read_text()
    configuration.write_text(
        f'{text}[web.oidc]\nissuer = "https://sso.example"\nclient_id = "node"\nadmin = ["a"]\n'
        f'client_secret = {{ file = "{configuration.parent}/none" }}\n'
    )
    done = CliRunner().invoke(app, ["check-config", str(configuration)])
    assert done.exit_code == 2
    assert f"the secret in {configuration.parent}/none: No such file" in done.output


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.mark.peer
def test_with_a_postgresql_a_session_counts_at_every_node(server: Postgres, tmp_path: Path) -> None:
    server.make_database("access")
    (tmp_path / "password").write_text(OF_POSTGRES)
    url = f"{server.url.rpartition('/')[0]}/access"
    settings = Settings(
        folder=tmp_path,
        database={"url": url, "password": {"file": tmp_path / "password"}},  # type: ignore[arg-type]
        web={"login": {"always": True}},  # type: ignore[arg-type]
    )
    store = open_store(settings)
    Users(store).add("anna", Role.OPERATOR, PASSWORD)
    token = Tokens(store).create("pacs", Role.VIEWER, days=1)
    secret = Sessions(store, Login()).begin("anna", "192.0.2.1")
    book = open_ledger(settings)
    other = Desk.open(settings, book, lambda _: None)
    assert other
    assert other.log_in("anna", "wrong", "192.0.2.1") != secret
    visitor = other.by_session(secret, by_itself=False)
    assert visitor
    assert (visitor.name, visitor.role) == ("anna", Role.OPERATOR)
    assert other.by_token(token, "192.0.2.1").name == "pacs"  # type: ignore[union-attr]
    Users(store).remove("anna")
    assert other.by_session(secret, by_itself=False) is None
    assert not (tmp_path / "access.sqlite").exists()
    other.close()
    book.close()
    store.close()
