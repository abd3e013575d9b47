"""A small listener for ``/metrics``, ``/health`` and ``/ready`` where there is no page."""

from __future__ import annotations

import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dicom_node.errors import ConfigurationError
from dicom_node.operate.endpoints import Endpoints
from dicom_node.settings import Operate

_TIMEOUT_S = 10.0  # for the whole of a request


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT_S
    server_version = "dicom-node"
    sys_version = ""

    def do_GET(self) -> None:
        answer = self.server.endpoints.answer(self.path.partition("?")[0])
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Keep each scrape out of the log."""


class Listener:
    """Listens until it is stopped.

    Raises
    ------
    ConfigurationError
        The address cannot be bound.
    """

    def __init__(self, settings: Operate, endpoints: Endpoints) -> None:
        port = settings.port or 0
        try:
            self._server = _Server((settings.host, port), endpoints)
        except OSError as error:
            where = f"operate.host {settings.host}, operate.port {port}"
            raise ConfigurationError(f"{where}: cannot listen there: {error.strerror}") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="operate", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
