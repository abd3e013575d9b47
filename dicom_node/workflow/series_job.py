"""What happens to a complete series, as durable steps.

The shape of these workflows is kept in the database while they run; a change of their steps
needs a new ``application_version`` in :mod:`dicom_node.workflow.engine` and a plan for old ones.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

import structlog

from dicom_node.deliver.destination import send_to
from dicom_node.deliver.retry import wait_before_retry_s
from dicom_node.errors import DestinationUnavailable, NodeError, TransientError
from dicom_node.results.files import read_result_set
from dicom_node.results.older_report import OLDER_CLASSES, make_older_report
from dicom_node.results.result_set import Kind, ResultObject
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.ledger import Delivery, Ledger, Sent, State
from dicom_node.workflow.stations import Stations
from dicom_node.workflow.worked import Outcome, Worked

FIRST_WAIT_S = 10.0  # before a job that met a full or failing disk is tried again; doubled each time
LONGEST_WAIT_S = 600.0

log = structlog.get_logger()


class Job(TypedDict):
    """A complete series, as it is kept with its workflow."""

    job_id: str
    series_instance_uid: str
    called_ae_title: str
    paths: list[str]
    folder: str


class Parcel(TypedDict):
    """Files on their way to one destination."""

    job_id: str
    destination: str
    paths: list[str]
    older: list[list[str]]  # for each path, the same in older SOP classes
    first_tried: float  # seconds since the epoch: an interval over restarts


class SeriesJob:
    """The workflows of one node.

    Parameters
    ----------
    engine : not started yet: workflows are registered here
    stations : what is done
    ledger : where it is told
    folder : of the results; each job has its own below
    """

    def __init__(self, engine: DurableEngine, stations: Stations, ledger: Ledger, folder: Path) -> None:
        self._engine, self._stations, self._ledger, self._folder = engine, stations, ledger, folder
        self._destinations = {d.name: d for d in stations.settings.destinations}
        self._series = engine.queue("series", at_once=1)
        self._nets = {name: engine.queue(f"deliver-{name}", at_once=1) for name in self._destinations}
        self._run = engine.workflow("series", self._series_workflow)
        self._carry = engine.workflow("deliver", self._deliver_workflow)

    def enqueue(self, series_instance_uid: str, paths: Sequence[Path], called_ae_title: str) -> str:
        """Take on a complete series; the same instances again are the same job, which runs once.

        Returns
        -------
        The job's id.
        """
        digest = _digest(paths)
        job_id = f"{series_instance_uid}-{digest}"
        if self._ledger.has_ended(job_id):  # after a restart, every series in the spool comes again
            return job_id
        job = Job(
            job_id=job_id,
            series_instance_uid=series_instance_uid,
            called_ae_title=called_ae_title,
            paths=[str(path) for path in paths],
            folder=str(self._folder / series_instance_uid / digest),
        )
        if self._ledger.open_job(job_id, series_instance_uid, len(paths)):
            log.info("series_complete", series=series_instance_uid, instances=len(paths))
        self._engine.enqueue(self._series, job_id, self._run, job)
        return job_id

    def give_up_on_unknown_destinations(self) -> None:
        """End the deliveries to destinations that are no longer configured."""
        for job_id, delivery in self._ledger.open_deliveries():
            if delivery.destination not in self._destinations:
                reason = "this destination is no longer configured"
                self._ledger.deliver(job_id, replace(delivery, state=Sent.FAILED, detail=reason))
                log.warning("delivery_given_up", job=job_id, destination=delivery.destination, reason=reason)

    def _series_workflow(self, job: Job, attempt: int = 1) -> None:
        """Select and analyse, then deliver; when the disk does not play along, come back later."""
        with structlog.contextvars.bound_contextvars(series=job["series_instance_uid"]):
            made_at = self._engine.step("clock", _now)
            parcels = self._engine.step("analyse", self._work, job, made_at)
            if parcels is None:
                wait_s = min(FIRST_WAIT_S * 2.0 ** min(attempt - 1, 32), LONGEST_WAIT_S)
                again = f"{job['job_id']}-again-{attempt}"
                self._engine.enqueue_later(wait_s, self._series, again, self._run, job, attempt + 1)
                return
            for parcel in parcels:
                self._send_on(parcel, attempt=1)

    def _work(self, job: Job, made_at: str) -> list[Parcel] | None:
        """Do all that can be done here; what is to be sent, or None to come back later."""
        try:
            return self._select_and_analyse(job, datetime.fromisoformat(made_at))
        except (TransientError, OSError) as error:
            reason = str(error) if isinstance(error, TransientError) else str(error.strerror)
            log.warning("job_postponed", reason=reason)
            with suppress(TransientError):  # the book may be on the same disk
                self._ledger.update(job["job_id"], State.WAITING, detail=f"tried again later: {reason}")
            return None
        except Exception as error:
            log.exception("job_failed")
            known = isinstance(error, NodeError)
            reason = str(error) if known else f"error {type(error).__name__}, see the log"
            detail = f"no report could be made: {reason}"
            self._ledger.update(job["job_id"], State.UNDELIVERED, outcome=Outcome.FAILED, detail=detail)
            return []

    def _select_and_analyse(self, job: Job, made_at: datetime) -> list[Parcel]:
        selected = self._stations.select([Path(path) for path in job["paths"]], job["called_ae_title"])
        selection = selected.selection
        log.info("series_selected", outcome=selection.outcome, reason=selection.reason)
        pipeline = selection.pipeline
        self._ledger.update(
            job["job_id"],
            State.ANALYSING if pipeline else State.SKIPPED,
            detail=selection.reason,
            pipeline=pipeline.name if pipeline else None,
            trace=selection.trace,
        )
        if pipeline is None:
            return []
        folder = Path(job["folder"])
        earlier = self._ledger.earlier_result(job["job_id"])
        predecessor = read_result_set(earlier) if earlier else None
        worked = self._stations.work(selected, folder, made_at, predecessor)
        timings_s = {station: round(seconds, 3) for station, seconds in worked.timings_s.items()}
        log.info("series_analysed", outcome=worked.outcome, detail=worked.detail, timings_s=timings_s)
        parcels = _parcels(job["job_id"], worked, pipeline.destinations)
        self._ledger.update(
            job["job_id"],
            State.SENDING if parcels else State.DONE,
            outcome=worked.outcome,
            detail=worked.detail,
            folder=folder,
        )
        for parcel in parcels:
            self._ledger.deliver(job["job_id"], Delivery(parcel["destination"], Sent.PENDING, 0, ""))
        return parcels

    def _send_on(self, parcel: Parcel, attempt: int, wait_s: float = 0.0) -> None:
        name = parcel["destination"]
        if name not in self._nets:  # removed from the configuration since: told at start
            return
        workflow_id = f"{parcel['job_id']}-{name}-{attempt}"
        self._engine.enqueue_later(wait_s, self._nets[name], workflow_id, self._carry, parcel, attempt)

    def _deliver_workflow(self, parcel: Parcel, attempt: int) -> None:
        """Send; when the destination is not to be had, come back later as a new workflow."""
        with structlog.contextvars.bound_contextvars(job=parcel["job_id"], destination=parcel["destination"]):
            wait_s = self._engine.step("send", self._send, parcel, attempt)
            if wait_s is not None:
                self._send_on(parcel, attempt + 1, wait_s)

    def _send(self, parcel: Parcel, attempt: int) -> float | None:
        """Try once; the wait in seconds before the next try, or None when the delivery has ended."""
        name = parcel["destination"]
        destination = self._destinations[name]
        wait_s: float | None = None
        try:
            paths = [Path(path) for path in parcel["paths"]]
            older = [[Path(path) for path in others] for others in parcel["older"]]
            for _ in send_to(destination, paths, dict(zip(paths, older, strict=True))):
                pass
            delivery = Delivery(name, Sent.DONE, attempt, "")
            log.info("results_sent", attempt=attempt, objects=len(parcel["paths"]))
        except (DestinationUnavailable, OSError) as error:
            wait_s = wait_before_retry_s(destination, attempt)
            late = time.time() + wait_s > parcel["first_tried"] + destination.retry_for_hours * 3600
            wait_s = None if late else wait_s
            delivery = Delivery(name, Sent.FAILED if late else Sent.RETRYING, attempt, str(error))
            log.warning(
                "destination_unavailable",
                attempt=attempt,
                reason=str(error),
                retry_in_s=wait_s and round(wait_s, 1),
            )
        except NodeError as error:
            delivery = Delivery(name, Sent.FAILED, attempt, str(error))
            log.warning("delivery_refused", attempt=attempt, reason=str(error))
        except Exception as error:
            reason = f"error {type(error).__name__}, see the log"
            delivery = Delivery(name, Sent.FAILED, attempt, reason)
            log.exception("delivery_crashed", attempt=attempt)
        self._ledger.deliver(parcel["job_id"], delivery)
        return wait_s


def _parcels(job_id: str, worked: Worked, destinations: Sequence[str]) -> list[Parcel]:
    """Pack all result objects once for each destination."""
    objects = [o for results in worked.results for o in results.objects] if destinations else []
    older = [[str(path) for path in _in_older_classes(o)] for o in objects]
    paths = [str(o.path) for o in objects]
    now = time.time()
    return [
        Parcel(job_id=job_id, destination=name, paths=paths, older=older, first_tried=now)
        for name in destinations
    ]


def _in_older_classes(made: ResultObject) -> list[Path]:
    """Write a report for destinations that refuse its class."""
    if made.kind is not Kind.SR:
        return []
    return [make_older_report(made, sop_class_uid).path for sop_class_uid in OLDER_CLASSES]


def _digest(paths: Sequence[Path]) -> str:
    """Stand for the set of instances: the spool names files by SOP Instance UID."""
    names = "\n".join(sorted(path.name for path in paths))
    return hashlib.sha256(names.encode("ascii")).hexdigest()[:16]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
