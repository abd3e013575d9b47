"""The wiring: stations built from settings, started in order, stopped in reverse."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NoReturn, Self

import structlog

from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.events import Bulletin, Tell
from dicom_node.http_client import look_at_web
from dicom_node.log import configure_logging
from dicom_node.operate.notify import prove as prove_notifications
from dicom_node.operate.operations import Operations, Watched
from dicom_node.operate.reload import Change, Reload
from dicom_node.receive.completion import Completion
from dicom_node.receive.instance import StoredInstance
from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.results.warm_up import warm_up
from dicom_node.settings import Settings
from dicom_node.tls import look_at_all
from dicom_node.workflow.acceptance import Acceptance
from dicom_node.workflow.commitments import Commitments
from dicom_node.workflow.database import Database, Databases
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.intake import Intake
from dicom_node.workflow.lease import Lease
from dicom_node.workflow.ledger import Ledger
from dicom_node.workflow.repair import Repair
from dicom_node.workflow.retention import Housekeeping, Retention
from dicom_node.workflow.roles import ALL, Role, Roles, executor_of, need_server, works_on
from dicom_node.workflow.series_job import SeriesJob
from dicom_node.workflow.stations import Stations
from dicom_node.workflow.transactions import Transactions
from dicom_node.workflow.upkeep import Upkeep
from dicom_node.workflow.watch import Watch

if TYPE_CHECKING:  # a node without a page starts a third sooner without its libraries
    from dicom_node.web.access.desk import Desk
    from dicom_node.web.server import WebServer

# Of stop_timeout_s, for what runs to end by itself; the rest is for closing down in order
_WITHIN = 0.9
_CUT = "stop_timeout_s is over; what was not finished goes on at the next start"

log = structlog.get_logger()


class Node:
    """One node. Building it proves configuration and models; nothing listens before ``start``.

    Parameters
    ----------
    path : of the configuration, which may be read again while the node runs
    roles : what of the work is done here; all of it, unless several nodes share a database

    Raises
    ------
    ConfigurationError, BundleError
        Before any work is accepted.
    """

    def __init__(self, settings: Settings, path: Path | None = None, roles: Roles = ALL) -> None:
        self.settings = settings
        need_server(settings, roles)
        _look_at(settings)
        self._lock = _lock_folder(settings)
        self.stations = Stations(settings, with_models=Role.ANALYSE in roles)
        databases = Databases.of(settings)
        bulletin = Bulletin()
        tell = bulletin.tell
        self._desk = self._open_desk(databases.ledger, tell) if settings.web.enabled else None
        executor = executor_of(settings, roles)
        self._receives, is_shared = Role.RECEIVE in roles, databases.workflows.is_shared
        self.lease = Lease(databases.workflows, executor, roles)
        self.lease.take()
        self.ledger = Ledger(databases.ledger)
        self.spool = Spool(
            settings.folder / "spool",
            settings.receive.minimum_free_mb,
            settings.receive.maximum_object_mb,
            receiver=executor if is_shared and self._receives else "",
        )
        self.engine = DurableEngine(databases.workflows, executor, partial(works_on, roles))
        self.engine.shapes = self.lease.shapes
        self.transactions = Transactions(databases.commitments)
        self.commitments = Commitments(
            self.engine, self.ledger, self.transactions, settings.destinations, tell
        )
        results = settings.folder / "results"
        acceptance = Acceptance(self.ledger.database)
        self.jobs = SeriesJob(
            self.engine, self.stations, self.ledger, results, self.commitments, acceptance, tell
        )
        repair = Repair(self.engine, self.ledger, settings, results)
        intake = Intake(self.spool, self.ledger, self.jobs)
        self.upkeep = Upkeep(self.engine, self.ledger, self.jobs, repair, self.lease, intake)
        retention = Retention(settings, self.spool, self.ledger)
        self.housekeeping = Housekeeping(settings, retention, self.engine, leads=lambda: self.lease.leads)
        self.completion = Completion(settings.completion, self.spool, intake.take, is_shared=is_shared)
        self.watch = Watch(self.lease, self.engine, roles, self._receiver_gone)
        self.receiver = Receiver(
            settings.receive,
            self.spool,
            self._instance_stored,
            self.completion.association_ended,
            on_event_report=self.commitments.take,
            on_loss=self.completion.restore,
            tell=tell,
        )
        self.operations = Operations(settings, bulletin, self._watched(databases.ledger), self.engine)
        self._trials = settings.folder / "trials" / executor
        self.web = self._make_page(path, tell) if settings.web.enabled else None
        if self.web is None:
            shutil.rmtree(self._trials, ignore_errors=True)  # of an earlier start with a page
        self._reloading = threading.Lock()  # SIGHUP and the page may ask at once
        self._reload = path and Reload(
            path,
            settings,
            self._prove,
            (
                self.jobs.use,  # first: the queues of new destinations are kept in a database
                lambda new: self.commitments.use(new.destinations),
                self.stations.use,
                lambda new: self.receiver.use(new.receive),
                repair.use,
                self.housekeeping.use,
                self.operations.use,
                self._use,
            ),
            tell,
        )

    def start(self) -> None:
        """Take up what was unfinished, then listen."""
        if self._receives:
            self.spool.sweep()
        self.engine.start()
        self.upkeep.start()
        if self._receives:
            self.completion.restore()
            self.completion.start()
        self.housekeeping.start()
        self.watch.start()
        self._serve_page()
        receive = self.settings.receive
        try:
            self.operations.start()
            if self._receives:
                self.receiver.start()
        except ConfigurationError:
            self.stop()
            raise
        except OSError as error:
            self.stop()
            where = f"receive.host {receive.host}, receive.port {receive.port}"
            where += f", receive.tls.port {receive.tls.port}" if receive.tls else ""
            raise ConfigurationError(f"{where}: cannot listen there: {error.strerror}") from None
        log.info(
            "node_started",
            ae_titles=[called.ae_title for called in receive.called],
            host=receive.host,
            port=self.receiver.port if self._receives else None,
            bundles={name: bundle.device for name, bundle in self.stations.bundles.items()},
        )
        self.operations.ready()
        if self.stations.bundles:
            warm_up()

    def reload(self) -> Change:
        """Read the configuration again: destinations, rules, allow-lists; all of it is taken, or nothing.

        Raises
        ------
        NodeError
            It cannot be used, and says why; nothing has changed.
        """
        if not self._reload:
            raise ConfigurationError("this node was started without a configuration file")
        with self._reloading:
            self.operations.manager.reloading()
            try:
                return self._reload()
            finally:
                self.operations.manager.ready("listening")

    def _prove(self, settings: Settings) -> None:
        _look_at(settings)
        self.stations.prove(settings)
        self.operations.notifications.prepare(settings)

    def _use(self, settings: Settings) -> None:
        self.settings = settings
        configure_logging(settings.log.format, settings.log.level)

    def _instance_stored(self, instance: StoredInstance) -> None:
        self.completion.instance_stored(instance)
        self.operations.instance_stored(instance)

    def _receiver_gone(self, receiver: str) -> None:
        """Take up what another receiver of this spool had half received."""
        self.spool.sweep_after(receiver)
        self.completion.restore()

    def _watched(self, book: Database) -> Watched:
        return Watched(
            ledger=self.ledger,
            book=book,
            bundles={name: (b.manifest.version, b.device) for name, b in self.stations.bundles.items()},
            threads=lambda: [
                *(["completion"] if self._receives else []),
                "upkeep",
                "housekeeping",
                "watch",
                *self.engine.threads,
            ],
            upkeep_beat=lambda: self.upkeep.beat_at,
            next_completion=self.completion.next_deadline,
            is_listening=lambda: not self._receives or self.receiver.is_listening,
            has_room=self.spool.has_room,
        )

    def _open_desk(self, ledger: Database, tell: Tell) -> Desk | None:
        from dicom_node.web.access.desk import Desk

        return Desk.open(self.settings, ledger, tell)

    def _make_page(self, path: Path | None, tell: Tell) -> WebServer:
        from dicom_node.operate.router import router_of
        from dicom_node.web.app import create_app
        from dicom_node.web.node_view import NodeView
        from dicom_node.web.server import WebServer

        view = NodeView(
            self.settings,
            self.stations,
            self.ledger,
            self.spool,
            self.completion,
            self._trials,
            reload=self.reload if path else None,
            tell=tell,
        )
        app = create_app(view, self._desk)
        app.include_router(router_of(self.operations.endpoints))
        return WebServer(self.settings.web, app)

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
        self.operations.stopping()
        if self.web is not None:
            self.web.stop()
        self.watch.stop()
        self.completion.stop()
        self.upkeep.stop()
        self.housekeeping.stop()
        working = threading.Thread(target=self.engine.stop, args=(timeout_s,), name="stop", daemon=True)
        working.start()
        self.receiver.drain(timeout_s)
        working.join()
        self.receiver.stop(0)
        self.operations.stop()
        if self.engine.is_working:  # lock and lease go with the process
            log.warning("node_cut", meaning=_CUT)
        else:
            self.lease.leave()
            os.close(self._lock)
        self.ledger.close()
        self.transactions.close()
        if self._desk:
            self._desk.close()
        log.info("node_stopped")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(settings: Settings, path: Path | None = None, roles: Roles = ALL) -> NoReturn:
    """Run a node until SIGTERM or SIGINT; ends the process. SIGHUP reads its configuration again.

    A second signal ends the process at once, ``stop_timeout_s`` ends it too: what was not
    acknowledged is sent again, what was not finished goes on at the next start.
    """
    told: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=_listen_to, args=(_signals(), told), name="signals", daemon=True).start()
    with Node(settings, path, roles) as node:
        while told.get() == signal.SIGHUP:
            with suppress(NodeError):  # the log says why
                node.reload()
        limit_s = settings.stop_timeout_s
        log.info("node_stopping", limit_s=limit_s, hint="a second signal ends it at once")
        threading.Thread(target=_end_after, args=(limit_s,), name="stop-limit", daemon=True).start()
    # All is closed; the interpreter would still join idle threads and take the libraries apart for seconds
    sys.stderr.flush()
    os._exit(0)


def _signals() -> int:
    """Give a descriptor on which each SIGTERM, SIGINT and SIGHUP can be read as a byte.

    A handler in Python runs when the main thread next runs Python: a signal that comes as that thread is
    about to wait would not be seen before another. The interpreter's own handler writes at once.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return reading


