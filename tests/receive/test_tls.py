"""Covers: TLS of the receiver with DCMTK and Python's ssl: mutual authentication, every refusal with its
words and remedy, silence and plain text on the TLS port, versions, files that change while it runs.
Does not cover: TLS to a destination (tests/deliver/test_cstore_tls.py), revocation, PKCS #11 keys.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.errors import ConfigurationError
from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.receive.status import Status
from dicom_node.settings import Receive
from tests.receive.conftest import HERE_AND_ELSEWHERE, begun_since
from tests.receive.images import SERIES, data_set_of, encode, mr_image, write_images
from tests.receive.wire import ABORT, Peer, associate_rq
from tests.support.certificates import Authority, Pair
from tests.support.running import dcmtk, free_port, wait_for

UID = f"{SERIES}.1"
IMAGE = encode(mr_image(size=256), ExplicitVRLittleEndian)


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Pair:
    return authority.sign("node")


@pytest.fixture(scope="module")
def theirs(authority: Authority) -> Pair:
    return authority.sign("modality")


def tls(ours: Pair, ca: Path | None, **others: object) -> dict[str, object]:
    return {
        "port": free_port(),
        "certificate_file": ours.certificate,
        "key_file": ours.key,
        "ca_file": ca,
        **others,
    }


@pytest.fixture
def secured(receiver, authority, ours):
    """Start a receiver whose TLS port asks for a certificate of the authority."""

    def start(ours: Pair = ours, ca: Path | None = authority.path, clients: str = "required", **settings):
        running = receiver(tls=tls(ours, ca, clients=clients), **settings)
        running.tls_port = running.receiver._settings.tls.port
        return running

    return start


def client(ca: Path, own: Pair | None = None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    if own:
        context.load_cert_chain(own.certificate, own.key)
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class TLSPeer(Peer):
    """The peer made of bytes, over TLS."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(port)
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")


def is_answered(port: int, context: ssl.SSLContext) -> bool:
    try:
        with TLSPeer(port, context) as peer:
            peer.send(associate_rq())
            return peer.socket.recv(1) != b""  # TLS 1.3: the client learns of a refusal when it reads
    except (ssl.SSLError, ConnectionError):
        return False


def refusal(capsys, port: int, context: ssl.SSLContext) -> str:
    """What is logged of a peer that fails the handshake; it must fail at that peer's end too."""
    assert not is_answered(port, context)
    return logged(capsys)


def logged(capsys) -> str:
    text = ""

    def found() -> bool:
        nonlocal text
        captured = capsys.readouterr()
        text += captured.out + captured.err
        return "tls_refused" in text

    wait_for(found, 20)
    return text


def serves(running, authority, theirs) -> bool:
    with TLSPeer(running.tls_port, client(authority.path, theirs)) as peer:
        status = peer.associate().store(UID, IMAGE, pieces=5)
        peer.release()
    return status == Status.SUCCESS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@HERE_AND_ELSEWHERE
def test_an_image_comes_over_tls_and_over_the_plain_port_beside_it(
    secured, authority, theirs, version, capsys
):
    running = secured()
    with TLSPeer(running.tls_port, client(authority.path, theirs, version)) as peer:
        assert peer.associate().store(UID, IMAGE, pieces=9) == Status.SUCCESS
        peer.release()
    assert data_set_of(running.instances[0].path) == IMAGE
    with Peer(running.port) as peer:
        assert peer.associate().store(UID, IMAGE, pieces=3) == Status.SUCCESS
    text = capsys.readouterr().out
    assert f"{version.name.replace('_', '.')}, client proven" in text
    assert "none" in text


def test_a_port_that_is_both_speaks_tls_only(tmp_path, authority, ours, theirs, capsys):
    port = free_port()
    settings = Receive(port=port, tls={**tls(ours, authority.path), "port": port})
    receiver = Receiver(settings, Spool(tmp_path, 0), lambda _: None, lambda *_: None)
    receiver.start()
    try:
        with TLSPeer(port, client(authority.path, theirs)) as peer:
            assert peer.associate().store(UID, IMAGE, pieces=3) == Status.SUCCESS
        with Peer(port) as peer:
            peer.send(associate_rq())
            assert peer.read() == (0, b"")
        assert "speaks DICOM without TLS" in logged(capsys)
    finally:
        receiver.stop(5)


def test_a_silent_connection_costs_nobody_anything_and_is_told(secured, authority, theirs, capsys):
    running = secured(pdu_timeout_s=60)
    with socket.create_connection(("127.0.0.1", running.tls_port)) as silent:
        assert serves(running, authority, theirs)
        assert not select.select([silent], [], [], 0)[0]  # it was not waited for
    running.use(pdu_timeout_s=0.5)
    with socket.create_connection(("127.0.0.1", running.tls_port), timeout=60) as silent:
        assert silent.recv(1) == b""
    assert "switch TLS on there" in logged(capsys)


