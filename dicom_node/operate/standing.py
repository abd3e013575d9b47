"""What Prometheus reads of the moment: queues, dead letters, disks, models."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dicom_node import __version__
from dicom_node.errors import NodeError
from dicom_node.operate.census import Census
from dicom_node.workflow.ledger import OPEN, Sent, State


class Standing(Collector):
    """What is so at the moment when it is asked for.

    Parameters
    ----------
    folders : whose file systems are looked at, by name
    floor_bytes : below it nothing is received
    bundles : the models in use: version and device by name
    destinations : names
    is_ready : whether the node takes and does work
    """

    def __init__(
        self,
        census: Callable[[], Census],
        *,
        folders: Mapping[str, Path],
        floor_bytes: int,
        bundles: Mapping[str, tuple[str, str]],
        destinations: Callable[[], Iterable[str]],
        is_ready: Callable[[], bool],
    ) -> None:
        self._census, self._folders, self._floor_bytes = census, folders, floor_bytes
        self._bundles, self._destinations, self._is_ready = bundles, destinations, is_ready
        self._started_at = time.time()

    def describe(self) -> Iterator[Metric]:
        """Name nothing: the registry then does not collect at the start."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Look around."""
        yield from self._book()
        yield from self._disk()
        yield _gauge("ready", "Whether the node takes and does work, as /ready says", float(self._is_ready()))
        yield _gauge("start_time_seconds", "When this process began, since 1970", self._started_at)
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("dicom_node_build", "This program", value=build)
        models = GaugeMetricFamily(
            "dicom_node_bundle", "1 for each model in use", labels=["bundle", "version", "device"]
        )
        for name, (version, device) in self._bundles.items():
            models.add_metric([name, version, device], 1)
        yield models

    def _book(self) -> Iterator[Metric]:
        try:
            census = self._census()
        except NodeError:  # the other metrics are wanted all the more
            yield _gauge("book_readable", "Whether the book can be read", 0)
            return
        yield _gauge("book_readable", "Whether the book can be read", 1)
        series = GaugeMetricFamily("dicom_node_series", "Jobs in the book, by state", labels=["state"])
        for state in State:
            series.add_metric([state], census.jobs.get(state, 0))
        yield series
        sent = GaugeMetricFamily(
            "dicom_node_deliveries", "Deliveries in the book", labels=["destination", "state"]
        )
        names = sorted({*self._destinations(), *(name for name, _ in census.deliveries)})
        for name in names:
            for kind in Sent:
                sent.add_metric([name, kind], census.deliveries.get((name, kind), 0))
        yield sent
        queue = GaugeMetricFamily("dicom_node_queue_depth", "What waits or runs", labels=["queue"])
        queue.add_metric(["analysis"], sum(census.jobs.get(s, 0) for s in (State.WAITING, State.ANALYSING)))
        for name in names:
            waiting = sum(census.deliveries.get((name, kind), 0) for kind in OPEN)
            queue.add_metric([f"deliver-{name}"], waiting)
        yield queue
        yield _gauge("dead_letters", "Jobs that need a person: status --failed", census.dead_letters)
        yield _gauge(
            "oldest_open_seconds",
            "Since anything was heard of the job that waits longest",
            census.oldest_open_s,
        )

    def _disk(self) -> Iterator[Metric]:
        free = GaugeMetricFamily("dicom_node_disk_free_bytes", "Free space", labels=["folder"])
        size = GaugeMetricFamily("dicom_node_disk_size_bytes", "Size of the file system", labels=["folder"])
        for name, path in self._folders.items():
            try:
                usage = shutil.disk_usage(path)
            except OSError:
                continue
            free.add_metric([name], usage.free)
            size.add_metric([name], usage.total)
        yield free
        yield size
        yield _gauge("disk_floor_bytes", "Below it nothing is received", self._floor_bytes)


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"dicom_node_{name}", what, value=value)
