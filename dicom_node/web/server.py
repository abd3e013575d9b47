"""The HTTP server: uvicorn in a thread of the node."""

from __future__ import annotations

import socket
import ssl
import threading

import structlog
import uvicorn
from starlette.types import ASGIApp

from dicom_node.settings import Web
from dicom_node.tls import ServerTLS
from dicom_node.web.patience import Patience

STOP_TIMEOUT_S = 3.0  # for requests that run when the node stops; then their connections are closed
_KEEP_ALIVE_S = 30
_BACKLOG = 128

log = structlog.get_logger()


class WebServer:
    """Serves the page and the API.

    Parameters
    ----------
    settings : Web
    app : what is served

    Raises
    ------
    ConfigurationError
        A file of its TLS cannot be used.
    """

    def __init__(self, settings: Web, app: ASGIApp) -> None:
        self._settings = settings
        self._tls = ServerTLS(settings.tls) if settings.tls else None
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=Patience,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                proxy_headers=False,  # only of a stated proxy: BehindProxy
                ssl_context_factory=self._context if self._tls else None,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(STOP_TIMEOUT_S),
            )
        )
        self._thread: threading.Thread | None = None

    def _context(self, *_: object) -> ssl.SSLContext:
        """Make the context of the listening socket, which gives each connection one of the files of then."""
        tls = self._tls
        assert tls is not None  # noqa: S101 - the factory is given with it only

        def renew(connection: ssl.SSLObject, *_: object) -> None:
            connection.context = tls.context()

        context = tls.context()
        context.sni_callback = renew
        return context

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"http{'s' if self._tls else ''}://{host}:{self._settings.port}/"

    def start(self) -> None:
        """Listen.

        Raises
        ------
        OSError
            The address is in use, or not this machine's.
        """
        host, port = self._settings.host, self._settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="web", daemon=True
        )
        self._thread.start()
        log.info("page_served", url=self.url)

    def stop(self) -> None:
        """End; requests that run get a moment."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(2 * STOP_TIMEOUT_S)
            self._thread = None