def _listen_to(signals: int, told: SimpleQueue[int]) -> None:
    """Pass signals on up to the first that stops; end the process at the second."""
    while (number := os.read(signals, 1)[0]) == signal.SIGHUP:
        told.put(number)
    told.put(number)
    while (number := os.read(signals, 1)[0]) == signal.SIGHUP:
        continue  # the configuration of a node that stops
    os._exit(128 + number)


def _look_at(settings: Settings) -> None:
    """Prove the files and secrets that settings name, and warn; ConfigurationError if one cannot be used."""
    for note in [*look_at_all(settings), *look_at_web(settings)]:
        if note.is_warning:
            log.warning("settings", note=note.text)
    prove_notifications(settings)


def _end_after(limit_s: float) -> None:
    """End the process, whatever thread still runs."""
    time.sleep(limit_s)
    log.warning("node_cut", meaning=_CUT)
    os._exit(0)


def _lock_folder(settings: Settings) -> int:
    """Hold the node's folder: two nodes in one folder would do each other's work, unless a database says who.

    Neither kind starts beside the other.
    """
    is_shared = settings.database.url is not None
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(settings.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(f"folder {settings.folder}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        hint = " that has no database.url" if is_shared else ""
        raise ConfigurationError(f"folder {settings.folder} is in use by another node{hint}") from None
    return descriptor
