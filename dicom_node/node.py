"""The wiring: stations built from settings, started in order, stopped in reverse."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from functools import partial
from queue import SimpleQueue
from typing import NoReturn, Self

import structlog

from dicom_node.errors import ConfigurationError
from dicom_node.http_client import look_at_web
from dicom_node.receive.completion import Completion, look
from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.settings import Settings
from dicom_node.tls import look_at_all
from dicom_node.web.app import create_app
from dicom_node.web.node_view import NodeView
from dicom_node.web.server import WebServer
from dicom_node.workflow.commitments import Commitments
from dicom_node.workflow.database import Databases
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.ledger import Ledger
from dicom_node.workflow.repair import Repair
from dicom_node.workflow.retention import Housekeeping, Intake, Retention
from dicom_node.workflow.series_job import SeriesJob
from dicom_node.workflow.stations import Stations
from dicom_node.workflow.transactions import Transactions
from dicom_node.workflow.upkeep import Upkeep

# Of stop_timeout_s, for what runs to end by itself; the rest is for closing down in order
_WITHIN = 0.9
_CUT = "stop_timeout_s is over; what was not finished goes on at the next start"

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
        for note in [*look_at_all(settings), *look_at_web(settings)]:
            if note.is_warning:
                log.warning("settings", note=note.text)
        self._lock = _lock_folder(settings)
        self.stations = Stations(settings)
        databases = Databases.of(settings)
        self.ledger = Ledger(databases.ledger)
        self.spool = Spool(
            settings.folder / "spool", settings.receive.minimum_free_mb, settings.receive.maximum_object_mb
        )
        self.engine = DurableEngine(databases.workflows)
        self.transactions = Transactions(databases.commitments)
        self.commitments = Commitments(self.engine, self.ledger, self.transactions, settings.destinations)
        self.jobs = SeriesJob(
            self.engine, self.stations, self.ledger, settings.folder / "results", self.commitments
        )
        repair = Repair(self.engine, self.ledger, settings, settings.folder / "results")
        self.upkeep = Upkeep(self.engine, self.ledger, self.jobs, repair, partial(look, self.spool))
        retention = Retention(settings, self.spool, self.ledger)
        self.housekeeping = Housekeeping(settings, retention, self.engine)
        intake = Intake(self.spool, self.ledger, self.jobs)
        self.completion = Completion(settings.completion, self.spool, intake.take)
        self.receiver = Receiver(
            settings.receive,
            self.spool,
            self.completion.instance_stored,
            self.completion.association_ended,
            on_event_report=self.commitments.take,
        )
        view = NodeView(settings, self.stations, self.ledger, self.spool, self.completion)
        self.web = WebServer(settings.web, create_app(view)) if settings.web.enabled else None

    def start(self) -> None:
        """Take up what was unfinished, then listen."""
        self.spool.sweep()
        self.engine.start()
        self.upkeep.start()
        self.completion.restore()
        self.completion.start()
        self.housekeeping.start()
        self._serve_page()
        receive = self.settings.receive
        try:
            self.receiver.start()
        except OSError as error:
            self.stop()
            where = f"receive.host {receive.host}, receive.port {receive.port}"
            where += f", receive.tls.port {receive.tls.port}" if receive.tls else ""
            raise ConfigurationError(f"{where}: cannot listen there: {error.strerror}") from None
        log.info(
            "node_started",
            ae_titles=[called.ae_title for called in receive.called],
            host=receive.host,
            port=self.receiver.port,
            bundles={name: bundle.device for name, bundle in self.stations.bundles.items()},
        )

    def _serve_page(self) -> None:
        if self.web is None:
            return
        web = self.settings.web
        try:
            self.web.start()
        except OSError as error:
            self.stop()
            remedy = "take another port, or set web.enabled = false"
            where = f"web.host {web.host}, web.port {web.port}"
            raise ConfigurationError(f"{where}: cannot listen there: {error.strerror}; {remedy}") from None

    def stop(self) -> None:
        """Reject new associations for now, let running C-STOREs and steps end, and stop.

        Neither waits for the other, and no new step begins: a series that is completed by these
        C-STOREs is taken up at the next start. Both are cut shortly before ``stop_timeout_s``.
        """
        timeout_s = _WITHIN * self.settings.stop_timeout_s
        if self.web is not None:
            self.web.stop()
        self.completion.stop()
        self.upkeep.stop()
        self.housekeeping.stop()
        working = threading.Thread(target=self.engine.stop, args=(timeout_s,), name="stop", daemon=True)
        working.start()
        self.receiver.drain(timeout_s)
        working.join()
        self.receiver.stop(0)
        self.ledger.close()
        self.transactions.close()
        if self.engine.is_working:  # the lock goes with the process
            log.warning("node_cut", meaning=_CUT)
        else:
            os.close(self._lock)
        log.info("node_stopped")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(settings: Settings) -> NoReturn:
    """Run a node until SIGTERM or SIGINT; ends the process.

    A second signal ends the process at once, ``stop_timeout_s`` ends it too: what was not
    acknowledged is sent again, what was not finished goes on at the next start.
    """
    told_to_stop: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=_listen_to, args=(_signals(), told_to_stop), name="signals", daemon=True).start()
    with Node(settings):
        told_to_stop.get()
        limit_s = settings.stop_timeout_s
        log.info("node_stopping", limit_s=limit_s, hint="a second signal ends it at once")
        threading.Thread(target=_end_after, args=(limit_s,), name="stop-limit", daemon=True).start()
    # All is closed; the interpreter would still join idle threads and take the libraries apart for seconds
    sys.stderr.flush()
    os._exit(0)


def _signals() -> int:
    """Give a descriptor on which each SIGTERM and SIGINT can be read as a byte.

    A handler in Python runs when the main thread next runs Python: a signal that comes as that thread is
    about to wait would not be seen before another. The interpreter's own handler writes at once.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reading


def _listen_to(signals: int, told_to_stop: SimpleQueue[int]) -> None:
    """Pass the first signal on; end the process at the second."""
    told_to_stop.put(os.read(signals, 1)[0])
    os._exit(128 + os.read(signals, 1)[0])


def _end_after(limit_s: float) -> None:
    """End the process, whatever thread still runs."""
    time.sleep(limit_s)
    log.warning("node_cut", meaning=_CUT)
    os._exit(0)


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
