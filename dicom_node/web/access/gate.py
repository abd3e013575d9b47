"""Who sent a request, by session or token, before anything of its body is read but a small form.

Whoever has neither sees the login page and what watches the node, and nothing else.
"""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import parse_qs, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.errors import NodeError
from dicom_node.web.access.addresses import within
from dicom_node.web.access.cookies import cookie_name
from dicom_node.web.access.desk import Desk, Refusal
from dicom_node.web.access.guard import SAFE
from dicom_node.web.access.visitor import NOBODY, ON_THIS_MACHINE, Visitor, set_visitor
from dicom_node.web.pages import page

OPEN = frozenset(("/login", "/login/provider", "/login/provider/answer", "/health", "/ready"))
OPEN_BELOW = "/static/"
_ASKED_OF_NOBODY = ("/health", "/ready")  # also while the database does not answer
CSRF_HEADER, CSRF_FIELD = "x-csrf-token", "csrf"
BY_ITSELF_HEADER = "x-by-itself"  # a page asks, not a person
_FORM = "application/x-www-form-urlencoded"
_LONGEST_FORM = 1 << 16  # bytes
_FORM_S = 30.0


class Gate:
    """ASGI middleware.

    Parameters
    ----------
    desk : None where nobody has to log in
    is_secure : whether browsers come by https
    """

    def __init__(self, app: ASGIApp, desk: Desk | None, *, is_secure: bool) -> None:
        self._app, self._desk, self._cookie = app, desk, cookie_name(is_secure)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if self._desk is None or path in _ASKED_OF_NOBODY or path.startswith(OPEN_BELOW):
            set_visitor(scope, ON_THIS_MACHINE if self._desk is None else NOBODY)
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        set_visitor(scope, NOBODY)
        try:
            visitor = await run_in_threadpool(self._visitor, request, self._desk)
        except NodeError as error:
            await _said(request, 503, str(error))(scope, receive, send)
            return
        if isinstance(visitor, Refusal):
            answer: Response = _said(request, 429 if visitor.wait_s else 401, visitor.text)
            if visitor.wait_s:
                answer.headers["retry-after"] = str(visitor.wait_s)
        elif visitor is NOBODY and path not in OPEN:
            answer = _to_login(request, has_cookie=self._cookie in request.cookies)
        else:
            set_visitor(scope, visitor)
            objection, receive = await _look_at_form(request, visitor, receive)
            if objection is None:
                await self._app(scope, receive, send)
                return
            answer = objection
        await answer(scope, receive, send)

    def _visitor(self, request: Request, desk: Desk) -> Visitor | Refusal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return desk.by_token(token.strip(), request.client.host if request.client else "")
        secret = request.cookies.get(self._cookie)
        by_itself = BY_ITSELF_HEADER in request.headers
        return (secret and desk.by_session(secret, by_itself=by_itself)) or NOBODY


async def _look_at_form(
    request: Request, visitor: Visitor, receive: Receive
) -> tuple[Response | None, Receive]:
    """Refuse what other sites could have had a browser send; a token is in no browser.

    Returns
    -------
    The refusal or None, and from where the body is read now.
    """
    if request.method in SAFE or (visitor is not NOBODY and not visitor.session):
        return None, receive
    given = request.headers.get(CSRF_HEADER)
    if given is None or visitor is NOBODY:
        if not request.headers.get("content-type", "").startswith(_FORM):
            why = f"send the header {CSRF_HEADER} with it, as the page does by its script"
            return _said(request, 403, why), receive
        if int(request.headers.get("content-length", "0")) > _LONGEST_FORM:
            return _said(request, 413, f"a form has at most {_LONGEST_FORM} bytes"), receive
        try:
            async with asyncio.timeout(_FORM_S):
                body = await request.body()
        except TimeoutError:
            return _said(request, 408, f"a form is here within {_FORM_S:.0f} s"), receive
        receive = _again(body, receive)
        given = parse_qs(body.decode("latin-1")).get(CSRF_FIELD, [""])[0]
    if visitor.session and not secrets.compare_digest(given.encode(), visitor.csrf.encode()):
        return _said(request, 403, "this form is of another session: load the page again"), receive
    return None, receive


def _again(body: bytes, receive: Receive) -> Receive:
    waiting = [body]

    async def give() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return give


def _to_login(request: Request, *, has_cookie: bool) -> Response:
    if not _is_page(request.headers) or request.method not in SAFE:
        return _said(request, 401, "log in first")
    # A browser that comes from elsewhere keeps a strict cookie back: asked by ourselves it shows it
    if request.headers.get("sec-fetch-site") == "cross-site" and not has_cookie:
        return page(request, "onward.html", address=within(_address(request)))
    return RedirectResponse(f"/login?{urlencode({'to': _address(request)})}", 303)


def _address(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _is_page(headers: Headers) -> bool:
    return "text/html" in headers.get("accept", "")


def _said(request: Request, status: int, text: str) -> Response:
    """Answer a person with a page, and a program as a program."""
    if not request.url.path.startswith("/api/") and _is_page(request.headers):
        return page(request, "error.html", status, text=text)
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": text}, status, headers)
