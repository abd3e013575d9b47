"""Covers: peers that break the protocol, are slow, endless or gone, with a peer made of bytes; in
each case that the part file goes and that the next peer is served.
Does not cover: TLS (test_tls.py), a real full disk (test_full_disk.py); floods from many hosts (that is
the firewall's).
"""

from __future__ import annotations

import errno
import gc
import os
import socket
import struct
import threading
import time
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

from dicom_node.receive.status import Status
from tests.receive.conftest import HERE_AND_ELSEWHERE, begun_since
from tests.receive.images import SERIES, encode, mr_image
from tests.receive.wire import (
    ABORT,
    ASSOCIATE_AC,
    IMAGES,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    Peer,
    associate_rq,
    command,
    pdu,
    pdv,
)
from tests.support.running import wait_for

IMAGE = encode(mr_image(), ExplicitVRLittleEndian)
UID = f"{SERIES}.1"


def is_ended(peer: Peer) -> bool:
    kind, _ = peer.read()
    return kind in (ABORT, 0)


def descriptors_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def processor_s(threads: set[threading.Thread]) -> float:
    return sum(time.clock_gettime(time.pthread_getcpuclockid(thread.ident)) for thread in threads)


def nothing_left(running) -> bool:
    wait_for(lambda: not running.parts, 20)
    return True


def serves(running) -> bool:
    with Peer(running.port) as peer:
        status = peer.associate().store(UID, IMAGE)
        peer.release()
    return status == Status.SUCCESS


@pytest.mark.parametrize(
    "opening",
    [b"\x01\x00", associate_rq()[:50], associate_rq() + pdu(P_DATA, bytes(9000))[:100]],
    ids=["half a header", "half an A-ASSOCIATE-RQ", "half a P-DATA-TF"],
)
def test_half_a_pdu_and_then_silence_is_ended_by_the_deadline(receiver, opening):
    running = receiver(pdu_timeout_s=0.3)
    with Peer(running.port) as peer:
        peer.send(opening)
        if opening.startswith(associate_rq()):
            assert peer.read()[0] == ASSOCIATE_AC
        assert is_ended(peer)
    running.use(pdu_timeout_s=60)
    assert serves(running)


def test_a_byte_now_and_then_does_not_put_the_deadline_off(receiver):
    running = receiver(pdu_timeout_s=0.5)
    started = time.monotonic()
    with Peer(running.port) as peer:
        peer.socket.settimeout(0.05)
        for byte in associate_rq():  # all of it takes a dozen seconds
            peer.send(bytes([byte]))
            try:
                assert peer.socket.recv(1) == bytes([ABORT])
            except TimeoutError:
                continue
            break
        else:
            pytest.fail("the deadline was put off")
    assert time.monotonic() - started > 0.4


@HERE_AND_ELSEWHERE
def test_silence_between_messages_is_ended_after_the_idle_time(receiver):
    running = receiver(idle_timeout_s=0.3)
    with Peer(running.port) as peer:
        assert is_ended(peer.associate())
    wait_for(lambda: running.ends, 20)
    assert running.ends[0][1] is False


@pytest.mark.parametrize("length", [131072 + 1, 0xFFFFFFFF])
@HERE_AND_ELSEWHERE
def test_a_pdu_longer_than_negotiated_is_aborted_at_its_header(receiver, length):
    running = receiver(maximum_pdu=131072)
    with Peer(running.port) as peer:
        peer.associate().send(struct.pack(">BxL", P_DATA, length))
        assert peer.read()[0] == ABORT
    assert serves(running)


def test_an_opening_that_claims_4_gb_is_ended_at_its_header(receiver):
    running = receiver()
    with Peer(running.port) as peer:
        peer.send(struct.pack(">BxL", 1, 0xFFFFFFFF))
        assert is_ended(peer)


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        pdu(1, b"\xff" * 300),
        pdu(4, bytes(8)),
        pdu(9, b""),
        b"\x16\x03\x01" * 99,
    ],
    ids=["http", "A-ASSOCIATE-RQ of noise", "P-DATA first", "unknown type", "tls"],
)
def test_what_is_not_dicom_is_ended_and_the_next_peer_served(receiver, noise):
    running = receiver(pdu_timeout_s=1)
    with Peer(running.port) as peer:
        peer.send(noise)
        assert is_ended(peer)
    running.use(pdu_timeout_s=60)
    assert serves(running)


