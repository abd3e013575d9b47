"""How the page is reached: by its own TLS, and behind nginx.

Covered: certificates are renewed while it serves, files that cannot be used are named at
start; behind nginx, who asks and by which scheme are what nginx says, cookies are for https only, and whoever
comes past it is refused. Not covered: who may do what (test_access).
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from dicom_node.errors import ConfigurationError
from dicom_node.events import UserAuthenticated
from dicom_node.settings import Settings, Web
from dicom_node.tls import look_at_all
from dicom_node.web.access.proxy import BehindProxy
from dicom_node.web.server import WebServer
from tests.support.certificates import Authority, Pair
from tests.support.running import free_port, need, process
from tests.web.gated import PAGE, TIMEOUT_S, Gated, csrf_of, log_in, serve_gated

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    location / {{
      proxy_pass {page};
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}
}}
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def serial_of(gated: Gated) -> int:
    """Of the certificate that is shown now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert isinstance(gated.trust, ssl.SSLContext)
    context.load_verify_locations(cadata=gated.trust.get_ca_certs(binary_form=True)[0])
    host, port = gated.url.removeprefix("https://").split(":")
    with (
        socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as raw,
        context.wrap_socket(raw, server_hostname=host) as secure,
    ):
        shown = secure.getpeercert()
        assert shown
        return int(str(shown["serialNumber"]), 16)


def test_a_renewed_certificate_serves_without_a_restart(tmp_path: Path, authority: Authority) -> None:
    with serve_gated(tmp_path, authority, login={"always": True}) as gated:
        before = serial_of(gated)
        assert serial_of(gated) == before
        authority.sign("page")  # the same files
        assert serial_of(gated) != before
        with gated.client() as client:
            assert client.get("/login").status_code == 200


def test_files_that_cannot_be_used_are_named_at_start(tmp_path: Path, authority: Authority) -> None:
    one, other = authority.sign("one"), authority.sign("other")
    web = Web(host="0.0.0.0", certificate_file=one.certificate, key_file=other.key)  # noqa: S104
    with pytest.raises(ConfigurationError, match="is not the key of"):
        look_at_all(Settings(folder=tmp_path, web=web))
    with pytest.raises(ConfigurationError, match="is not the key of"):
        WebServer(web, PlainTextResponse("here"))
    good = Web(host="0.0.0.0", certificate_file=one.certificate, key_file=one.key)  # noqa: S104
    assert any("is valid until" in note.text for note in look_at_all(Settings(folder=tmp_path, web=good)))


@contextmanager
def nginx(folder: Path, page: str, pair: Pair) -> Iterator[str]:
    """A reverse proxy that ends TLS, as docs/access.md sets it up."""
    port = free_port()
    path = folder / "nginx.conf"
    path.write_text(
        NGINX.format(folder=folder, port=port, page=page, certificate=pair.certificate, key=pair.key)
    )
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin") or need("nginx")
    command = (program, "-c", path, "-p", folder, "-e", folder / "error.log")
    with process(*command, log=folder / "out", port=port):
        yield f"https://localhost:{port}"


@pytest.mark.peer
def test_behind_nginx_the_page_knows_who_asks(tmp_path: Path, authority: Authority) -> None:
    trust = ssl.create_default_context(cafile=authority.path)
    with (
        serve_gated(tmp_path / "node", behind_proxy=["127.0.0.1"], hostnames=["node.example"]) as gated,
        nginx(tmp_path, gated.url, authority.sign("proxy")) as url,
    ):
        forged = {"x-forwarded-for": "192.0.2.99", "x-forwarded-proto": "http"}
        with httpx.Client(base_url=url, verify=trust, headers=PAGE | forged, timeout=TIMEOUT_S) as client:
            assert client.get("/series").headers["location"] == "/login?to=%2Fseries"
            let_in = log_in(client, "operator")
            assert let_in.status_code == 303, let_in.text
            assert let_in.headers["set-cookie"].startswith("__Host-dicom-node=")
            assert gated.told == [UserAuthenticated("operator", "127.0.0.1", succeeded=True)]
            own = {"origin": url}
            assert client.post("/series", data={"csrf": csrf_of(client)}, headers=own).status_code == 200
            assert client.get("/login", headers={"host": "evil.example"}).status_code == 403
            assert client.get("/series", headers={"host": "node.example"}).status_code == 200
        with httpx.Client(base_url=gated.url, timeout=TIMEOUT_S) as past:
            refused = past.get("/login")
            assert (refused.status_code, "X-Forwarded-Proto: https" in refused.text) == (403, True)
            assert past.get("/health").status_code == 200
            told = {"x-forwarded-proto": "https", "x-forwarded-for": "198.51.100.7"}
            assert past.post("/login", data={"name": "x"}, headers=told).status_code == 401
            assert gated.told[-1] == UserAuthenticated("x", "198.51.100.7", succeeded=False)


async def _told(scope, receive, send) -> None:
    answer = PlainTextResponse(f"{scope['scheme']} {scope['client'][0]}")
    await answer(scope, receive, send)


@pytest.mark.parametrize(
    ("client", "headers", "status", "text"),
    [
        ("10.0.0.5", {"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.1"}, 200, "https 192.0.2.1"),
        ("10.1.2.3", {"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.1"}, 200, "https 192.0.2.1"),
        # of two, the one that the trusted one added
        (
            "10.0.0.5",
            {"x-forwarded-proto": "https", "x-forwarded-for": "1.2.3.4, 192.0.2.1"},
            200,
            "192.0.2.1",
        ),
        ("10.0.0.5", {"x-forwarded-proto": "http"}, 403, "send X-Forwarded-Proto"),
        ("10.0.0.5", {}, 403, "send X-Forwarded-Proto"),
        ("10.0.0.6", {"x-forwarded-proto": "https"}, 403, "come through the reverse proxy"),
        ("127.0.0.1", {"x-forwarded-proto": "https"}, 403, "send X-Forwarded-Proto"),
    ],
)
def test_only_a_stated_proxy_is_believed(
    client: str, headers: dict[str, str], status: int, text: str
) -> None:
    web = Web(behind_proxy=("10.0.0.5", "10.1.0.0/16"), hostnames=("node.example",))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(BehindProxy(_told, web), client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://node.example") as asking:
            return await asking.get("/series", headers=headers)

    answer = asyncio.run(ask())
    assert answer.status_code == status
    assert text in answer.text
