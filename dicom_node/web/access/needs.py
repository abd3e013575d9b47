"""What each route needs: declared beside it, by :func:`needs`; a route that declares nothing is nobody's.

It is asked for twice: of every route as a dependency of the application, which comes after the body was read,
and by :class:`RoleFirst` before that, so that nobody sends a file for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from dicom_node.web.access.roles import Role
from dicom_node.web.access.visitor import visitor_of

_DECLARED = "needed_role"

E = TypeVar("E", bound=Callable[..., Any])


def needs(role: Role) -> Callable[[E], E]:
    """Declare a role, between the router's decorator and the function."""

    def declare(endpoint: E) -> E:
        setattr(endpoint, _DECLARED, role)
        return endpoint

    return declare


def needed_by(endpoint: object) -> Role | None:
    """What a route needs; None where nothing was declared."""
    return getattr(endpoint, _DECLARED, None)


def require_role(request: Request) -> None:
    """Let pass who has the role that the route needs; a dependency of the whole application.

    Raises
    ------
    HTTPException
        403, with the role that would do.
    """
    needed = needed_by(request.scope["route"].endpoint)
    if needed is None:
        raise HTTPException(403, "this is open to nobody: its route declares no role")
    if not visitor_of(request).role.covers(needed):
        raise HTTPException(403, f"this needs the role {needed}: ask an administrator for it")


class RoleFirst(APIRoute):
    """A route that looks at the role before it reads the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Make what answers a request."""
        answer = super().get_route_handler()

        async def answer_who_may(request: Request) -> Response:
            require_role(request)
            return await answer(request)

        return answer_who_may
