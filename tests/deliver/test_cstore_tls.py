"""Sending over TLS: DCMTK's storescp and Python's ssl as peers, mutual authentication, names, every refusal
in words, and silence.

Not covered: TLS of the receiver (tests/receive/test_tls.py), of DICOMweb destinations.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.deliver.cstore import Peer, echo, send_files
from dicom_node.errors import DestinationUnavailable
from dicom_node.settings import DestinationTLS
from tests.support.certificates import Authority, Pair
from tests.support.running import free_port, need, process
from tests.support.spot import affine_of, image_spot

SHAPE = (3, 20, 16)


@pytest.fixture
def paths(series_of: Callable[..., list[Path]]) -> list[Path]:
    return series_of(image_spot(affine_of(shape=SHAPE), shape=SHAPE))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("hospital"))


def peer_at(port: int, ca: Path, own: Pair | None = None, host: str = "127.0.0.1", **others: object) -> Peer:
    files = {"certificate_file": own.certificate, "key_file": own.key} if own else {}
    tls = DestinationTLS(ca_file=ca, **files, **others)
    return Peer("PACS", host, port, "NODE", timeout_s=60, tls=tls)


@contextmanager
def scp(own: Pair, ca: Path | None = None, version: ssl.TLSVersion | None = None) -> Iterator[int]:
    """A PACS that speaks TLS, and asks for a certificate if it has a CA for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    if ca:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    if version:
        context.minimum_version = context.maximum_version = version
    ae = AE("PACS")
    ae.add_supported_context(MRImageStorage, ExplicitVRLittleEndian)
    ae.add_supported_context(Verification)
    handlers = [(evt.EVT_C_STORE, lambda _: 0x0000)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=context)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def test_storescp_takes_files_over_tls_with_both_sides_proven(
    authority: Authority, paths: list[Path], tmp_path: Path
) -> None:
    theirs, ours, port = authority.sign("pacs", kind="rsa"), authority.sign("node"), free_port()
    (tmp_path / "stored").mkdir()
    secure = ["+tls", theirs.key, theirs.certificate, "+cf", authority.path]
    command = [need("storescp"), "--fork", *secure, "-od", tmp_path / "stored", str(port)]
    with process(*command, log=tmp_path / "storescp.log", port=port):
        peer = peer_at(port, authority.path, ours)
        echo(peer)
        assert list(send_files(peer, paths)) == paths
        with pytest.raises(
            DestinationUnavailable, match=r"set certificate_file and key_file|does not answer"
        ):
            echo(peer_at(port, authority.path))
    stored = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "stored").iterdir()}
    assert stored == {pydicom.dcmread(path).SOPInstanceUID for path in paths}


def test_the_command_sends_over_tls_and_names_wrong_files(
    authority: Authority, paths: list[Path], tmp_path: Path
) -> None:
    theirs, ours, port = authority.sign("pacs", kind="rsa"), authority.sign("node"), free_port()
    (tmp_path / "stored").mkdir()
    secure = ["+tls", theirs.key, theirs.certificate, "+cf", authority.path]
    command = [need("storescp"), "--fork", *secure, "-od", tmp_path / "stored", str(port)]

    def send(*options: object, address: str = f"127.0.0.1:{port}") -> tuple[int, str]:
        arguments = ["send", paths[0].parent, address, "--called", "PACS", *options]
        told = CliRunner().invoke(app, list(map(str, arguments)))
        return told.exit_code, told.output

    own = ["--certificate", ours.certificate, "--key", ours.key]
    with process(*command, log=tmp_path / "storescp.log", port=port):
        code, told = send("--ca", authority.path, *own)
        assert (code, f"3 of 3 files stored by PACS@127.0.0.1:{port}" in told) == (0, True), told
        assert send("--ca", authority.path)[0] == 1  # storescp requires a certificate
        code, told = send("--ca", authority.path, *own, "--server-name", "ris.hospital")
        assert (code, "its certificate is for another name" in told) == (1, True), told
        assert send(address=f"127.0.0.1:{port}")[0] == 1
    assert len(list((tmp_path / "stored").iterdir())) == len(paths)
    for options, words in (
        (own, "go with --ca"),
        (["--ca", authority.path, "--key", ours.key], "--certificate and --key go together"),
        (["--ca", tmp_path / "gone.pem"], "gone.pem: No such file"),
        (["--ca", authority.path, *own[:3], theirs.key], "is not the key of"),
    ):
        code, told = send(*options)
        assert (code, words in told) == (2, True), told


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_each_version_is_spoken(authority: Authority, paths: list[Path], version: ssl.TLSVersion) -> None:
    with scp(authority.sign("pacs"), authority.path, version) as port:
        assert list(send_files(peer_at(port, authority.path, authority.sign("node")), paths)) == paths


