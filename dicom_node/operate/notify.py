"""Who is told of findings, failures and dead letters, and that they are.

A message is a workflow of its own: it is tried again with growing waits, and goes on after a restart.
Its id follows from the work that it tells of, so that nobody is told twice; what happened in the moments
before a crash is found in the book at the next start.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypedDict

import structlog
from pydicom import dcmread

from dicom_node import events
from dicom_node.errors import NodeError, is_transient, reason
from dicom_node.events import Event
from dicom_node.log import series_id
from dicom_node.operate import mail, webhook
from dicom_node.settings import Notification, Settings
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.entry import Entry, Sent, State
from dicom_node.workflow.ledger import Ledger
from dicom_node.workflow.retry import HOUR_S, Policy
from dicom_node.workflow.worked import Outcome

QUEUE = "notify"
LOOK_EVERY_S = 1.0
LOOKS = 30  # at a job that was heard of, before there is nothing to tell of it
MARK_EVERY_S = 60.0
CATCH_UP = 1000  # of the latest jobs, at a start
_PRIORITY = 2

log = structlog.get_logger()


class Message(TypedDict):
    """What is told; the fields of a webhook's JSON and of a mail's templates.

    ``patient`` is empty unless the rule says ``patient_data``.
    """

    id: str
    occasion: str
    at: str
    job: int
    series: str
    pipeline: str
    outcome: str
    destination: str
    detail: str
    remedy: str
    patient: dict[str, str]


class Notifications:
    """Messages by the rules of the settings.

    Parameters
    ----------
    engine : not started yet: the workflow is registered here
    ledger : says what is so
    count : gets the rule's name and ``sent``, ``postponed`` or ``failed``
    """

    def __init__(
        self, engine: DurableEngine, ledger: Ledger, settings: Settings, count: Callable[[str, str], None]
    ) -> None:
        self._engine, self._ledger, self._count = engine, ledger, count
        self._mark = settings.folder / "notified"
        self._carry = engine.workflow("notify", self._workflow)
        self._happened: SimpleQueue[tuple[str, str] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
        self.prepare(settings)
        self.use(settings)

    def prepare(self, settings: Settings) -> None:
        """See that messages can be kept; a queue costs something even while it is empty."""
        if settings.notifications:
            self._engine.queue(QUEUE, at_once=1)

    def use(self, settings: Settings) -> None:
        """Tell by these rules from now on, which were prepared for."""
        self._rules = {rule.name: rule for rule in settings.notifications}

    def take(self, event: Event) -> None:
        """Note that there may be something to tell of a job."""
        match event:
            case events.Worked(job_id=job_id, outcome=Outcome.FINDINGS):
                self._happened.put((job_id, "finding"))
            case events.Worked(job_id=job_id, outcome=Outcome.FAILED):
                self._happened.put((job_id, "failure"))
            case events.WorkFailed(job_id=job_id, final=True):
                self._happened.put((job_id, "failure"))
            case events.DeliveryFailed(job_id=job_id, final=True):
                self._happened.put((job_id, "dead letter"))

    def start(self) -> None:
        """Begin, with what happened since the mark."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it did not come to is told after the next start."""
        self._happened.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        """Look at each job soon after it was heard of: the event comes before the book is told."""
        waiting: dict[tuple[str, str], int] = {}
        self._catch_up()
        while True:
            if not waiting:
                self._set_mark()
            try:
                what = self._happened.get(timeout=LOOK_EVERY_S if waiting else MARK_EVERY_S)
            except Empty:
                self._look(waiting)
                continue
            if what is None:
                return
            waiting[what] = 0

    def _look(self, waiting: dict[tuple[str, str], int]) -> None:
        for job_id, occasion in list(waiting):
            waiting[job_id, occasion] += 1
            try:
                entry = self._ledger.entry(job_id)
                told = entry is not None and occasion in self._tell(entry)
            except Exception as error:  # noqa: BLE001 - the database, for now
                log.warning("notifications_held_up", reason=reason(error))
                told = False
            if told or waiting[job_id, occasion] >= LOOKS:
                del waiting[job_id, occasion]

    def _tell(self, entry: Entry) -> set[str]:
        """Put a message for each rule on its way, unless it is; return what there was to tell."""
        found = list(occasions(entry))
        for occasion, destination, ticket in found:
            for rule in self._rules.values():
                if occasion in rule.on:
                    about = f"{entry.job_id}/{destination or '-'}/{rule.name}-{occasion.replace(' ', '-')}"
                    # Not the ticket alone: a repair would take this for the work with that ticket
                    self._enqueue(
                        f"{about}/{ticket}-told/1", rule.name, occasion, entry.job_id, destination, 0.0
                    )
        return {occasion for occasion, _, _ in found}

    def _catch_up(self) -> None:
        """Tell what happened since the mark, which was not told for a crash."""
        try:
            since = datetime.fromisoformat(self._mark.read_text("ascii").strip())
        except (OSError, ValueError):
            return
        for entry in self._ledger.entries(limit=CATCH_UP):
            if entry.updated_at >= since:
                self._tell(entry)

    def _set_mark(self) -> None:
        with suppress(OSError):  # then a start looks at more than it needs to
            self._mark.write_text(datetime.now(UTC).isoformat(), "ascii")

    def _enqueue(
        self,
        name: str,
        rule: str,
        occasion: str,
        job_id: str,
        destination: str,
        age_s: float,
        wait_s: float = 0.0,
    ) -> None:
        self._engine.enqueue_at(
            _PRIORITY,
            wait_s,
            QUEUE,
            f"notify/{name}",
            self._carry,
            name,
            rule,
            occasion,
            job_id,
            destination,
            age_s,
        )

    def _workflow(
        self, name: str, rule: str, occasion: str, job_id: str, destination: str, age_s: float
    ) -> str:
        with structlog.contextvars.bound_contextvars(job=job_id, notification=rule):
            age_s, wait_s = self._engine.step(
                "notify", self._try, name, rule, occasion, job_id, destination, age_s
            )
            if wait_s is None:
                return "ended"
            stem, _, attempt = name.rpartition("/")
            again = f"{stem}/{int(attempt) + 1}"
            self._enqueue(again, rule, occasion, job_id, destination, age_s + wait_s, wait_s)
            return "later"

    def _try(
        self, name: str, rule_name: str, occasion: str, job_id: str, destination: str, age_s: float
    ) -> tuple[float, float | None]:
        """Try once; how old the message is now, and the wait before the next attempt, if there is one."""
        rule = self._rules.get(rule_name)
        if rule is None:
            log.warning("notification_dropped", reason="its rule is no longer configured")
            return age_s, None
        stem, _, number = name.rpartition("/")
        start, attempt = time.monotonic(), int(number)
        try:
            entry = self._ledger.entry(job_id)
            if entry is None:
                return age_s, None
            send(rule, message_of(stem, rule, occasion, entry, destination))
        except Exception as error:
            age_s += time.monotonic() - start
            wait_s = _policy(rule).wait_s(attempt, age_s) if is_transient(error) else None
            log.warning(
                "notification_failed",
                attempt=attempt,
                reason=reason(error),
                retry_in_s=None if wait_s is None else round(wait_s, 1),
                exc_info=not isinstance(error, NodeError | OSError),
            )
            self._count(rule.name, "failed" if wait_s is None else "postponed")
            return age_s, wait_s
        log.info("notification_sent", attempt=attempt, occasion=occasion)
        self._count(rule.name, "sent")
        return age_s, None


