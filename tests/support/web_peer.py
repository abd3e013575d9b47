"""A web server of bytes: what it answers, and how, is the test's business."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    body_bytes: int

    def dicom(self) -> bytes:
        """The one DICOM part of a multipart body, which must be exactly that."""
        boundary = self.headers["content-type"].rpartition("boundary=")[2].encode()
        head, _, rest = self.body.partition(b"\r\n\r\n")
        assert head == b"--" + boundary + b"\r\nContent-Type: application/dicom"
        tail = b"\r\n--" + boundary + b"--\r\n"
        assert rest.endswith(tail)
        return rest.removesuffix(tail)


Answer = bytes | Iterable[bytes | float]  # bytes to send, seconds to wait


def answer(status: int, content: object = None, *headers: str) -> bytes:
    """An HTTP answer; content is sent as JSON unless it is bytes."""
    body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def stored(*uids: str, warning: int | None = None, failed: dict[str, int] | None = None) -> dict[str, object]:
    """A Store Instances Response Module (PS3.18 Annex I) in DICOM JSON."""

    def item(uid: str, tag: str, reason: int | None) -> dict[str, object]:
        named = {"00081155": {"vr": "UI", "Value": [uid]}}
        return named if reason is None else {**named, tag: {"vr": "US", "Value": [reason]}}

    good = [item(uid, "00081196", warning) for uid in uids]
    bad = [item(uid, "00081197", reason) for uid, reason in (failed or {}).items()]
    module = {}
    if good:
        module["00081199"] = {"vr": "SQ", "Value": good}
    if bad:
        module["00081198"] = {"vr": "SQ", "Value": bad}
    return module


@dataclass
class WebPeer:
    """Answers each request by a function of it; a context manager.

    Attributes
    ----------
    reads_bodies : False answers after the head; the body stays in the socket
    keeps_bodies : False counts their bytes only
    """

    respond: Callable[[Request], Answer]
    tls: ssl.SSLContext | None = None
    reads_bodies: bool = True
    keeps_bodies: bool = True
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/dicom-web"

    @property
    def posted(self) -> list[Request]:
        return [r for r in self.requests if r.method == "POST"]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(10)
                    if self.tls:
                        connection = self.tls.wrap_socket(connection, server_side=True)
                    self._serve(connection)
                    connection.close()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            piece = connection.recv(65536)
            if not piece:
                return
            received += piece
            if received[0] == 0x16:  # a TLS client
                connection.sendall(answer(400))
                return
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body, length = bytearray(rest), len(rest)
        wanted = int(headers.get("content-length", 0)) if self.reads_bodies else 0
        while length < wanted:
            piece = connection.recv(65536)
            length += len(piece)
            if self.keeps_bodies:
                body += piece
        request = Request(method, target, headers, bytes(body), length)
        self.requests.append(request)
        said = self.respond(request)
        for piece in [said] if isinstance(said, bytes) else said:
            if isinstance(piece, bytes):
                connection.sendall(piece)
            elif self._stopping.wait(piece):
                return
