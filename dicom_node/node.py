"""The wiring: stations built from settings, started in order, stopped in reverse."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from functools import partial
from types import FrameType
from typing import Self

import structlog

from dicom_node.errors import ConfigurationError
from dicom_node.receive.completion import Completion, look
from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.settings import Settings
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.ledger import Ledger
from dicom_node.workflow.repair import Repair
from dicom_node.workflow.series_job import SeriesJob
from dicom_node.workflow.stations import Stations
from dicom_node.workflow.upkeep import Upkeep

STOP_TIMEOUT_S = 25.0  # for running stores, and again for running steps; systemd kills after 60

log = structlog.get_logger()


class Node:
    """One node. Building it proves configuration and models; nothing listens before ``start``.

    Raises
    ------
    ConfigurationError, BundleError
        Before any work is accepted.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = _lock_folder(settings)
        self.stations = Stations(settings)
        self.ledger = Ledger(settings.folder / "ledger.sqlite")
        self.spool = Spool(
            settings.folder / "spool", settings.receive.minimum_free_mb, settings.receive.maximum_object_mb
        )
        self.engine = DurableEngine(settings.folder / "workflows.sqlite")
        self.jobs = SeriesJob(self.engine, self.stations, self.ledger, settings.folder / "results")
        repair = Repair(self.engine, self.ledger, settings, settings.folder / "results")
        self.upkeep = Upkeep(self.engine, self.ledger, self.jobs, repair, partial(look, self.spool))
        self.completion = Completion(settings.completion, self.spool, self.jobs.enqueue)
        self.receiver = Receiver(
            settings.receive,
            self.spool,
            self.completion.instance_stored,
            self.completion.association_ended,
        )

    def start(self) -> None:
        """Take up what was unfinished, then listen."""
        self.spool.sweep()
        self.engine.start()
        self.upkeep.start()
        self.completion.restore()
        self.completion.start()
        receive = self.settings.receive
        try:
            self.receiver.start()
        except OSError as error:
            self.stop()
            where = f"receive.host {receive.host}, receive.port {receive.port}"
            raise ConfigurationError(f"{where}: cannot listen there: {error.strerror}") from None
        log.info(
            "node_started",
            ae_titles=[called.ae_title for called in receive.called],
            host=receive.host,
            port=self.receiver.port,
            bundles={name: bundle.device for name, bundle in self.stations.bundles.items()},
        )

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Refuse new associations, let running stores and steps end, and stop within the limit."""
        self.receiver.stop(timeout_s)
        self.completion.stop()
        self.upkeep.stop()
        self.engine.stop(timeout_s)
        self.ledger.close()
        if not self.engine.is_working:  # else the lock goes with the process, once the last step has ended
            os.close(self._lock)
        log.info("node_stopped")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(settings: Settings) -> None:
    """Run a node until SIGTERM or SIGINT."""
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with Node(settings):
        stopping.wait()


def _lock_folder(settings: Settings) -> int:
    """Hold the node's folder: two nodes in one folder would do each other's work."""
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(settings.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(f"folder {settings.folder}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigurationError(f"folder {settings.folder} is in use by another node") from None
    return descriptor
