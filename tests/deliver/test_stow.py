"""STOW-RS: what is sent, what counts as stored, what is tried again and what never will be.

The server is one of bytes, so that it can answer anything. Real servers are in tests/peers/test_dicomweb.py.
Not covered: secrets and certificates (test_stow_access.py), retries over time (tests/workflow), proxies.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pydicom
import pytest
import structlog
from pydicom.uid import EnhancedSRStorage

from dicom_node.deliver.stow import store
from dicom_node.errors import (
    ConfigurationError,
    DeliveryRefused,
    DestinationUnavailable,
    NodeError,
    PermanentError,
    is_transient,
)
from dicom_node.settings import Secret, WebDestination
from tests.deliver.web import SECRET, sent_uid, takes_all, to
from tests.support.running import free_port
from tests.support.web_peer import Answer, Request, WebPeer, answer, stored

Respond = Callable[[Request], Answer]


def uid_of(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def archive(post: Respond, *, has: list[str] | None = None) -> Respond:
    """Answers a store by a function, and a query for an instance by what it has."""

    def respond(request: Request) -> Answer:
        if request.method == "POST":
            return post(request)
        wanted = request.target.rpartition("SOPInstanceUID=")[2]
        found = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in has or [] if uid == wanted]
        return answer(200, found)

    return respond


def test_each_file_is_one_request_with_the_bytes_of_the_file(paths: list[Path]) -> None:
    with WebPeer(takes_all) as peer:
        assert list(store(to(peer), paths)) == paths
    assert [r.dicom() for r in peer.requests] == [p.read_bytes() for p in paths]
    for request in peer.requests:
        assert (request.method, request.target) == ("POST", "/dicom-web/studies")
        assert request.headers["content-type"].startswith('multipart/related; type="application/dicom"; ')
        assert request.headers["accept"] == "application/dicom+json"
        assert int(request.headers["content-length"]) == request.body_bytes


def test_a_large_file_is_never_in_memory_as_a_whole(paths: list[Path], tmp_path: Path) -> None:
    dataset = pydicom.dcmread(paths[0])
    dataset.PixelData = bytes(64 << 20)
    dataset.save_as(tmp_path / "large.dcm")
    uid = uid_of(paths[0])
    del dataset
    with WebPeer(lambda _: answer(200, stored(uid)), keeps_bodies=False) as peer:
        tracemalloc.start()
        try:
            assert list(store(to(peer), [tmp_path / "large.dcm"]))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peer.requests[0].body_bytes > 64 << 20
    assert peak < 8 << 20


@pytest.mark.parametrize("reason", [0xB000, 0xB006, 0xB007, 0xBFFF])
def test_what_is_stored_with_a_warning_is_stored_and_the_warning_is_told(
    reason: int, paths: list[Path]
) -> None:
    with (
        WebPeer(lambda r: answer(202, stored(sent_uid(r), warning=reason))) as peer,
        structlog.testing.capture_logs() as log,
    ):
        assert list(store(to(peer), paths)) == paths
    assert [e["reason"] for e in log if e["event"] == "stored_with_warning"] == [f"{reason:04X}H"] * 2


@pytest.mark.parametrize("status", [200, 202, 409])
def test_what_it_has_already_is_stored(status: int, paths: list[Path]) -> None:
    def has_it(request: Request) -> bytes:
        return answer(status, stored(failed={sent_uid(request): 0x0111}))

    with WebPeer(has_it) as peer:
        assert list(store(to(peer), paths)) == paths
    assert len(peer.requests) == len(paths)


@pytest.mark.parametrize("content", [None, b"conflict!", {"00081198": 7}, "reason"])
def test_a_conflict_of_whatever_reason_is_asked_about(content: object, paths: list[Path]) -> None:
    def conflict(request: Request) -> bytes:
        said = stored(failed={sent_uid(request): 0xB00E}) if content == "reason" else content
        return answer(409, said)

    there = [uid_of(paths[0])]
    with WebPeer(archive(conflict, has=there)) as peer:
        assert list(store(to(peer), paths[:1])) == paths[:1]
        study = pydicom.dcmread(paths[0]).StudyInstanceUID
        assert peer.requests[1].target.startswith(f"/dicom-web/studies/{study}/series/")
        with pytest.raises(DeliveryRefused, match=paths[1].name):
            list(store(to(peer), paths[1:]))


@pytest.mark.parametrize("status", [200, 202, 409])
@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (0xA700, DestinationUnavailable),
        (0x0110, DestinationUnavailable),
        (0xA900, DeliveryRefused),
        (0xC122, DeliveryRefused),
        (0x0122, DeliveryRefused),
    ],
)
def test_a_failure_is_read_whatever_the_status(
    status: int, reason: int, error: type[NodeError], paths: list[Path]
) -> None:
    def fails(request: Request) -> bytes:
        return answer(status, stored(failed={sent_uid(request): reason}))

    with WebPeer(archive(fails)) as peer, pytest.raises(error, match=f"reason {reason:04X}H"):
        list(store(to(peer), paths[:1]))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, ConfigurationError),
        (400, DeliveryRefused),
        (401, ConfigurationError),
        (403, ConfigurationError),
        (404, ConfigurationError),
        (408, DestinationUnavailable),
        (413, DeliveryRefused),
        (415, DeliveryRefused),
        (429, DestinationUnavailable),
        (500, DestinationUnavailable),
        (503, DestinationUnavailable),
    ],
)
def test_an_error_is_transient_permanent_or_of_the_settings(
    status: int, error: type[NodeError], paths: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(SECRET)
    echoes = f"you said Bearer {SECRET}".encode()
    with WebPeer(lambda _: answer(status, echoes, "Location: http://127.0.0.1:1/evil")) as peer:
        with pytest.raises(error, match=str(status)) as caught:
            list(store(to(peer, token=Secret(file=tmp_path / "token")), paths))
        assert type(caught.value) is error
        assert SECRET not in str(caught.value)
    # what is wrong with one file leaves the others; what is wrong with the server does not
    assert len(peer.requests) == (len(paths) if error is DeliveryRefused else 1)


def test_a_refused_file_does_not_keep_back_the_others(paths: list[Path]) -> None:
    bad = uid_of(paths[0])

    def respond(request: Request) -> bytes:
        uid = sent_uid(request)
        return answer(409, stored(failed={uid: 0xC000})) if uid == bad else answer(200, stored(uid))

    done = []
    with WebPeer(archive(respond)) as peer, pytest.raises(DeliveryRefused, match=paths[0].name):
        done += store(to(peer), paths)
    assert [sent_uid(r) for r in peer.posted] == [uid_of(p) for p in paths]


def test_a_class_that_is_refused_is_sent_in_the_first_other_that_is_taken(
    paths: list[Path], tmp_path: Path
) -> None:
    dataset = pydicom.dcmread(paths[0])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedSRStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    other = tmp_path / "other.dcm"
    dataset.save_as(other)

    def respond(request: Request) -> bytes:
        uid = sent_uid(request)
        return answer(200, stored(uid)) if uid == "2.25.1" else answer(409, stored(failed={uid: 0x0122}))

    with WebPeer(archive(respond)) as peer:
        assert list(store(to(peer), paths[:1], {paths[0]: [other]})) == [other]


def drip(seconds: float) -> Iterator[bytes | float]:
    yield b"HTTP/1.1 200 OK\r\nX-Slow: "
    for _ in range(200):
        yield b"x"
        yield seconds


def endless() -> Iterator[bytes | float]:
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    for _ in range(400):
        yield b" " * 65536


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"", "gave no whole answer in HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "gave no whole answer in HTTP"),
        (b"\x00\xff" * 300, "gave no whole answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "gave no whole answer in HTTP"),
        ("silence", "did not answer within 2 s"),
        ("drip", "took longer than 4"),
        (answer(200, b"{"), "does not say"),
        (answer(200, b"[" * 200_000), "does not say"),
        (answer(200, [[], 3]), "does not say"),
        (answer(200, {"00081199": {"Value": [{"00081155": 5}]}}), "does not say"),
        (answer(200, stored("2.25.9")), "does not say"),
        (answer(204), "does not say"),
        ("endless", "does not say"),
    ],
)
def test_an_answer_that_says_nothing_is_tried_again(said: Answer, told: str, paths: list[Path]) -> None:
    made = {"silence": lambda: [60.0], "drip": lambda: drip(0.2), "endless": endless}
    with (
        WebPeer(archive(lambda _: made[said]() if isinstance(said, str) else said)) as peer,
        pytest.raises(DestinationUnavailable, match=told),
    ):
        list(store(to(peer, timeout_s=2 if said in ("silence", "drip") else 60), paths))
    assert len(peer.posted) == 1


@pytest.mark.parametrize("said", [answer(200), answer(202, b"<xml/>"), answer(200, stored("2.25.9"))])
def test_what_an_answer_leaves_open_is_asked(said: bytes, paths: list[Path]) -> None:
    with WebPeer(archive(lambda _: said, has=[uid_of(paths[0])])) as peer:
        assert list(store(to(peer), paths[:1])) == paths[:1]


@pytest.mark.parametrize("said", [answer(500), answer(200, b"?"), answer(200, {})])
def test_when_not_even_the_question_is_answered_it_is_tried_again(said: bytes, paths: list[Path]) -> None:
    with (
        WebPeer(lambda r: answer(409) if r.method == "POST" else said) as peer,
        pytest.raises(DestinationUnavailable, match="does not say whether it has"),
    ):
        list(store(to(peer), paths))


def test_an_answer_before_the_body_was_read_is_read(paths: list[Path], tmp_path: Path) -> None:
    dataset = pydicom.dcmread(paths[0])
    dataset.PixelData = bytes(8 << 20)
    dataset.save_as(tmp_path / "large.dcm")
    too_large = [answer(413), 0.5]
    with (
        WebPeer(lambda _: too_large, reads_bodies=False) as peer,
        pytest.raises(DeliveryRefused, match="413"),
    ):
        list(store(to(peer), [tmp_path / "large.dcm"]))


def test_a_peer_that_does_not_read_is_given_up(paths: list[Path], tmp_path: Path) -> None:
    dataset = pydicom.dcmread(paths[0])
    dataset.PixelData = bytes(32 << 20)
    dataset.save_as(tmp_path / "large.dcm")
    with WebPeer(lambda _: [3.0], reads_bodies=False) as peer, pytest.raises(DestinationUnavailable):
        list(store(to(peer, timeout_s=0.5), [tmp_path / "large.dcm"]))


@pytest.mark.parametrize(
    "url", ["http://no-such-host.invalid/dicom-web", "http://127.0.0.1:{port}/dicom-web"]
)
def test_nobody_there_is_tried_again(url: str, paths: list[Path]) -> None:
    destination = WebDestination(name="w", url=url.format(port=free_port()), timeout_s=2)
    with pytest.raises(DestinationUnavailable, match="cannot be reached"):
        list(store(destination, paths))


def test_a_file_that_cannot_be_opened_for_now_is_tried_again(
    paths: list[Path], out_of_descriptors: Callable[[], AbstractContextManager[None]]
) -> None:
    destination = WebDestination(name="w", url="http://127.0.0.1:1")
    with pytest.raises(OSError, match="Too many open files") as lack, out_of_descriptors():
        list(store(destination, paths))
    assert is_transient(lack.value)


def test_a_file_that_is_no_dicom_is_named_and_nothing_is_sent(paths: list[Path], tmp_path: Path) -> None:
    notes = tmp_path / "notes.dcm"
    notes.write_text("no DICOM")
    with WebPeer(takes_all) as peer, pytest.raises(PermanentError, match=r"notes\.dcm is no DICOM file"):
        list(store(to(peer), [*paths, notes]))
    assert not peer.requests