@pytest.mark.parametrize(
    ("names", "host", "others", "words"),
    [
        (("127.0.0.1",), "127.0.0.1", {}, None),
        (("localhost",), "localhost", {}, None),
        (("pacs.hospital",), "127.0.0.1", {}, "is for another address; set server_name"),
        (("pacs.hospital",), "localhost", {}, "is for another name; set server_name"),
        (("pacs.hospital",), "127.0.0.1", {"server_name": "pacs.hospital"}, None),
        (("pacs.hospital",), "127.0.0.1", {"server_name": "ris.hospital"}, "is for another name"),
        (("pacs.hospital",), "127.0.0.1", {"check_name": False}, None),
    ],
)
def test_the_certificate_must_name_the_host_or_what_is_set(
    authority: Authority, names: tuple[str, ...], host: str, others: dict[str, object], words: str | None
) -> None:
    with scp(authority.sign("named", names=names)) as port:
        peer = peer_at(port, authority.path, host=host, **others)
        if words is None:
            echo(peer)
        else:
            with pytest.raises(DestinationUnavailable, match=words):
                echo(peer)


def test_bad_certificates_of_the_peer_are_refused_with_clear_words(
    authority: Authority, tmp_path: Path
) -> None:
    elsewhere = Authority(tmp_path / "elsewhere", "Another CA")
    forger = Authority(tmp_path / "forger")  # the same name, another key
    for pair, words in (
        (authority.sign("old", days=-0.5), "its certificate has expired; renew it"),
        (authority.sign("early", start_days=3), "its certificate is not valid yet"),
        (elsewhere.sign("foreign"), "its certificate is signed by nobody in ca_file"),
        (forger.sign("forged"), "its certificate "),
    ):
        with (
            scp(pair) as port,
            pytest.raises(DestinationUnavailable, match=f"cannot be reached over TLS: {words}"),
        ):
            echo(peer_at(port, authority.path, check_name=False))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_peer_that_does_not_take_our_certificate_is_told_of(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    foreign = Authority(tmp_path, "Another CA").sign("node")
    with scp(authority.sign("pacs"), authority.path, version) as port:
        for own, words in (
            (foreign, "it does not trust the CA of our certificate"),
            (authority.sign("old", days=-0.5), "it says that our certificate has expired"),
        ):
            with pytest.raises(DestinationUnavailable, match=words):
                echo(peer_at(port, authority.path, own))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_an_old_peer_is_refused(authority: Authority) -> None:
    with (
        scp(authority.sign("pacs"), version=ssl.TLSVersion.TLSv1_1) as port,
        pytest.raises(DestinationUnavailable, match=r"update it|cannot be reached over TLS"),
    ):
        echo(peer_at(port, authority.path))


def test_a_peer_without_tls_is_told_of(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def abort() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.recv(100)
                accepted.sendall(b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x01")

        thread = threading.Thread(target=abort)
        thread.start()
        with pytest.raises(DestinationUnavailable, match="it does not answer in TLS; switch TLS on there"):
            echo(peer_at(listener.getsockname()[1], authority.path))
        thread.join()


@pytest.mark.parametrize("silent_after", ["connecting", "the handshake"])
def test_a_silent_peer_is_given_up_in_time(authority: Authority, silent_after: str) -> None:
    own = authority.sign("pacs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def be_silent() -> None:
            accepted, _ = listener.accept()
            with accepted:
                if silent_after == "connecting":
                    over.wait(120)
                    return
                with context.wrap_socket(accepted, server_side=True):
                    over.wait(120)

        thread = threading.Thread(target=be_silent)
        thread.start()
        started = time.monotonic()
        peer = peer_at(listener.getsockname()[1], authority.path)
        with pytest.raises(DestinationUnavailable):
            echo(Peer(peer.ae_title, peer.host, peer.port, "NODE", timeout_s=1, tls=peer.tls))
        assert time.monotonic() - started < 60
        over.set()
        thread.join()


def test_files_that_cannot_be_used_are_named_and_the_delivery_waits(
    authority: Authority, tmp_path: Path
) -> None:
    own = authority.sign("node")
    other = authority.sign("other")
    for pair, ca, words in (
        (own, tmp_path / "gone.pem", r"gone\.pem: No such file"),
        (Pair(own.certificate, other.key), authority.path, "is not the key of"),
    ):
        with pytest.raises(DestinationUnavailable, match=words):
            echo(peer_at(free_port(), ca, pair))
