"""Says in the log that a series began to come: the first line that bears its short name."""

from __future__ import annotations

import threading

import structlog

from dicom_node.events import Event, InstanceStored, SeriesComplete

log = structlog.get_logger()


class Journal:
    """Listens; one line for each series, not for each image."""

    def __init__(self) -> None:
        self._arriving: set[str] = set()
        self._lock = threading.Lock()

    def take(self, event: Event) -> None:
        """Note an event."""
        match event:
            case InstanceStored(series_instance_uid=uid, is_new=True, is_conflict=False):
                with self._lock:
                    is_first = uid not in self._arriving
                    self._arriving.add(uid)
                if is_first:
                    log.info("series_arriving", series=uid, association=event.association_id)
            case SeriesComplete(series_instance_uid=uid):
                with self._lock:
                    self._arriving.discard(uid)