def test_silent_connections_do_not_use_up_the_associations(secured, authority, theirs):
    running = secured(maximum_associations=10, maximum_associations_per_host=10)
    silent = [socket.create_connection(("127.0.0.1", running.tls_port)) for _ in range(11)]
    assert serves(running, authority, theirs)
    for each in silent:
        each.close()


@pytest.mark.parametrize("sent", [b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)])
def test_half_a_handshake_is_ended_by_the_deadline_also_byte_by_byte(
    secured, authority, theirs, sent, capsys
):
    running = secured(pdu_timeout_s=0.5)
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", running.tls_port)) as slow:
        slow.settimeout(0.05)
        slow.sendall(sent)
        while time.monotonic() - started < 60:
            try:
                slow.sendall(b"\x00" if len(sent) > 1 else b"")
                if slow.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert 0.3 < time.monotonic() - started < 30
    assert "does not go on with the TLS handshake" in logged(capsys)
    running.use(pdu_timeout_s=60)
    assert serves(running, authority, theirs)


@HERE_AND_ELSEWHERE
def test_dicom_without_tls_on_the_tls_port_is_told_with_the_remedy(secured, authority, theirs, capsys):
    running = secured()
    with Peer(running.tls_port) as peer:
        peer.send(associate_rq())
        assert peer.read() == (0, b"")
    assert "it speaks DICOM without TLS to the TLS port; switch TLS on there" in logged(capsys)
    assert serves(running, authority, theirs)


def test_tls_on_the_plain_port_is_told_with_the_remedy(secured, authority, theirs, capsys):
    running = secured()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        TLSPeer(running.port, client(authority.path, theirs))
    wait_for(lambda: "it speaks TLS to a port without" in capsys.readouterr().out, 20)


def test_http_on_the_tls_port_is_told(secured, capsys):
    running = secured()
    with Peer(running.tls_port) as peer:
        peer.send(b"GET / HTTP/1.1\r\n\r\n")
        assert peer.read() == (0, b"")
    assert "it speaks neither TLS nor DICOM" in logged(capsys)


def test_health_checks_on_the_tls_port_leave_nothing_and_no_line(secured, capsys):
    running = secured()
    before = set(threading.enumerate())
    for _ in range(50):
        socket.create_connection(("127.0.0.1", running.tls_port)).close()
    wait_for(lambda: not begun_since(before), 20)
    assert "tls_refused" not in capsys.readouterr().out


def test_who_leaves_within_a_handshake_leaves_nothing(secured, authority, theirs):
    running = secured()
    before = set(threading.enumerate())
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", running.tls_port)) as leaving:
            leaving.sendall(b"\x16\x03\x01\x02\x00\x01")
    wait_for(lambda: not begun_since(before), 20)
    assert serves(running, authority, theirs)


BAD = {
    "expired": (lambda a, o: a.sign("expired", days=-0.5), "its certificate has expired; renew it"),
    "not yet valid": (lambda a, o: a.sign("early", start_days=5), "its certificate is not valid yet"),
    "unknown CA": (lambda a, o: o.sign("foreign"), "its certificate is signed by nobody in ca_file"),
    "none": (lambda a, o: None, "it shows no certificate"),
}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_certificate_is_refused_with_clear_words(
    secured, authority, theirs, case, version, capsys, tmp_path
):
    make, words = BAD[case]
    running = secured()
    pair = make(authority, Authority(tmp_path, "Another CA"))
    assert words in refusal(capsys, running.tls_port, client(authority.path, pair, version))
    assert serves(running, authority, theirs)


def test_a_certificate_by_another_key_under_the_name_of_the_ca_is_refused(
    secured, authority, theirs, capsys, tmp_path
):
    running = secured()
    forged = Authority(tmp_path).sign("forged")
    text = refusal(capsys, running.tls_port, client(authority.path, forged))
    assert "its certificate" in text
    assert "renew" not in text
    assert serves(running, authority, theirs)


def test_where_certificates_are_optional_one_that_is_shown_must_be_good(
    secured, authority, theirs, capsys, tmp_path
):
    running = secured(clients="optional")
    assert serves(running, authority, None)
    assert serves(running, authority, theirs)
    foreign = Authority(tmp_path, "Another CA").sign("foreign")
    assert "signed by nobody" in refusal(capsys, running.tls_port, client(authority.path, foreign))


def test_where_no_certificate_is_asked_for_none_is_needed(secured, authority):
    assert serves(secured(ca=None, clients="none"), authority, None)


def test_a_sender_that_does_not_trust_us_is_told(secured, authority, theirs, capsys, tmp_path):
    running = secured()
    elsewhere = Authority(tmp_path, "Another CA")
    with pytest.raises(ssl.SSLError):
        TLSPeer(running.tls_port, client(elsewhere.path, theirs))
    assert "it does not trust the CA of our certificate; add that CA there" in logged(capsys)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_tls_1_1_is_refused(secured, authority, theirs, capsys):
    running = secured()
    context = client(authority.path, theirs)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert "update it" in refusal(capsys, running.tls_port, context)


