"""The desk: who comes in, who goes, and who somebody is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from dicom_node.errors import ConfigurationError
from dicom_node.events import Tell, UserAuthenticated, UserLeft
from dicom_node.settings import Settings, Web
from dicom_node.web.access.attempts import Attempts
from dicom_node.web.access.passwords import hash_of_nobody
from dicom_node.web.access.sessions import Sessions
from dicom_node.web.access.store import open_store
from dicom_node.web.access.tokens import PREFIX, Tokens
from dicom_node.web.access.users import Users
from dicom_node.web.access.visitor import Visitor
from dicom_node.workflow.database import Database

_NAME = 64  # characters of what is typed as a name; the rest goes nowhere
_UNKNOWN_TOKEN = "(a token that is not known)"  # noqa: S105 - what is told of one


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody is not let in; ``wait_s`` is 0 unless they came too often."""

    text: str
    wait_s: int = 0


class Desk:
    """Lets in by password and by token.

    Parameters
    ----------
    tell : is told of each login, failure and logout
    """

    def __init__(self, web: Web, database: Database, tell: Tell) -> None:
        self._database, self._tell = database, tell
        self.users, self.tokens = Users(database), Tokens(database)
        self.sessions = Sessions(database, web.login)
        self._attempts = Attempts()
        hash_of_nobody()

    @classmethod
    def open(cls, settings: Settings, ledger: Database, tell: Tell) -> Self | None:
        """Open what a node needs; None where nobody has to log in.

        Raises
        ------
        ConfigurationError
            Nobody could log in.
        """
        web = settings.web
        if not (web.enabled and web.demands_login):
            return None
        desk = cls(web, open_store(settings, ledger), tell)
        if web.oidc is None and not desk.users.all() and not desk.tokens.all():
            desk.close()
            raise ConfigurationError(
                f"web.host {web.host}: who asks must log in, and nobody could: make a user (dicom-node user "
                "add NAME --role admin --config FILE) or a token (dicom-node token create NAME --role viewer "
                "--config FILE), or set [web.oidc]"
            )
        return desk

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def log_in(self, name: str, password: str, host: str) -> str | Refusal:
        """Let somebody in by their password: what their browser keeps, or why not."""
        name = name.strip()[:_NAME].lower()
        wait_s = self._attempts.wait_s(host, name)
        if wait_s:
            self._tell(UserAuthenticated(name or "-", host, succeeded=False))
            return Refusal(f"Too many attempts: wait {-(-wait_s // 60)} minutes.", wait_s)
        if not self.users.check(name, password):
            self._tell(UserAuthenticated(name or "-", host, succeeded=False))
            return Refusal("The name or the password is wrong.")
        self._attempts.succeeded(name)
        self._tell(UserAuthenticated(name, host, succeeded=True))
        return self.sessions.begin(name, host)

    def log_out(self, visitor: Visitor, host: str) -> None:
        """End a session."""
        self.sessions.end(visitor.session)
        self._tell(UserLeft(visitor.name, host))

    def by_session(self, secret: str, *, by_itself: bool) -> Visitor | None:
        """Who has a session; None where it has ended."""
        session = self.sessions.find(secret, by_itself=by_itself)
        if session is None:
            return None
        return Visitor(session.name, session.role, session.csrf, session.digest)

    def by_token(self, secret: str, host: str) -> Visitor | Refusal:
        """Who has a token, or why it is of no use."""
        token = self.tokens.find(secret) if secret.startswith(PREFIX) else None
        if token is None:
            wait_s = self._attempts.wait_s(host)
            if not wait_s:  # then nobody is told any more: a program that asks for ever would fill the trail
                self._tell(UserAuthenticated(_UNKNOWN_TOKEN, host, succeeded=False))
            return Refusal("the token is not known, or no longer valid", wait_s)
        if self.tokens.note_use(token):
            self._tell(UserAuthenticated(token.name, host, succeeded=True))
        return Visitor(token.name, token.role)
