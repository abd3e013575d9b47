"""A stated reverse proxy: what it says of a request holds, and whoever comes past it is refused.

Scheme and address of a request are those that the proxy tells (``X-Forwarded-Proto``,
``X-Forwarded-For``), read by uvicorn. ``Host`` must be passed on as it came.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from dicom_node.settings import Web
from dicom_node.web.access.addresses import is_loopback

# Asked by what watches the node, which need not come through the proxy
WATCHED = frozenset(("/health", "/ready", "/metrics"))


class BehindProxy:
    """ASGI middleware; outermost."""

    def __init__(self, app: ASGIApp, web: Web) -> None:
        self._networks = [ip_network(each) for each in web.behind_proxy]
        self._has_tls = web.tls is not None
        self._open = app
        self._app = ProxyHeadersMiddleware(self._after, list(web.behind_proxy))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._open(scope, receive, send)
            return
        host = (scope.get("client") or ("",))[0]
        if not (self._is_proxy(host) or is_loopback(host) or self._has_tls):
            objection = "come through the reverse proxy: without it nothing is encrypted"
            await PlainTextResponse(f"{objection}\n", 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)  # type: ignore[arg-type]

    async def _after(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["scheme"] != "https" and scope["path"] not in WATCHED:
            objection = "the reverse proxy must take https and send X-Forwarded-Proto: https"
            await PlainTextResponse(f"{objection}\n", 403)(scope, receive, send)
            return
        await self._open(scope, receive, send)

    def _is_proxy(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)
