"""Whether the spool's disk has room, and that it is told once by the node, not by each process that looks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

_MB = 1 << 20
# A file system may run out of names before it runs out of blocks
_MINIMUM_FREE_FILES = 256
# A disk that stays low is told of again after so long
_REPEAT_S = 60.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Room:
    """What was found free on a disk, and whether it is enough."""

    is_enough: bool
    free_mb: int
    free_files: int


def look_for_room(folder: Path, minimum_free_mb: int) -> Room:
    """Look at the file system of a folder."""
    found = os.statvfs(folder)
    free_mb = found.f_bavail * found.f_frsize // _MB
    # Some file systems do not count files
    has_names = not found.f_files or found.f_favail >= _MINIMUM_FREE_FILES
    return Room(free_mb >= minimum_free_mb and has_names, free_mb, found.f_favail)


class RoomTold:
    """Says in the log that a disk is low, again after a minute, and once that it is over; from any thread."""

    def __init__(self, minimum_free_mb: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._minimum_free_mb = minimum_free_mb
        self._clock = clock
        self._low_told_at: float | None = None
        self._telling = threading.Lock()

    def __call__(self, room: Room) -> None:
        """Take note of what somebody found."""
        if room.is_enough and self._low_told_at is None:  # so it is for each image
            return
        with self._telling:
            now, told_at = self._clock(), self._low_told_at
            free = {"free_mb": room.free_mb, "free_files": room.free_files}
            if not room.is_enough and (told_at is None or now - told_at >= _REPEAT_S):
                self._low_told_at = now
                _log.error(
                    "disk_low",
                    minimum_free_mb=self._minimum_free_mb,
                    **free,
                    meaning="associations are refused for now",
                    remedy="make room on the disk of the spool",
                )
            elif room.is_enough and told_at is not None:
                self._low_told_at = None
                _log.warning("disk_has_room_again", **free)


class RoomSent:
    """Sends on what is worth telling: a disk that is low, and the first look that finds it is so no more."""

    def __init__(self, send: Callable[[Room], None]) -> None:
        self._send = send
        self._was_low = False

    def __call__(self, room: Room) -> None:
        """Take note of what this process found."""
        if not room.is_enough or self._was_low:
            self._was_low = not room.is_enough
            self._send(room)