def test_a_cipher_suite_without_forward_secrecy_is_refused(secured, authority, capsys):
    running = secured(ours=authority.sign("rsa", kind="rsa"))
    context = client(authority.path, authority.sign("rsa-client", kind="rsa"), ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("AES128-GCM-SHA256")
    assert "cipher suite" in refusal(capsys, running.tls_port, context)


@HERE_AND_ELSEWHERE
def test_a_renewed_certificate_serves_the_next_connection(secured, authority, theirs, tmp_path, capsys):
    ours = Authority(tmp_path).sign("node")  # of another CA: nobody trusts it
    running = secured(ours=ours)
    with pytest.raises(ssl.SSLError):
        TLSPeer(running.tls_port, client(authority.path, theirs))
    renewed = authority.sign("renewed")
    ours.key.write_bytes(b"half written")
    with pytest.raises(ssl.SSLError):
        TLSPeer(running.tls_port, client(authority.path, theirs))
    assert "tls_files_unusable" in logged(capsys)
    ours.certificate.write_bytes(renewed.certificate.read_bytes())
    ours.key.write_bytes(renewed.key.read_bytes())
    assert serves(running, authority, theirs)


@HERE_AND_ELSEWHERE
def test_stopping_lets_a_c_store_over_tls_end_in_tls(secured, authority, theirs):
    running = secured()
    context = client(authority.path, theirs)
    peer, idle = (
        TLSPeer(running.tls_port, context).associate(),
        TLSPeer(running.tls_port, context).associate(),
    )
    peer.begin(UID)
    peer.send(peer.fragment(IMAGE[:500]))
    wait_for(lambda: running.parts, 20)
    stopping = threading.Thread(target=running.receiver.stop, args=(30,))
    stopping.start()
    assert idle.read()[0] == ABORT
    peer.send(peer.fragment(IMAGE[500:], is_last=True))
    assert peer.status() == Status.SUCCESS
    assert peer.read()[0] == ABORT
    stopping.join(20)
    assert not stopping.is_alive()
    for each in (peer, idle):
        each.socket.close()


def test_files_that_cannot_be_used_stop_the_start_and_are_named(authority, ours, theirs, tmp_path):
    settings = tls(ours, authority.path)
    locked = authority.sign("locked", passphrase=b"secret")
    wrong = tmp_path / "text.pem"
    wrong.write_text("no certificate")
    for change, words in (
        ({"key_file": theirs.key}, rf"{theirs.key.name} is not the key of .*{ours.certificate.name}"),
        ({"key_file": authority.sign("rsa-key", kind="rsa").key}, "is not the key of"),
        ({"key_file": tmp_path / "gone.key"}, r"gone\.key: No such file"),
        ({"certificate_file": locked.certificate, "key_file": locked.key}, "has a passphrase"),
        ({"certificate_file": wrong}, r"text\.pem and .* are not a certificate and its key"),
        ({"ca_file": wrong}, r"text\.pem holds no certificate"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            Receiver(Receive(tls={**settings, **change}), Spool(tmp_path, 0), lambda _: None, lambda *_: None)


@pytest.mark.peer
@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_dcmtk_stores_and_echoes_in_each_bcp_195_profile(secured, authority, profile, tmp_path):
    # The extended profile asks for RSA keys of 2048 bits or elliptic curves; RSA is what hospitals have
    running = secured(ours=authority.sign("node-rsa", kind="rsa"))
    theirs = authority.sign("dcmtk-rsa", kind="rsa")
    secure = ("+tls", theirs.key, theirs.certificate, "+cf", authority.path, profile)
    files = write_images(tmp_path / "out", [mr_image(n) for n in range(1, 6)])
    to = ("-aec", "DICOM_NODE", "127.0.0.1", running.tls_port)
    echoed = dcmtk("echoscu", *secure, *to)
    sent = dcmtk("storescu", *secure, "-xe", *to, *files)
    assert (echoed.returncode, sent.returncode) == (0, 0), echoed.stderr + sent.stderr
    assert [data_set_of(p) for p in running.spool.instances(SERIES)] == [data_set_of(p) for p in files]
    wait_for(lambda: len(running.ends) == 2, 20)
    assert all(released for _, released in running.ends)


@pytest.mark.peer
def test_dcmtk_without_a_certificate_and_without_tls_is_refused(secured, authority, capsys):
    running = secured()
    to = ("-aec", "DICOM_NODE", "127.0.0.1", running.tls_port)
    assert dcmtk("echoscu", *to).returncode != 0
    assert "speaks DICOM without TLS" in logged(capsys)
    assert dcmtk("echoscu", "+tla", "+cf", authority.path, *to).returncode != 0
    assert "shows no certificate" in logged(capsys)