@pytest.mark.parametrize(
    "value",
    [
        b"\x00",
        struct.pack(">LBB", 1, IMAGES, 3),
        struct.pack(">LBB", 500, IMAGES, 3) + b"short",
        pdv(IMAGES, 0x02, b"data without a command"),
        pdv(IMAGES, 0x03, b"no command set"),
        pdv(99, 0x03, command(UID)),
        pdv(IMAGES, 0x03, command(UID)) + pdv(IMAGES, 0x03, command(UID)),
        pdv(IMAGES, 0x03, command(UID)) + pdv(3, 0x02, IMAGE),
        pdv(IMAGES, 0x03, command(UID, field=0x0020)),
        pdv(IMAGES, 0x01, bytes(17000)),
    ],
    ids=[
        "half a PDV",
        "PDV of one byte",
        "PDV longer than its PDU",
        "data first",
        "noise for a command",
        "context that was not accepted",
        "command for data",
        "two contexts",
        "C-FIND",
        "endless command",
    ],
)
def test_broken_messages_are_aborted_and_leave_nothing(receiver, value):
    running = receiver()
    with Peer(running.port) as peer:
        peer.associate().send(pdu(P_DATA, value))
        assert peer.read()[0] == ABORT
    assert nothing_left(running)
    assert running.instances == []
    wait_for(lambda: running.ends, 20)
    assert running.ends[0][1] is False


@HERE_AND_ELSEWHERE
def test_an_object_over_the_limit_is_refused_and_the_association_goes_on(receiver):
    running = receiver(maximum_object_mb=1)
    with Peer(running.port) as peer:
        assert peer.associate().store(UID, bytes(1_500_000), pieces=20) == Status.OUT_OF_RESOURCES
        assert not running.parts
        assert peer.store(UID, IMAGE) == Status.SUCCESS


def test_an_object_without_end_is_aborted(receiver):
    running = receiver(maximum_object_mb=1)
    with Peer(running.port) as peer:
        assert peer.associate().store(UID, bytes(2_500_000), pieces=40) == -1
    assert nothing_left(running)


@pytest.mark.parametrize("uid", ["../../evil", "1.2/../../x", "1" * 64 + ".1", "", "1.2.3 4"])
def test_a_sop_instance_uid_that_is_no_uid_is_refused(receiver, uid, tmp_path):
    running = receiver()
    with Peer(running.port) as peer:
        assert peer.associate().store(uid, IMAGE) == Status.INVALID_OBJECT_INSTANCE
        assert peer.store(UID, IMAGE) == Status.SUCCESS
    assert [path.name for path in tmp_path.rglob("*.dcm")] == [f"{UID}.dcm"]


def test_a_command_of_another_sop_class_than_the_context_is_refused(receiver):
    running = receiver()
    with Peer(running.port) as peer:
        status = peer.associate().store(UID, IMAGE, sop_class=EnhancedMRImageStorage)
        assert status == Status.SOP_CLASS_NOT_SUPPORTED
        assert not running.parts


@pytest.mark.parametrize(
    ("instance", "data_set", "status"),
    [
        (UID, IMAGE[:-1], Status.CANNOT_UNDERSTAND),
        (UID, IMAGE[:100], Status.CANNOT_UNDERSTAND),
        (UID, Random(0).randbytes(3000), None),
        (UID, b"", Status.CANNOT_UNDERSTAND),
        (f"{SERIES}.2", IMAGE, Status.UIDS_DISAGREE),
    ],
    ids=["one byte short", "cut in the header", "noise", "empty", "another instance"],
)
def test_a_damaged_data_set_is_not_answered_with_success(receiver, instance, data_set, status):
    running = receiver()
    with Peer(running.port) as peer:
        answered = peer.associate().store(instance, data_set)
        assert answered == status if status is not None else answered & 0xF000 == 0xC000
        assert not running.parts
        assert peer.store(UID, IMAGE) == Status.SUCCESS


def test_a_request_that_announces_no_data_set_is_refused(receiver):
    running = receiver()
    with Peer(running.port) as peer:
        peer.associate().begin(UID, data_set=0x0101)
        assert peer.status() == Status.CANNOT_UNDERSTAND


