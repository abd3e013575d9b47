"""Who saw which series, for the audit trail: told once an hour, not at each slice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from fastapi import Request

from dicom_node.events import FilesTaken, SeriesShown, Tell
from dicom_node.web.access.visitor import host_of, visitor_of

AGAIN_S = 3600.0
_WITHOUT_LOGIN = "(without login)"  # where the page is for its machine alone


class Seen:
    """Tells that somebody sees a series, or takes a file of its result.

    Parameters
    ----------
    tell : is told
    clock : monotonic, in seconds
    """

    def __init__(self, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._until: dict[tuple[str, str, str, str], float] = {}
        self._lock = threading.Lock()

    def note(self, request: Request, series_instance_uid: str, paths: Iterable[Path]) -> None:
        """Tell that a series is shown, unless that was told of the same session not long ago.

        Parameters
        ----------
        paths : its images or, where these were deleted, its result
        """
        visitor, host = visitor_of(request), host_of(request)
        key = (visitor.name, visitor.session, host, series_instance_uid)
        now = self._clock()
        with self._lock:
            if self._until.get(key, now) > now:
                return
            self._until = {each: until for each, until in self._until.items() if until > now}
            self._until[key] = now + AGAIN_S
        self._tell(SeriesShown(visitor.name or _WITHOUT_LOGIN, host, tuple(paths)))

    def take(self, request: Request, path: Path) -> None:
        """Tell that a file goes to somebody."""
        self._tell(FilesTaken(visitor_of(request).name or _WITHOUT_LOGIN, host_of(request), (path,)))
