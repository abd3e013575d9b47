"""Logging in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from dicom_node.web.access.addresses import within
from dicom_node.web.access.cookies import forget, keep
from dicom_node.web.access.desk import Desk, Refusal
from dicom_node.web.access.needs import needs
from dicom_node.web.access.roles import Role
from dicom_node.web.access.visitor import visitor_of
from dicom_node.web.node_view import View
from dicom_node.web.pages import page

router = APIRouter(include_in_schema=False)


def _desk(request: Request) -> Desk:
    desk: Desk | None = request.app.state.desk
    if desk is None:
        raise HTTPException(404, "nobody has to log in here")
    return desk


AtDesk = Annotated[Desk, Depends(_desk)]


@router.get("/login")
@needs(Role.ANYBODY)
def form(request: Request, node: View, desk: AtDesk, to: str = "") -> Response:
    """Show where to log in; who has logged in goes on."""
    if visitor_of(request).session:
        return RedirectResponse(within(to), 303)
    return _form(request, node, to)


def _form(request: Request, node: View, to: str, refusal: str = "", status: int = 200) -> Response:
    return page(request, "login.html", status, to=within(to), refusal=refusal, provider=node.started.web.oidc)


@router.post("/login")
@needs(Role.ANYBODY)
def log_in(
    request: Request,
    node: View,
    desk: AtDesk,
    name: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    to: Annotated[str, Form()] = "",
) -> Response:
    """Let somebody in by their password, into a session that is new."""
    let_in = desk.log_in(name, password, host_of(request))
    if isinstance(let_in, Refusal):
        answer = _form(request, node, to, let_in.text, 429 if let_in.wait_s else 401)
        if let_in.wait_s:
            answer.headers["retry-after"] = str(let_in.wait_s)
        return answer
    answer = RedirectResponse(within(to), 303)
    keep(answer, let_in, is_secure=node.started.web.is_encrypted)
    return answer


@router.post("/logout")
@needs(Role.VIEWER)
def log_out(request: Request, node: View, desk: AtDesk) -> Response:
    """End the session."""
    visitor = visitor_of(request)
    if visitor.session:
        desk.log_out(visitor, host_of(request))
    answer = RedirectResponse("/login", 303)
    forget(answer, is_secure=node.started.web.is_encrypted)
    return answer


def host_of(request: Request) -> str:
    """From where a request comes, as far as a stated proxy tells."""
    return request.client.host if request.client else ""
