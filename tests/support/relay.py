"""A way to a server that can be cut at the worst moment: what was asked arrives, the answer does not.

It can end TLS too, as the proxy in front of a hospital's web server does.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Self


class Relay:
    """Passes bytes on between whoever connects and a port on loopback; a context manager.

    Attributes
    ----------
    sent : what each connection sent, as a list in the order of their opening
    holds : while set, what the server answers does not come back
    held : set once an answer was held back
    """

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self._target, self._tls = target, tls
        self.sent: list[bytearray] = []
        self.holds, self.held = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(client)
            if self._tls:
                client = stack.enter_context(self._tls.wrap_socket(client, server_side=True))
            server = stack.enter_context(socket.create_connection(("127.0.0.1", self._target)))
            self.sent.append(bytearray())
            back = threading.Thread(target=self._bring_back, args=(server, client), daemon=True)
            back.start()
            while piece := client.recv(65536):
                self.sent[-1] += piece
                server.sendall(piece)
            server.shutdown(socket.SHUT_WR)
            back.join(30)

    def _bring_back(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := server.recv(65536):
                if self.holds.is_set():
                    self.held.set()
                else:
                    client.sendall(piece)
            if not self.holds.is_set():
                client.shutdown(socket.SHUT_WR)
