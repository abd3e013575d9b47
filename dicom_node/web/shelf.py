"""Decoded series that are kept at hand, the latest used, up to a size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from dicom_node.web.shown import Shown


class Shelf:
    """Holds what was read; each is read once, however many ask for it at a time.

    Parameters
    ----------
    maximum_bytes : of all together; the latest stays in any case
    """

    def __init__(self, maximum_bytes: int) -> None:
        self._maximum_bytes = maximum_bytes
        self._held: OrderedDict[Hashable, Shown] = OrderedDict()
        self._reading: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], Shown]) -> Shown:
        """Return what is held under a key, or read it."""
        with self._lock:
            if (shown := self._held.get(key)) is not None:
                self._held.move_to_end(key)
                return shown
            reading = self._reading.setdefault(key, threading.Lock())
        with reading:
            with self._lock:
                if (shown := self._held.get(key)) is not None:
                    return shown
            shown = read()
            with self._lock:
                self._held[key] = shown
                self._reading.pop(key, None)
                self._make_room()
            return shown

    def _make_room(self) -> None:
        while len(self._held) > 1 and sum(s.size_bytes for s in self._held.values()) > self._maximum_bytes:
            self._held.popitem(last=False)