def test_a_full_disk_is_answered_with_out_of_resources_and_the_next_smaller_object_is_stored(
    receiver, monkeypatch
):
    writev = os.writev

    def full(descriptor: int, pieces: tuple[bytes, ...]) -> int:
        if sum(map(len, pieces)) > 4000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return writev(descriptor, pieces)

    monkeypatch.setattr(os, "writev", full)
    running = receiver()
    large = encode(mr_image(2, size=64), ExplicitVRLittleEndian)
    with Peer(running.port) as peer:
        assert peer.associate().store(f"{SERIES}.2", large) == Status.OUT_OF_RESOURCES
        assert not running.parts
        assert peer.store(UID, IMAGE) == Status.SUCCESS


@pytest.mark.parametrize("how", ["abort", "reset", "close", "release"])
@HERE_AND_ELSEWHERE
def test_whoever_leaves_within_a_c_store_leaves_no_part_file(receiver, how):
    running = receiver()
    peer = Peer(running.port).associate()
    peer.begin(UID)
    peer.send(peer.fragment(IMAGE[:1000]))
    wait_for(lambda: running.parts, 20)
    if how == "abort":
        peer.send(pdu(ABORT, bytes(4)))
    elif how == "release":
        peer.send(pdu(RELEASE_RQ, bytes(4)))
    elif how == "reset":
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how != "release":
        peer.socket.close()
    assert nothing_left(running)
    wait_for(lambda: running.ends, 20)
    assert running.ends[0][1] is False
    peer.socket.close()


def test_a_peer_that_sends_again_after_its_release_changes_nothing(receiver):
    running = receiver()
    with Peer(running.port) as peer:
        peer.associate().send(pdu(RELEASE_RQ, bytes(4)), pdu(P_DATA, pdv(IMAGES, 3, command(UID))))
        assert peer.read()[0] == RELEASE_RP
    assert running.instances == []


@HERE_AND_ELSEWHERE
def test_half_open_connections_of_one_host_do_not_keep_another_out(receiver):
    running = receiver(maximum_associations=16, maximum_associations_per_host=4)
    silent = [Peer(running.port, source="127.0.0.2") for _ in range(12)]
    assert serves(running)
    for peer in silent:
        peer.socket.close()


def test_eleven_that_stop_within_a_pdu_leave_the_ten_associations_to_others_of_the_same_host(receiver):
    running = receiver(maximum_associations=10, maximum_associations_per_host=10)
    silent = [Peer(running.port) for _ in range(11)]
    for peer in silent:
        peer.send(associate_rq()[:50])
    assert serves(running)
    for peer in silent:
        peer.socket.close()


@pytest.mark.parametrize("hours", [-26, 26])
def test_a_wall_clock_that_is_set_changes_no_deadline(receiver, monkeypatch, hours):
    running = receiver(pdu_timeout_s=60, idle_timeout_s=60)
    now = time.time
    with Peer(running.port) as peer:
        peer.associate().begin(UID)
        peer.send(peer.fragment(IMAGE[:500]))
        monkeypatch.setattr(time, "time", lambda: now() + hours * 3600)
        time.sleep(0.2)
        peer.send(peer.fragment(IMAGE[500:], is_last=True))
        assert peer.status() == Status.SUCCESS
        peer.release()


def test_a_hundred_idle_associations_cost_no_time(receiver):
    before = set(threading.enumerate())
    running = receiver(maximum_associations=200, maximum_associations_per_host=200)
    of_its_own = len(begun_since(before))
    idle = [Peer(running.port).associate() for _ in range(100)]
    serving = begun_since(before)
    assert len(serving) - of_its_own <= 100
    used = processor_s(serving)
    time.sleep(0.5)
    assert processor_s(serving) - used < 0.05
    for peer in idle:
        peer.release()
        peer.socket.close()
    wait_for(lambda: len(running.ends) == 100, 20)


def test_health_checks_that_connect_and_close_leave_nothing(receiver):
    running = receiver()
    before, descriptors = set(threading.enumerate()), descriptors_open()

    def check(times: int) -> int:
        for _ in range(times):
            socket.create_connection(("127.0.0.1", running.port)).close()
        with Peer(running.port) as last:  # those before it were accepted before it
            last.associate().release()
        wait_for(lambda: not begun_since(before) and descriptors_open() <= descriptors + 2, 20)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        held = check(50)
        assert check(200) - held < 100_000
    finally:
        tracemalloc.stop()
    wait_for(lambda: descriptors_open() <= descriptors + 2, 20)
    assert len(running.ends) == 2
    assert serves(running)
