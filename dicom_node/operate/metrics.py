"""What Prometheus reads.

Counters and latencies are of this process since its start. What waits, and what needs a person, is
counted in the book when it is asked for, and so outlives a restart.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from dicom_node import events
from dicom_node.events import Event
from dicom_node.workflow.ledger import Entry, State

CONTENT_TYPE = CONTENT_TYPE_LATEST
BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 14400)
# Of the series whose next station is awaited; beyond it the oldest are no longer timed
_MOST_TIMED = 10_000


class Metrics:
    """Counts events.

    Parameters
    ----------
    entry : looks up a job in the book
    clock : monotonic seconds
    """

    def __init__(
        self, entry: Callable[[str], Entry | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._entry, self._clock = entry, clock
        self._starts: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._lock = threading.Lock()
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._received = self._counter(
            "received_instances", "Images on disk: new, again, or in conflict", "called_ae_title", "kind"
        )
        self._bytes = self._counter("received_bytes", "Size of the new images", "called_ae_title")
        self._refused = self._counter("refused_instances", "Images that were not taken", "status")
        self._associations = Gauge("dicom_node_associations", "Open associations", registry=self.registry)
        self._opened = self._counter("associations_opened", "Associations that were let in", "tls")
        self._rejected = self._counter("associations_rejected", "Associations that were not let in", "reason")
        self._tls_refused = self._counter("tls_refused", "Connections that did not come to be secure")
        self._complete = self._counter("series_complete", "Series that were taken as complete")
        self._analysed = self._counter(
            "analysed", "Jobs that went through the stations", "pipeline", "outcome"
        )
        self._delivered = self._counter("delivered", "Results that a destination has", "destination")
        self._committed = self._counter("committed", "Results that a destination answers for", "destination")
        self._failed = self._counter(
            "failed", "What failed, by the class of the error; final: it is not tried again",
            "station", "reason", "final",
        )  # fmt: skip
        self._logins = self._counter("logins", "Logins to the page and the API", "succeeded")
        self._notifications = self._counter("notifications", "Attempts to notify", "to", "result")
        self._audit = self._counter("audit", "Audit messages: written, or failed", "result")
        for result in ("written", "failed"):
            self._audit.labels(result)
        self._reloads = self._counter("reloads", "Readings of the configuration while running", "taken")
        self._latency = Histogram(
            "dicom_node_station_seconds",
            "Time of a series at each station",
            ["station"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Return all metrics as Prometheus reads them."""
        return generate_latest(self.registry)

    def notified(self, to: str, result: str) -> None:
        """Count an attempt to notify."""
        self._notifications.labels(to, result).inc()

    def audited(self, result: str) -> None:
        """Count an audit message."""
        self._audit.labels(result).inc()

    def take(self, event: Event) -> None:
        """Count an event."""
        match event:
            case events.InstanceStored():
                self._take_instance(event)
            case events.InstanceRefused(status=status):
                self._refused.labels(f"{status:04X}H").inc()
            case events.AssociationOpened(security=security):
                self._associations.inc()
                self._opened.labels("no" if security == "none" else "yes").inc()
            case events.AssociationClosed():
                self._associations.dec()
            case events.AssociationRejected(reason=reason):
                self._rejected.labels(reason).inc()
            case events.TLSRefused():
                self._tls_refused.inc()
            case events.SeriesComplete(series_instance_uid=uid):
                self._complete.inc()
                self._end("receive", uid)
            case events.UserAuthenticated(succeeded=succeeded):
                self._logins.labels("yes" if succeeded else "no").inc()
            case events.Reloaded(taken=taken):
                self._reloads.labels("yes" if taken else "no").inc()
            case _:
                self._take_work(event)

    def _take_instance(self, event: events.InstanceStored) -> None:
        kind = "conflict" if event.is_conflict else "new" if event.is_new else "again"
        self._received.labels(event.called_ae_title, kind).inc()
        if kind == "new":
            self._bytes.labels(event.called_ae_title).inc(event.size_bytes)
            self._begin("receive", event.series_instance_uid)

    def _take_work(self, event: Event) -> None:
        match event:
            case events.WorkBegun(job_id=job_id):
                self._since_the_book("waiting", job_id, State.WAITING)
            case events.Worked():
                self._analysed.labels(event.pipeline, event.outcome).inc()
                for station, seconds in event.timings_s.items():
                    self._latency.labels(station).observe(seconds)
                if event.error:
                    self._failed.labels("analysis", event.error, "yes").inc()
            case events.WorkFailed(error=error, final=final):
                self._failed.labels("analysis", error, "yes" if final else "no").inc()
            case events.Delivered():
                self._delivered.labels(event.destination).inc()
                self._since_the_book("delivery", event.job_id, State.SENDING)
                if event.asked:
                    self._begin("commitment", event.job_id, event.destination)
            case events.DeliveryFailed():
                station = "commitment" if event.error == events.NOT_COMMITTED else "delivery"
                self._failed.labels(station, event.error, "yes" if event.final else "no").inc()
            case events.Committed():
                self._committed.labels(event.destination).inc()
                self._end("commitment", event.job_id, event.destination)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"dicom_node_{name}", what, labels, registry=self.registry)

    def _begin(self, station: str, *of: str) -> None:
        with self._lock:
            self._starts.setdefault((station, *of), self._clock())
            if len(self._starts) > _MOST_TIMED:
                self._starts.popitem(last=False)

    def _end(self, station: str, *of: str) -> None:
        with self._lock:
            start = self._starts.pop((station, *of), None)
        if start is not None:
            self._latency.labels(station).observe(self._clock() - start)

    def _since_the_book(self, station: str, job_id: str, state: State) -> None:
        """Time a station that the book knows the beginning of, through restarts and in another process."""
        entry = self._entry(job_id)
        if entry is not None and entry.state is state:
            passed_s = (datetime.now(UTC) - entry.updated_at).total_seconds()
            self._latency.labels(station).observe(max(0.0, passed_s))
