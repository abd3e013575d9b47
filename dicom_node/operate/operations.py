"""What watches a node, put together; nothing here works on a series."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import structlog

from dicom_node.events import Bulletin, InstanceStored
from dicom_node.operate.audit import AuditTrail
from dicom_node.operate.audit_sink import sinks_of
from dicom_node.operate.census import Kept, count
from dicom_node.operate.endpoints import Endpoints
from dicom_node.operate.health import Check, Checks, Proof, Report, beats, threads_live
from dicom_node.operate.journal import Journal
from dicom_node.operate.listener import Listener
from dicom_node.operate.metrics import Metrics
from dicom_node.operate.notify import Notifications
from dicom_node.operate.service_manager import ServiceManager, Watchdog
from dicom_node.operate.standing import Standing
from dicom_node.receive.instance import StoredInstance
from dicom_node.settings import Destination, Settings
from dicom_node.workflow.book import JOBS
from dicom_node.workflow.database import Database
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.ledger import Ledger

# The upkeep goes round each second; a repair of a large book takes its time
SILENT_S = 300.0
# A series whose time has come is looked at at once, unless the thread hangs
OVERDUE_S = 120.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Watched:
    """What is watched of a node, by questions that are quick and may be asked at any time.

    Attributes
    ----------
    book : written to by the node
    bundles : version and device of each model in use
    threads : names of those that must live
    upkeep_beat : when the upkeep last went round, monotonic
    next_completion : when the next series is due, monotonic; None while nothing arrives
    is_listening, has_room : without which nothing is received
    """

    ledger: Ledger
    book: Database
    bundles: Mapping[str, tuple[str, str]]
    threads: Callable[[], Iterable[str]]
    upkeep_beat: Callable[[], float]
    next_completion: Callable[[], float | None]
    is_listening: Callable[[], bool]
    has_room: Callable[[], bool]


class Operations:
    """Metrics, health, readiness and the service manager of one node.

    Parameters
    ----------
    bulletin : is listened to
    watched : asked when somebody wants to know
    engine : not started yet: notifications are registered here
    """

    def __init__(
        self, settings: Settings, bulletin: Bulletin, watched: Watched, engine: DurableEngine
    ) -> None:
        self._settings, self._bulletin, self._watched = settings, bulletin, watched
        self._is_stopping = False
        self.manager = ServiceManager()
        self.metrics = Metrics(watched.ledger.entry)
        self.notifications = Notifications(engine, watched.ledger, settings, self.metrics.notified)
        for take in (Journal().take, self.metrics.take, self.notifications.take):
            bulletin.listen(take)
        sinks = sinks_of(settings.audit)
        self.audit = sinks and AuditTrail(sinks, settings.audit.source, self._names_of, self.metrics.audited)
        if self.audit:
            bulletin.listen(self.audit.take)
        self._writable = Proof("database", partial(prove_writable, watched.book))
        self._health = Checks(
            {
                "threads": threads_live(watched.threads),
                "upkeep": beats(watched.upkeep_beat, SILENT_S),
                "completion": self._is_completion_overdue,
            }
        )
        ready: dict[str, Check] = {
            "models": self._missing_models,
            "listening": lambda: "" if watched.is_listening() else "it does not listen",
            "disk": lambda: "" if watched.has_room() else "less free than receive.minimum_free_mb",
            "database": self._writable,
            "stopping": lambda: "it stops" if self._is_stopping else "",
        }
        self._ready = Checks(ready)
        self.endpoints = Endpoints(self.metrics, self.health, self.readiness)
        self.watchdog = Watchdog(self.manager, self.health)
        self.listener: Listener | None = None
        census = Kept(lambda: count(watched.book, watched.ledger.count_failed))
        self.metrics.registry.register(
            Standing(
                census,
                folders={"node": settings.folder},
                floor_bytes=settings.receive.minimum_free_mb << 20,
                bundles=watched.bundles,
                destinations=lambda: [each.name for each in self._settings.destinations],
                is_ready=lambda: self.readiness().is_good,
            )
        )

    def health(self) -> Report:
        """Look whether the process works."""
        return self._health.report()

    def readiness(self) -> Report:
        """Look whether the node takes and does work."""
        return Report({**self._ready.report().checks, **self._health.report().checks})

    def use(self, settings: Settings) -> None:
        """Watch by these settings from now on."""
        self._settings = settings
        self.notifications.use(settings)

    def instance_stored(self, instance: StoredInstance) -> None:
        """Tell of an image that is on disk."""
        try:
            size_bytes = instance.path.stat().st_size
        except OSError:  # deleted already, with its series
            size_bytes = 0
        self._bulletin.tell(
            InstanceStored(
                instance.association_id,
                instance.series_instance_uid,
                instance.sop_instance_uid,
                instance.called_ae_title,
                instance.path,
                size_bytes,
                instance.is_new,
                instance.is_conflict,
            )
        )

    def start(self) -> None:
        """Begin to watch; ConfigurationError where ``operate.port`` cannot be listened on."""
        self._writable.start()
        self.notifications.start()
        if self.audit:
            self.audit.start()
        if self._settings.operate.port is not None:
            self.listener = Listener(self._settings.operate, self.endpoints)
            log.info("operate_started", host=self._settings.operate.host, port=self.listener.port)

    def ready(self) -> None:
        """Tell the service manager that the node listens."""
        self.manager.ready("listening")
        self.watchdog.start()

    def stopping(self) -> None:
        """Tell everybody that the node ends."""
        self._is_stopping = True
        self.manager.stopping()
        self.watchdog.stop()

    def stop(self) -> None:
        """Watch no more."""
        self._writable.stop()
        self.notifications.stop()
        if self.audit:
            self.audit.stop()
        if self.listener is not None:
            self.listener.stop()

    def _names_of(self, destination: str) -> tuple[str, str, str]:
        """Name ourselves, a destination and its host, as the audit trail has them."""
        for each in self._settings.destinations:
            if each.name != destination:
                continue
            if isinstance(each, Destination):
                return each.calling_ae_title, each.ae_title, each.host
            return self._settings.audit.source, each.url, urlsplit(each.url).hostname or ""
        return self._settings.audit.source, destination, ""

    def _missing_models(self) -> str:
        """Name models that are not loaded; a process that leaves the analysis to others has none."""
        wanted = (
            {pipeline.bundle for pipeline in self._settings.pipelines} if self._watched.bundles else set()
        )
        missing = sorted(wanted - self._watched.bundles.keys())
        return f"not loaded: {', '.join(missing)}" if missing else ""

    def _is_completion_overdue(self) -> str:
        due = self._watched.next_completion()
        late_s = 0.0 if due is None else time.monotonic() - due
        return f"a series is overdue by {late_s:.0f} s" if late_s > OVERDUE_S else ""


def prove_writable(database: Database) -> None:
    """Prove that a database can be written, by a change of no row."""
    with database.writing() as connection:
        connection.execute(JOBS.update().where(JOBS.c.job_id == "").values(state=JOBS.c.state))
