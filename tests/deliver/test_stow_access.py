"""STOW-RS: who we are to the server and whom we trust: tokens, passwords, certificates; does it let us in.

The server is one of bytes. Not covered: proxies.
"""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest

from dicom_node.deliver.stow import check, store
from dicom_node.errors import (
    ConfigurationError,
    DestinationUnavailable,
    NodeError,
)
from dicom_node.http_client import look_at_web
from dicom_node.settings import Secret, Settings, WebDestination
from tests.deliver.web import SECRET, takes_all, to
from tests.support.certificates import Authority, Pair
from tests.support.running import free_port
from tests.support.web_peer import WebPeer, answer


def test_the_token_goes_along_and_a_new_one_is_taken_up(paths: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "token"
    with WebPeer(takes_all) as peer:
        destination = to(peer, token=Secret(file=file))
        for token in (SECRET, "renewed"):
            file.write_text(f"{token}\n")
            list(store(destination, paths[:1]))
    assert [r.headers["authorization"] for r in peer.requests] == [f"Bearer {SECRET}", "Bearer renewed"]


def test_user_and_password_go_along(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_PASSWORD", SECRET)
    with WebPeer(takes_all) as peer:
        list(store(to(peer, user="node", password=Secret(variable="PACS_PASSWORD")), paths[:1]))
    kind, encoded = peer.requests[0].headers["authorization"].split()
    assert (kind, base64.b64decode(encoded).decode()) == ("Basic", f"node:{SECRET}")


def test_nothing_of_the_environment_goes_along(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login somebody password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with WebPeer(takes_all) as peer:
        list(store(to(peer), paths[:1]))
    assert "authorization" not in peer.requests[0].headers


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        (b"", "missing or empty"),
        (b"two\nlines", "not one line"),
        (f"{SECRET}\xe9".encode(), "printable ASCII"),
    ],
)
def test_a_secret_that_cannot_be_used_is_named_by_its_place(
    content: bytes | None, told: str, paths: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    destination = WebDestination(name="w", url="http://127.0.0.1:1/x", token=Secret(file=file))
    with pytest.raises(DestinationUnavailable, match=told) as caught:  # it may be made good meanwhile
        list(store(destination, paths))
    assert str(file) in str(caught.value)
    assert SECRET not in str(caught.value)


def server_context(own: Pair, clients: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


def test_a_certificate_that_the_ca_file_vouches_for_is_trusted_and_no_other(
    paths: list[Path], tmp_path: Path
) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "stranger")
    with WebPeer(takes_all, tls=server_context(authority.sign("server"))) as peer:
        assert list(store(to(peer, ca_file=authority.path), paths)) == paths
        for destination in (to(peer, ca_file=stranger.path), to(peer)):
            with pytest.raises(DestinationUnavailable, match="over TLS: its certificate"):
                list(store(destination, paths))
    elsewhere = authority.sign("elsewhere", names=("pacs.example",))
    with (
        WebPeer(takes_all, tls=server_context(elsewhere)) as other,
        pytest.raises(DestinationUnavailable, match="over TLS: its certificate"),
    ):
        list(store(to(other, ca_file=authority.path), paths))
    assert len(peer.requests) == len(paths)
    assert not other.requests


def test_a_server_that_wants_our_certificate_gets_it(paths: list[Path], tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    ours = authority.sign("node")
    with WebPeer(takes_all, tls=server_context(authority.sign("server"), clients=authority.path)) as peer:
        known = to(peer, ca_file=authority.path, certificate_file=ours.certificate, key_file=ours.key)
        assert list(store(known, paths)) == paths
        with pytest.raises(DestinationUnavailable):
            list(store(to(peer, ca_file=authority.path), paths))


def test_plain_http_where_tls_is_expected_is_told(paths: list[Path], tmp_path: Path) -> None:
    with WebPeer(takes_all) as peer:
        destination = WebDestination(name="w", url=peer.url.replace("http:", "https:"), timeout_s=5)
        with pytest.raises(DestinationUnavailable, match="does not answer in TLS"):
            list(store(destination, paths))


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_named(
    content: str | None, paths: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    destination = WebDestination(name="w", url="https://127.0.0.1:1/x", ca_file=file)
    with pytest.raises(DestinationUnavailable, match=r"ca_file .*ca\.pem"):
        list(store(destination, paths))
    with pytest.raises(ConfigurationError, match=r"ca_file .*ca\.pem"):
        look_at_web(Settings(destinations=(destination,)))


def test_what_is_dangerous_or_missing_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "token"
    open_door = WebDestination(name="w", url="http://pacs.example/dicom-web", token=Secret(file=file))
    with pytest.raises(ConfigurationError, match=f"the secret in {file}: No such file"):
        look_at_web(Settings(destinations=(open_door,)))
    file.write_text(SECRET)
    file.chmod(0o644)
    notes = look_at_web(Settings(destinations=(open_door,)))
    assert [note.is_warning for note in notes] == [True, True]
    assert "can be read by every user" in notes[0].text
    assert "images and secrets go over the network unencrypted" in notes[1].text
    authority = Authority(tmp_path / "ca")
    file.chmod(0o600)
    secured = WebDestination(
        name="w", url="https://pacs.example/x", token=Secret(file=file), ca_file=authority.path
    )
    (note,) = look_at_web(Settings(destinations=(secured,)))
    assert "is valid until" in note.text


@pytest.mark.parametrize("status", [200, 204])
def test_a_service_that_answers_a_query_without_a_match_is_there(status: int) -> None:
    with WebPeer(lambda _: answer(status, [] if status == 200 else None)) as peer:
        check(to(peer))
    assert peer.requests[0].target.startswith("/dicom-web/studies?StudyInstanceUID=")


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, ConfigurationError), (404, ConfigurationError), (400, DestinationUnavailable), (503, NodeError)],
)
def test_a_service_that_does_not_let_us_in_is_not(status: int, error: type[NodeError]) -> None:
    with WebPeer(lambda _: answer(status)) as peer, pytest.raises(error, match=str(status)):
        check(to(peer))
