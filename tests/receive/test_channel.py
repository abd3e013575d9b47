"""Covers: that every wait on a plain connection ends: for bytes, for a peer that reads no more or is gone.
Does not cover: the same under TLS (test_tls.py), the deadline of a whole PDU (test_hostile.py).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from dicom_node.receive.channel import Channel
from dicom_node.receive.protocol import ConnectionLost, Overdue


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours, send_timeout_s=0.2), theirs


def receive(channel: Channel, timeout_s: float = 20) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: channel.receive_into(memoryview(buffer), timeout_s)])


@pytest.mark.parametrize("timeout_s", [0.2, 1e-9])
def test_a_wait_for_bytes_ends(ends, timeout_s):
    channel, _ = ends
    started = time.monotonic()
    with pytest.raises(Overdue):
        receive(channel, timeout_s)
    assert timeout_s * 0.9 <= time.monotonic() - started < 15


def test_each_wait_has_a_length_of_its_own(ends):
    channel, theirs = ends
    with pytest.raises(Overdue):
        receive(channel, 0.05)
    theirs.send(b"late")
    assert receive(channel, 20) == b"late"
    with pytest.raises(Overdue):
        receive(channel, 0.05)


def test_sending_to_a_peer_that_reads_no_more_ends(ends):
    channel, _ = ends
    with pytest.raises(Overdue):
        channel.send(bytes(64 << 20))


def test_a_peer_that_is_gone_is_told_from_a_silent_one(ends):
    channel, theirs = ends
    theirs.close()
    with pytest.raises(ConnectionLost, match="closed"):
        receive(channel)
    with pytest.raises(ConnectionLost):
        channel.send(b"x")
