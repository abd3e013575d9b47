"""Covers: when a low disk is said in the log, and what a process that receives sends on of what it finds.
Does not cover: a real disk (test_full_disk), that several processes say it once (test_processes).
"""

from __future__ import annotations

import pytest

from dicom_node.receive.room import Room, RoomSent, RoomTold

ENOUGH, LOW = Room(True, 900, 1000), Room(False, 3, 1000)


def test_it_is_said_once_again_after_a_minute_and_once_when_it_is_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    tell = RoomTold(4, lambda: now[0])
    said = []
    for second, room in (
        (0, ENOUGH),
        (1, LOW),
        (2, LOW),
        (60, LOW),
        (61, LOW),
        (62, ENOUGH),
        (63, ENOUGH),
        (64, LOW),
    ):
        now[0] = second
        tell(room)
        said += [(second, line) for line in capsys.readouterr().out.splitlines() if "disk_" in line]
    events = [(second, "disk_low" in line, "disk_has_room_again" in line) for second, line in said]
    assert events == [(1, True, False), (61, True, False), (62, False, True), (64, True, False)]


def test_a_process_sends_each_low_look_and_the_first_that_is_not() -> None:
    sent: list[Room] = []
    send = RoomSent(sent.append)
    for room in (ENOUGH, ENOUGH, LOW, LOW, ENOUGH, ENOUGH):
        send(room)
    assert sent == [LOW, LOW, ENOUGH]
