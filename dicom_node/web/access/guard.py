"""What does not come from the page itself is refused, and every answer has the security headers.

A browser that shows the page shows other sites too. None of them may send anything here (the request's
``Origin`` or ``Sec-Fetch-Site`` gives it away), nor read anything under a name of its own that leads to our
address (``Host`` gives that away).
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.settings import Web
from dicom_node.web.access.addresses import address_of, is_loopback

SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
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
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_NOT_KEPT = "no-store"  # pages show patient data: no browser writes them to disk
# It binds every port of a host name: told only where the page has the name for itself, by the usual port
_TLS_ONLY = ("strict-transport-security", "max-age=31536000")


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, web: Web) -> None:
        self._app, self._web = app, web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = _host(headers)
        objection = self._objection(scope, headers, host)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer.setdefault(name, value)
                answer.setdefault("cache-control", _NOT_KEPT)
                if scope["scheme"] == "https" and not objection and host and host.port is None:
                    answer.setdefault(*_TLS_ONLY)
            await send(message)

        if objection:
            await PlainTextResponse(f"{objection}\n", 403)(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)

    def _objection(self, scope: Scope, headers: Headers, host: SplitResult | None) -> str | None:
        if host is None or not self._answers_to(host.hostname or ""):
            return "this page does not answer to that name: " + (
                "an administrator can add it to web.hostnames"
                if self._web.demands_login
                else "open it as 127.0.0.1 or localhost"
            )
        if scope["method"] in SAFE:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if (origin and origin != f"{scope['scheme']}://{host.netloc}") or (site and site not in _SAME_SITE):
            return "another site may not send anything here"
        return None

    def _answers_to(self, name: str) -> bool:
        if is_loopback(name) or name in self._web.hostnames:
            return True
        # A name of theirs is how other sites would read us; an address has none
        return self._web.demands_login and address_of(name) is not None


def _host(headers: Headers) -> SplitResult | None:
    """Read the header ``Host``; None where it is none."""
    try:
        host = urlsplit(f"//{headers.get('host', '')}")
        _ = host.port
    except ValueError:
        return None
    return host
