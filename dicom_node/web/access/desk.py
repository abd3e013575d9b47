"""The desk: who comes in, who goes, and who somebody is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from dicom_node.errors import ConfigurationError
from dicom_node.events import Tell, UserAuthenticated, UserLeft
from dicom_node.settings import Settings, Web
from dicom_node.web.access.attempts import Attempts
from dicom_node.web.access.passwords import hash_of_nobody
from dicom_node.web.access.provider import Errand, NotLetIn, Provider
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
    """Lets in by password, by token and by the word of a provider.

    Parameters
    ----------
    tell : is told of each login, failure and logout
    """

    def __init__(self, web: Web, database: Database, tell: Tell) -> None:
        self._database, self._tell = database, tell
        self.users, self.tokens = Users(database), Tokens(database)
        self.sessions = Sessions(database, web.login)
        self.provider = Provider(web.oidc) if web.oidc else None
        self._attempts = Attempts()
        hash_of_nobody()

    @classmethod
    def open(cls, settings: Settings, ledger: Database, tell: Tell) -> Self | None:
        """Open what a node needs; None where nobody has to log in.

        Raises
        ------
        ConfigurationError
            Nobody could log in, or a file or secret of the provider's cannot be used.
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
            self._failed(name, host)
            return Refusal(_too_often(wait_s), wait_s)
        if not self.users.check(name, password):
            self._failed(name, host)
            return Refusal("The name or the password is wrong.")
        self._attempts.succeeded(name)
        self._tell(UserAuthenticated(name, host, succeeded=True))
        return self.sessions.begin(name, host)

    def log_in_by_provider(
        self, provider: Provider, errand: Errand, answer: Mapping[str, str], back: str, host: str
    ) -> str:
        """Let somebody in whom the provider sent back: what their browser keeps.

        Raises
        ------
        ProviderUnavailable, NotLetIn
        """
        wait_s = self._attempts.wait_s(host)
        if wait_s:
            raise NotLetIn(_too_often(wait_s))
        try:
            name, role = provider.let_in(errand, answer, back)
        except NotLetIn:
            self._failed("(by the identity provider)", host)
            raise
        self._tell(UserAuthenticated(name, host, succeeded=True))
        return self.sessions.begin(name, host, role)

    def log_out(self, visitor: Visitor, host: str) -> None:
        """End a session."""
        self.sessions.end(visitor.session)
        self._tell(UserLeft(visitor.name, host))

    def end(self, digest: str) -> None:
        """End somebody's session, by its digest."""
        for session in self.sessions.all():
            if session.digest == digest:
                self.sessions.end(digest)
                self._tell(UserLeft(session.name, session.host))

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
            if not wait_s:  # else nobody is told: a program that asks for ever would fill the trail
                self._failed(_UNKNOWN_TOKEN, host)
            return Refusal("the token is not known, or no longer valid", wait_s)
        if self.tokens.note_use(token):
            self._tell(UserAuthenticated(token.name, host, succeeded=True))
        return Visitor(token.name, token.role)

    def _failed(self, name: str, host: str) -> None:
        self._attempts.failed(host)
        self._tell(UserAuthenticated(name or "-", host, succeeded=False))


def _too_often(wait_s: int) -> str:
    return f"Too many attempts: wait {math.ceil(wait_s / 60)} minutes."
