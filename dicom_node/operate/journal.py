"""Says in the log that a series began to come, or came again unchanged: what no other line tells."""

from __future__ import annotations

import threading
from collections import Counter

import structlog

from dicom_node.events import AssociationClosed, Event, InstanceStored, SeriesComplete

log = structlog.get_logger()


class Journal:
    """Listens; one line for each series, not for each image."""

    def __init__(self) -> None:
        self._arriving: set[str] = set()
        self._known: dict[int, Counter[str]] = {}  # by association: images that were there already
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
            case InstanceStored(series_instance_uid=uid, is_new=False, is_conflict=False):
                with self._lock:
                    self._known.setdefault(event.association_id, Counter())[uid] += 1
            case AssociationClosed(association_id=association):
                with self._lock:
                    known = self._known.pop(association, Counter())
                    unchanged = {uid: count for uid, count in known.items() if uid not in self._arriving}
                for uid, count in unchanged.items():
                    hint = "nothing is analysed anew; to do so: dicom-node retry --again"
                    log.info(
                        "series_unchanged", series=uid, association=association, instances=count, hint=hint
                    )
            case SeriesComplete(series_instance_uid=uid):
                with self._lock:
                    self._arriving.discard(uid)
