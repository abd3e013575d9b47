"""Who may reach the page and the API: this machine only, and no other site's scripts.

A browser on this machine shows other sites too. None of them may send anything here (the request's
``Origin`` or ``Sec-Fetch-Site`` gives it away), nor read anything under a name of its own that leads to a
loopback address (``Host`` gives that away).
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_SAME_SITE = frozenset(("same-origin", "none"))

# No script, style or picture but ours; blob: are the pictures of slices that a page holds ready
_CONTENT = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _CONTENT,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_NOT_KEPT = "no-store"  # pages show patient data: no browser writes them to disk


def objection_to(host: str) -> str | None:
    """Say why the page may not be served at this address; None when it may."""
    if is_loopback(host):
        return None
    return (
        f"{host!r} can be reached from other machines, and nobody has to log in: "
        "take 127.0.0.1, ::1 or localhost, and a reverse proxy on this machine for the others"
    )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine and nobody else's."""
    bare = host.strip("[]").lower()
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return bare == "localhost"


class Guard:
    """ASGI middleware: refuses what does not come from the page itself, and adds the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        objection = _objection(scope["method"], Headers(scope=scope))
        if objection:
            await PlainTextResponse(objection, 403)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", _NOT_KEPT)
            await send(message)

        await self._app(scope, receive, with_headers)


def _objection(method: str, headers: Headers) -> str | None:
    host = urlsplit(f"//{headers.get('host', '')}")
    if not is_loopback(host.hostname or ""):
        return "this page is for this machine: open it as 127.0.0.1 or localhost\n"
    if method in _SAFE:
        return None
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if (origin and urlsplit(origin).netloc != host.netloc) or (site and site not in _SAME_SITE):
        return "another site may not send anything here\n"
    return None
