"""What happens to a complete series, as durable steps.

The shape of these workflows is kept in the database while they run; a change of their steps
needs a new ``SHAPE`` in :mod:`dicom_node.workflow.engine`. Work of an older shape is not gone
on with: :mod:`dicom_node.workflow.repair` finds that the book is ahead, and begins it anew.

No error leaves a workflow: a step returns what came of it, and a second one tells the book, and
insists. Should even that fail, or the process die ten times, repair finds the book behind.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypedDict

import structlog

from dicom_node import events
from dicom_node.errors import Cancelled, DestinationUnknown, NodeError, is_transient, reason, remedy
from dicom_node.receive.completion import CompleteSeries
from dicom_node.results.files import read_predecessor
from dicom_node.series.selection import Verdict
from dicom_node.settings import Settings
from dicom_node.workflow.acceptance import Acceptance
from dicom_node.workflow.commitments import Commitments
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.ledger import Delivery, Entry, Ledger, Sent, State
from dicom_node.workflow.parcel import Parcel, pack, send
from dicom_node.workflow.retry import OF_A_JOB, Policy
from dicom_node.workflow.stations import Stations, Task
from dicom_node.workflow.transactions import Kept, kept_of
from dicom_node.workflow.worked import Outcome

# Between two looks whether the version before has been analysed, as by another process
AFTER_S = 5.0
PRIORITIES = {"high": 1, "normal": 2, "low": 3}

log = structlog.get_logger()


class Job(TypedDict):
    """A complete series, as it is kept with its workflow."""

    job_id: str
    ticket: str
    priority: int
    version: int
    run: int
    series_instance_uid: str
    called_ae_title: str
    paths: list[str]
    folder: str


class Errand(TypedDict):
    """A parcel, as it is kept with its workflow."""

    job_id: str
    destination: str
    ticket: str
    priority: int
    parcel: Parcel


@dataclass(frozen=True)
class Told:
    """What a step tells the book of a job, and when it is to be tried again.

    Attributes
    ----------
    parcels : by destination, as JSON
    age_s : of the job
    wait_s : before the next attempt; None when there is none
    """

    state: State
    detail: str
    outcome: Outcome | None = None
    remedy: str = ""
    attempts: int = 0
    folder: Path | None = None
    pipeline: str | None = None
    trace: Sequence[Verdict] | None = None
    parcels: dict[str, str] | None = None
    age_s: float = 0.0
    wait_s: float | None = None


@dataclass(frozen=True)
class Tried:
    """What came of an attempt to send.

    Attributes
    ----------
    delivery : how it stands; None when it is no longer wanted
    age_s : of the delivery
    wait_s : before the next attempt; None when there is none
    stored : what the destination has now
    """

    delivery: Delivery | None
    age_s: float
    wait_s: float | None = None
    stored: tuple[Kept, ...] = ()


class SeriesJob:
    """The workflows of one node.

    Parameters
    ----------
    engine : not started yet: workflows are registered here
    stations : what is done
    ledger : where it is told
    folder : of the results; each job has its own below
    commitments : follow what was stored where a destination is to commit itself
    acceptance : what destinations take
    tell : gets what happens to jobs and deliveries
    """

    def __init__(
        self,
        engine: DurableEngine,
        stations: Stations,
        ledger: Ledger,
        folder: Path,
        commitments: Commitments,
        acceptance: Acceptance,
        tell: events.Tell = events.nobody,
    ) -> None:
        self._engine, self._stations, self._ledger, self._folder = engine, stations, ledger, folder
        self._commitments, self._acceptance, self._tell_all = commitments, acceptance, tell
        self._series = engine.queue("series", at_once=1)
        self.use(stations.settings)
        self._run = engine.workflow("series", self._series_workflow)
        self._carry = engine.workflow("deliver", self._deliver_workflow)

    def use(self, settings: Settings) -> None:
        """Send to these destinations, with these priorities, from now on."""
        destinations = {d.name: d for d in settings.destinations}
        self._nets = {name: self._engine.queue(f"deliver-{name}", at_once=1) for name in destinations}
        self._destinations = destinations
        self._priorities = {each.ae_title: each.priority for each in settings.receive.called}
        self._rules_say_priority = any(pipeline.priority for pipeline in settings.pipelines)

    def enqueue(self, series: CompleteSeries) -> None:
        """Take on a complete series; the same instances again are the same job, which runs once."""
        job_id = job_id_of(series)
        if self._ledger.has_ended(job_id):  # after a restart, every series in the spool comes again
            return
        priority = self._priority_of(series)
        if self._ledger.open_job(job_id, series.series_instance_uid, series.instances, priority=priority):
            log.info("series_complete", series=series.series_instance_uid, instances=series.instances)
            self._tell_all(events.SeriesComplete(job_id, series.series_instance_uid, series.instances))
        entry = self._ledger.entry(job_id)
        if entry is not None and entry.state is State.WAITING:
            self.begin(entry, series)

    def _priority_of(self, series: CompleteSeries) -> int:
        """Priority by called AE title and pipeline, the more urgent of the two; smaller goes first."""
        said = [self._priorities.get(series.called_ae_title)]
        if self._rules_say_priority and "high" not in said:
            try:
                pipeline = self._stations.select(series.paths, series.called_ae_title).selection.pipeline
                said.append(pipeline.priority if pipeline else None)
            except Exception:  # what it means for the series is found out when it is worked on
                log.exception("priority_unknown", series=series.series_instance_uid)
        return min((PRIORITIES[each] for each in said if each), default=PRIORITIES["normal"])

    def begin(self, entry: Entry, series: CompleteSeries) -> None:
        """Start the workflow of a job; nothing happens when it was started with this ticket before."""
        uid = entry.series_instance_uid
        job = Job(
            job_id=entry.job_id,
            ticket=entry.ticket,
            priority=entry.priority,
            version=entry.version,
            run=run_of(entry.job_id),
            series_instance_uid=uid,
            called_ae_title=series.called_ae_title,
            paths=[str(path) for path in series.paths],
            folder=str(self._folder / uid / entry.job_id.removeprefix(f"{uid}-")),
        )
        self._begin(job, attempt=1, age_s=0.0)

    def carry(self, entry: Entry, delivery: Delivery) -> bool:
        """Start the workflow of an ordered delivery; False when its destination is not configured.

        All is offered again: who orders it may have had the destination changed.
        """
        if destination := self._destinations.get(delivery.destination):
            self._acceptance.forget_refusals(destination)
        return self._send_on(_errand(entry, delivery), attempt=1, age_s=0.0)

    def _begin(self, job: Job, attempt: int, age_s: float, wait_s: float = 0.0) -> None:
        workflow_id = f"{job['job_id']}/{job['ticket']}/{attempt}"
        self._engine.enqueue_at(
            job["priority"], wait_s, self._series, workflow_id, self._run, job, attempt, age_s
        )

    def _send_on(self, errand: Errand, attempt: int, age_s: float, wait_s: float = 0.0) -> bool:
        name = errand["destination"]
        if name not in self._nets:  # removed from the configuration since: repair finds and tells it
            return False
        workflow_id = f"{errand['job_id']}/{name}/{errand['ticket']}/{attempt}"
        self._engine.enqueue_at(
            errand["priority"], wait_s, self._nets[name], workflow_id, self._carry, errand, attempt, age_s
        )
        return True

    def _series_workflow(self, job: Job, attempt: int, age_s: float) -> str:
        """Select and analyse, then deliver; when the disk does not play along, come back later."""
        with structlog.contextvars.bound_contextvars(series=job["series_instance_uid"]):
            made_at = self._engine.step("clock", _now)
            told = self._engine.step("analyse", self._work, job, made_at, attempt, age_s)
            if told is None:
                return "cancelled"
            self._engine.insist("tell", self._tell, job, told)
            if told.wait_s is not None:
                self._begin(job, attempt + 1, told.age_s + told.wait_s, told.wait_s)
                return "later"
            for errand in self._engine.insist("errands", self._errands, job):
                self._send_on(errand, attempt=1, age_s=0.0)
            return told.state

    def _work(self, job: Job, made_at: str, attempt: int, age_s: float) -> Told | None:
        """Do all that can be done here; None when it is no longer wanted."""
        start = time.monotonic()
        try:
            return self._after_earlier(job, attempt, age_s) or self._select_and_analyse(
                job, datetime.fromisoformat(made_at), attempt
            )
        except Cancelled as error:
            log.warning("job_stopped", reason=str(error))
            return None
        except Exception as error:
            age_s += time.monotonic() - start
            wait_s = OF_A_JOB.wait_s(attempt, age_s) if is_transient(error) else None
            why = reason(error)
            self._tell_all(events.WorkFailed(job["job_id"], type(error).__name__, wait_s is None))
            if wait_s is not None:
                log.warning("job_postponed", attempt=attempt, reason=why, retry_in_s=round(wait_s, 1))
                return Told(
                    State.WAITING,
                    f"tried again later: {why}",
                    remedy=remedy(error),
                    attempts=attempt,
                    age_s=age_s,
                    wait_s=wait_s,
                )
            log.exception("job_failed", attempt=attempt)
            detail = f"no report could be made: {why}"
            return Told(State.FAILED, detail, Outcome.FAILED, remedy=remedy(error), attempts=attempt)

    def _after_earlier(self, job: Job, attempt: int, age_s: float) -> Told | None:
        """Put off what replaces a result that is being made: it is to name it."""
        self._ledger.need(job["job_id"], job["ticket"])
        before = self._ledger.analysed_before(job["job_id"])
        if before is None:
            return None
        detail = f"after version {before}, which is being analysed"
        log.info("job_put_off", attempt=attempt, reason=detail)
        return Told(State.WAITING, detail, attempts=attempt, age_s=age_s, wait_s=AFTER_S)

    def _select_and_analyse(self, job: Job, made_at: datetime, attempt: int) -> Told:
        go_on = partial(self._ledger.need, job["job_id"], job["ticket"])
        go_on()
        self._tell_all(events.WorkBegun(job["job_id"]))
        entry = self._ledger.entry(job["job_id"])
        settings = self._stations.settings  # the same to the end, whatever is read again meanwhile
        pipelines = settings.pipelines
        if entry and entry.bundle:
            pipelines = self._stations.pipelines_with(entry.bundle, pipelines)
        paths = [Path(path) for path in job["paths"]]
        selected = self._stations.select(paths, job["called_ae_title"], pipelines)
        selection = selected.selection
        log.info("series_selected", outcome=selection.outcome, reason=selection.reason)
        pipeline = selection.pipeline
        if pipeline is None:
            self._tell_all(events.Worked(job["job_id"], "", State.SKIPPED))
            return Told(State.SKIPPED, selection.reason, attempts=attempt, trace=selection.trace)
        self._ledger.update(
            job["job_id"],
            State.ANALYSING,
            ticket=job["ticket"],
            detail=selection.reason,
            attempts=attempt,
            pipeline=pipeline.name,
            trace=selection.trace,
        )
        folder = Path(job["folder"])
        earlier = self._ledger.earlier_result(job["job_id"])
        task = Task(
            job_id=job["job_id"],
            version=job["version"],
            run=job["run"],
            folder=folder,
            made_at=made_at,
            predecessor=read_predecessor(earlier) if earlier else None,
            go_on=go_on,
        )
        worked = self._stations.work(selected, task)
        timings_s = {station: round(seconds, 3) for station, seconds in worked.timings_s.items()}
        log.info("series_analysed", outcome=worked.outcome, detail=worked.detail, timings_s=timings_s)
        made = events.Worked(job["job_id"], pipeline.name, worked.outcome, worked.error, worked.timings_s)
        self._tell_all(made)
        objects = [o for results in worked.results for o in results.objects]
        destinations = [each for each in settings.destinations if each.name in pipeline.destinations]
        parcels = pack(objects, pipeline.outputs, destinations)
        return Told(
            State.SENDING if parcels else State.DONE,
            worked.detail,
            worked.outcome,
            remedy=worked.remedy,
            attempts=attempt,
            folder=folder,
            parcels=parcels,
        )

    def _tell(self, job: Job, told: Told) -> None:
        try:
            self._ledger.update(
                job["job_id"],
                told.state,
                ticket=job["ticket"],
                outcome=told.outcome,
                detail=told.detail,
                remedy=told.remedy,
                attempts=told.attempts,
                pipeline=told.pipeline,
                folder=told.folder,
                trace=told.trace,
                parcels=told.parcels,
            )
        except Cancelled as error:
            log.warning("job_stopped", reason=str(error))

    def _errands(self, job: Job) -> list[Errand]:
        """What the book says is to be delivered, if this job still may."""
        entry = self._ledger.entry(job["job_id"])
        if entry is None or entry.ticket != job["ticket"]:
            return []
        return [_errand(entry, d) for d in entry.deliveries if d.state is Sent.PENDING]

    def _deliver_workflow(self, errand: Errand, attempt: int, age_s: float) -> str:
        """Send; when the destination is not to be had, come back later as a new workflow."""
        with structlog.contextvars.bound_contextvars(job=errand["job_id"], destination=errand["destination"]):
            tried = self._engine.step("send", self._send, errand, attempt, age_s)
            stands = tried.delivery
            if stands is None or not self._engine.insist("tell", self._tell_of, errand, stands):
                return Sent.CANCELLED
            if tried.wait_s is not None:
                self._send_on(errand, attempt + 1, tried.age_s + tried.wait_s, tried.wait_s)
            if stands.state is Sent.ASKED:
                self._commitments.begin(
                    errand["job_id"], stands.destination, stands.ticket, errand["priority"], tried.stored
                )
            return stands.state

    def _send(self, errand: Errand, attempt: int, age_s: float) -> Tried:
        """Try once."""
        name, parcel, ticket = errand["destination"], errand["parcel"], errand["ticket"]
        destination = self._destinations.get(name)
        start = time.monotonic()
        try:
            self._ledger.need(errand["job_id"], ticket, name)
            if destination is None:
                raise DestinationUnknown("this destination is no longer configured")  # noqa: TRY301
            self._tell_all(events.Sending(errand["job_id"], name, tuple(map(Path, parcel["paths"]))))
            sent = list(dict.fromkeys(send(destination, parcel, self._acceptance)))
            stored = tuple(kept_of(path) for path in sent)
        except Cancelled as error:
            log.warning("delivery_stopped", reason=str(error))
            return Tried(None, age_s)
        except Exception as error:
            age_s += time.monotonic() - start
            wait_s = None
            if destination is not None and is_transient(error):
                wait_s = Policy.of(destination).wait_s(attempt, age_s)
            log.warning(
                "delivery_failed",
                attempt=attempt,
                reason=reason(error),
                retry_in_s=None if wait_s is None else round(wait_s, 1),
                exc_info=not isinstance(error, NodeError | OSError),
            )
            kind = type(error).__name__
            self._tell_all(events.DeliveryFailed(errand["job_id"], name, kind, wait_s is None))
            state = Sent.FAILED if wait_s is None else Sent.RETRYING
            return Tried(
                Delivery(name, state, attempt, reason(error), remedy(error), ticket=ticket), age_s, wait_s
            )
        log.info("results_sent", attempt=attempt, objects=len(parcel["paths"]))
        state = self._commitments.state_of_sent(name)
        self._tell_all(events.Delivered(errand["job_id"], name, tuple(sent), state is Sent.ASKED))
        return Tried(Delivery(name, state, attempt, "", ticket=ticket), age_s, stored=stored)

    def _tell_of(self, errand: Errand, delivery: Delivery) -> bool:
        try:
            self._ledger.deliver(errand["job_id"], delivery)
        except Cancelled as error:
            log.warning("delivery_stopped", reason=str(error))
            return False
        return True


def job_id_of(series: CompleteSeries, run: int = 1) -> str:
    """Name the analysis of a series with these instances, or a further run of the same."""
    again = f"-{run}" if run > 1 else ""
    return f"{series.series_instance_uid}-{series.digest}{again}"


def run_of(job_id: str) -> int:
    """Read from a job's name how often these instances were analysed, this job included."""
    parts = job_id.split("-")
    return int(parts[2]) if len(parts) > 2 else 1


def _errand(entry: Entry, delivery: Delivery) -> Errand:
    return Errand(
        job_id=entry.job_id,
        destination=delivery.destination,
        ticket=delivery.ticket,
        priority=entry.priority,
        parcel=json.loads(delivery.parcel),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
