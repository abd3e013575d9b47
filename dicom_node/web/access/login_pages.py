"""Logging in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from dicom_node.web.access.addresses import within
from dicom_node.web.access.cookies import done, errand_name, forget, keep, send_off
from dicom_node.web.access.desk import Desk, Refusal
from dicom_node.web.access.needs import RoleFirst, needs
from dicom_node.web.access.provider import Errand, NotLetIn, Provider, ProviderUnavailable
from dicom_node.web.access.roles import Role
from dicom_node.web.access.visitor import host_of, visitor_of
from dicom_node.web.node_view import View
from dicom_node.web.pages import page

router = APIRouter(route_class=RoleFirst, include_in_schema=False)


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


def _provider(desk: AtDesk) -> Provider:
    if desk.provider is None:
        raise HTTPException(404, "this node has no identity provider")
    return desk.provider


AtProvider = Annotated[Provider, Depends(_provider)]


@router.get("/login/provider")
@needs(Role.ANYBODY)
def to_provider(request: Request, node: View, provider: AtProvider, to: str = "") -> Response:
    """Send a browser to the identity provider."""
    errand = Errand.new(within(to))
    answer = RedirectResponse(provider.address(errand, _back(request)), 303)
    send_off(answer, errand.to_cookie(), is_secure=node.started.web.is_encrypted)
    return answer


@router.get("/login/provider/answer")
@needs(Role.ANYBODY)
def from_provider(request: Request, node: View, desk: AtDesk, provider: AtProvider) -> Response:
    """Let in whom the identity provider sends back, into a session that is new."""
    is_secure = node.started.web.is_encrypted
    errand = Errand.of_cookie(request.cookies.get(errand_name(is_secure), ""))
    answer: Response
    if errand is None:
        answer = _form(request, node, "", "The login took too long, or began elsewhere: begin anew.", 400)
    else:
        try:
            let_in = desk.log_in_by_provider(
                provider, errand, request.query_params, _back(request), host_of(request)
            )
            # Not a redirect: its strict cookie would be kept back on the way from another site
            answer = page(request, "onward.html", address=within(errand.to))
            keep(answer, let_in, is_secure=is_secure)
        except NotLetIn as refusal:
            answer = _form(request, node, errand.to, str(refusal), 403)
        except ProviderUnavailable as fault:
            answer = _form(request, node, errand.to, str(fault), 503)
    done(answer, is_secure=is_secure)
    return answer


def _back(request: Request) -> str:
    return str(request.url.replace(path="/login/provider/answer", query=""))


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
