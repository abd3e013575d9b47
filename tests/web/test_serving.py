"""The server in a thread: where it may listen, what it says when it cannot, that it ends with the node.

Covered: addresses that others can reach are refused at start, a port that is taken is named with the
remedy, the off switch, stopping with a request under way. Not covered: what is served (test_api).
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
from pydantic import ValidationError
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from dicom_node.settings import Web
from dicom_node.web.server import WebServer
from tests.support.running import free_port, wait_for


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "node.hospital.example", "127.0.0.1.example"])  # noqa: S104
def test_an_address_that_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="can be reached from other machines"):
        Web(host=host)
    assert not Web(host=host, enabled=False).enabled


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_may_reach_it(host: str) -> None:
    assert Web(host=host).host == host


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
