"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.types import Scope

from dicom_node.web.access.roles import Role

_KEY = "visitor"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever sent a request.

    Attributes
    ----------
    name : of the user or the token; empty for somebody who did not have to say
    csrf : what a form of theirs must carry; empty without a session
    session : whose end is logging out; empty without one
    """

    name: str
    role: Role
    csrf: str = ""
    session: str = ""

    def may(self, role: str) -> bool:
        """Whether they may do what needs this role; for templates."""
        return self.role.covers(Role(role))


NOBODY = Visitor("", Role.ANYBODY)
ON_THIS_MACHINE = Visitor("", Role.ADMIN)  # where nobody has to log in


def set_visitor(scope: Scope, visitor: Visitor) -> None:
    """Note who sent a request."""
    scope.setdefault("state", {})[_KEY] = visitor


def visitor_of(request: HTTPConnection) -> Visitor:
    """Look up who sent a request; nobody, where it was not looked at yet."""
    visitor: Visitor = request.scope.get("state", {}).get(_KEY, NOBODY)
    return visitor


def host_of(request: HTTPConnection) -> str:
    """From where a request comes, as far as a stated proxy tells."""
    return request.client.host if request.client else ""
