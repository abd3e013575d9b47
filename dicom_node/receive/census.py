"""The count of connections and associations, over all processes that serve them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from dicom_node.receive.admission import Load
from dicom_node.settings import Receive

# The limits are on associations: whoever asks for one too many is told so. Connections that
# do not ask count too, and beyond this multiple of a limit they are closed without a word
_HEADROOM = 2


@dataclass(slots=True)
class _Entry:
    host: str
    is_association: bool = False


class Census:
    """Who is connected; may be asked from any thread."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._entries: dict[int, _Entry] = {}
        self._changed = threading.Condition()

    def enter(self, host: str, settings: Receive) -> int | None:
        """Count a connection and return its id, never used again; None if there are too many."""
        with self._changed:
            hosts = [entry.host for entry in self._entries.values()]
            if (
                len(hosts) >= _HEADROOM * settings.maximum_associations
                or hosts.count(host) >= _HEADROOM * settings.maximum_associations_per_host
            ):
                return None
            connection_id = next(self._ids)
            self._entries[connection_id] = _Entry(host)
            return connection_id

    def load(self, connection_id: int) -> Load:
        """Count a connection as an association, and all of them."""
        with self._changed:
            asking = self._entries[connection_id]
            asking.is_association = True
            hosts = [entry.host for entry in self._entries.values() if entry.is_association]
            return Load(len(hosts), hosts.count(asking.host))

    def dissociate(self, connection_id: int) -> None:
        """Count a connection as an association no more: it is being closed."""
        with self._changed:
            if connection_id in self._entries:
                self._entries[connection_id].is_association = False

    def leave(self, connection_ids: Iterable[int]) -> None:
        """Forget connections that are closed."""
        with self._changed:
            for connection_id in connection_ids:
                self._entries.pop(connection_id, None)
            self._changed.notify_all()

    def present(self) -> set[int]:
        """Return the ids of the open connections."""
        with self._changed:
            return set(self._entries)

    def await_leaving(self, connection_ids: set[int], timeout_s: float) -> set[int]:
        """Wait until these connections are closed; return those that are not."""
        with self._changed:
            self._changed.wait_for(lambda: connection_ids.isdisjoint(self._entries), timeout_s)
            return connection_ids & self._entries.keys()