def occasions(entry: Entry) -> Iterator[tuple[str, str, str]]:
    """Name what is to be told of a job as the book has it: occasion, destination and ticket."""
    if entry.state in (State.WAITING, State.ANALYSING):
        return
    if entry.outcome is Outcome.FINDINGS:
        yield "finding", "", entry.ticket
    elif entry.outcome is Outcome.FAILED:
        yield "failure", "", entry.ticket
    for delivery in entry.deliveries:
        if delivery.state is Sent.FAILED:
            yield "dead letter", delivery.destination, delivery.ticket


def send(rule: Notification, message: Message) -> None:
    """Send a message by its rule's way.

    Raises
    ------
    DestinationUnavailable, DeliveryRefused, ConfigurationError
    """
    if rule.webhook is not None:
        webhook.post(rule.webhook, json.dumps(message).encode(), rule.timeout_s)
    elif rule.mail is not None:
        mail.send(rule, message)


def prove(settings: Settings) -> None:
    """See that secrets are there and templates name fields that there are.

    Raises
    ------
    ConfigurationError
        Names the rule.
    """
    for rule in settings.notifications:
        if rule.webhook is not None:
            webhook.prove(rule.webhook)
        if rule.mail is not None:
            mail.prove(rule, Message.__annotations__.keys())


def message_of(name: str, rule: Notification, occasion: str, entry: Entry, destination: str) -> Message:
    """Say what happened, by what the book says now."""
    sent = next((d for d in entry.deliveries if d.destination == destination), None)
    told = sent or entry
    return Message(
        id=series_id(name),
        occasion=occasion,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        job=entry.number,
        series=series_id(entry.series_instance_uid),
        pipeline=entry.pipeline or "",
        outcome=entry.outcome or "",
        destination=destination,
        detail=told.detail,
        remedy=told.remedy,
        patient=_patient(entry) if rule.patient_data else {},
    )


def _patient(entry: Entry) -> dict[str, str]:
    """Read from the result whom it is about; images may be deleted by now."""
    wanted = ("PatientID", "AccessionNumber", "StudyInstanceUID")
    found = {"SeriesInstanceUID": entry.series_instance_uid}
    for path in _results(entry):
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(wanted))
        return found | {name: str(header.get(name, "")) for name in wanted}
    return found


def _results(entry: Entry) -> Iterable[Path]:
    return sorted(Path(entry.folder).glob("sr.dcm")) if entry.folder else ()


def _policy(rule: Notification) -> Policy:
    return Policy(rule.retry_first_s, rule.retry_longest_s, rule.retry_for_hours * HOUR_S)
