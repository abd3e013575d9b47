"""The server in a thread: what it says when it cannot listen, that it ends with the node.

Covered: a port that is taken is named with the remedy, stopping with a request under way. Not covered: what
is served (test_api), to whom (test_access), TLS (test_access_serving).
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from dicom_node.settings import Web
from dicom_node.web.server import WebServer
from tests.support.running import free_port, wait_for


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
