"""Who may use the node, and who does: users, tokens and sessions; for administrators."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from dicom_node.web.access.login_pages import AtDesk
from dicom_node.web.access.needs import RoleFirst, needs
from dicom_node.web.access.roles import Role
from dicom_node.web.pages import page

router = APIRouter(route_class=RoleFirst, include_in_schema=False, prefix="/access")


@router.get("")
@needs(Role.ADMIN)
def shown(request: Request, desk: AtDesk) -> Response:
    """Show who may log in and who has."""
    return page(
        request,
        "access.html",
        users=desk.users.all(),
        tokens=desk.tokens.all(),
        sessions=desk.sessions.all(),
    )


@router.post("/end/{digest}")
@needs(Role.ADMIN)
def end(desk: AtDesk, digest: str) -> Response:
    """End somebody's session, at once."""
    desk.end(digest)
    return RedirectResponse("/access", 303)
