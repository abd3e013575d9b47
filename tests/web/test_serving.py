"""The server in a thread: what it says when it cannot listen, that it ends with the node.

Covered: a port that is taken is named with the remedy, stopping with a request under way, and, byte by byte,
that it waits neither for a head nor a body that does not come, nor holds more connections than it may. Not
covered: what is served (test_api), to whom (test_access), TLS (test_access_serving).
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from dicom_node.settings import Web
from dicom_node.web.patience import Patience
from dicom_node.web.server import WebServer
from tests.support.running import free_port, listens, wait_for


async def _slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, at /slow only after the server has stopped."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(60)
    await PlainTextResponse("here")(scope, receive, send)


def test_it_ends_although_a_request_is_under_way_and_lets_go_of_its_port() -> None:
    port = free_port()
    server = WebServer(Web(port=port), _slow)
    server.start()
    assert server.url == f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        return httpx.get(server.url, timeout=60).text == "here"

    wait_for(answers)

    def ask() -> None:
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{server.url}slow", timeout=60).raise_for_status()

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.5)
    server.stop()
    asking.join(60)
    assert not asking.is_alive()
    socket.create_server(("127.0.0.1", port)).close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server that waits a second for a head, three in a body, and serves three at a time."""
    monkeypatch.setattr(Patience, "head_s", 1.0)
    monkeypatch.setattr(Patience, "pause_s", 3.0)
    monkeypatch.setattr(Patience, "most_connections", 3)
    port = free_port()
    server = WebServer(Web(port=port), _reading)
    server.start()
    wait_for(lambda: listens(port))
    yield port
    server.stop()


async def _reading(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the size of the body, after half a second longer than one waits for a head."""
    if scope["type"] == "http":
        size = len(await Request(scope, receive).body())
        await asyncio.sleep(1.5)
        await PlainTextResponse(f"read {size}")(scope, receive, send)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def is_closed(connection: socket.socket) -> bool:
    """Whether the server closes it, without an answer, while we wait."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def answer(connection: socket.socket, end: bytes) -> bytes:
    """Read up to the end of an answer."""
    read = b""
    while not read.endswith(end):
        some = connection.recv(1 << 16)
        assert some, read
        read += some
    return read


HEAD = b"GET / HTTP/1.1\r\nhost: a\r\n"


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD], ids=["nothing", "a line", "no end"])
def test_a_head_that_does_not_come_is_not_waited_for(sent: bytes, impatient: int) -> None:
    with connect(impatient) as connection:
        connection.sendall(sent)
        assert is_closed(connection)


def test_a_head_that_drips_is_not_waited_for_either(impatient: int) -> None:
    with connect(impatient) as connection:
        connection.sendall(HEAD)

        def is_cut() -> bool:
            try:
                connection.sendall(b"a: b\r\n")
            except OSError:
                return True
            return False

        wait_for(is_cut)


def test_a_second_head_on_a_connection_has_its_own_time(impatient: int) -> None:
    with connect(impatient) as connection:
        for _ in range(2):
            connection.sendall(HEAD + b"\r\n")
            assert answer(connection, b"read 0").startswith(b"HTTP/1.1 200")
        connection.sendall(HEAD)
        assert is_closed(connection)


def test_a_body_may_take_long_but_not_pause(impatient: int) -> None:
    head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n"
    with connect(impatient) as connection:
        connection.sendall(head)
        for _ in range(9):
            time.sleep(0.4)
            connection.sendall(b"x")
        assert answer(connection, b"read 9").startswith(b"HTTP/1.1 200")
        connection.sendall(head + b"xxx")
        assert is_closed(connection)


def test_more_connections_than_may_be_are_closed_at_once(
    impatient: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Patience, "head_s", 60.0)
    with connect(impatient) as first, connect(impatient), connect(impatient), connect(impatient) as fourth:
        assert is_closed(fourth)
        first.sendall(HEAD + b"\r\n")
        assert answer(first, b"read 0").startswith(b"HTTP/1.1 200")


@pytest.mark.slow
def test_a_port_that_is_taken_is_named_with_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "node.toml"
        path.write_text(
            f'folder = "{tmp_path / "var"}"\n[receive]\nport = {free_port()}\n[web]\nport = {port}\n'
        )
        command = [sys.executable, "-m", "dicom_node", "serve", "--config", path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2, done.stderr
    assert f"web.host 127.0.0.1, web.port {port}: cannot listen there" in done.stderr
    assert "take another port, or set web.enabled = false" in done.stderr
    assert "Traceback" not in done.stderr
