"""The book against the workflows and the results: every difference is found and mended, and told.

=======================================================  ==============================================
difference                                               is mended so
=======================================================  ==============================================
the book is ahead: open, but no workflow is under way    a new ticket; the node takes it up as an order
(one ended in error, or the workflows are lost, or are   (files are made again with the same bytes,
of an older shape)                                       deliveries send the same files)
the workflow of a delivery ended as sent                 entered as sent
a workflow was given up: it was running each time that   failed, until an operator retries it
the process died
a result is on disk that the book does not know          entered again from its ``result.json``; what no
                                                         workflow says was sent, is sent
a delivery to a destination that is not configured       failed, until it is configured and retried
=======================================================  ==============================================

A series in the spool that the book does not know comes by itself: at start, completion tells
all of them again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import structlog
from pydicom import dcmread

from dicom_node.errors import Cancelled, DestinationUnknown, may_be_read_later
from dicom_node.results.files import result_object
from dicom_node.results.result_set import Kind, ResultObject
from dicom_node.settings import Settings
from dicom_node.workflow.engine import RECOVERIES, DurableEngine, Ended
from dicom_node.workflow.ledger import OPEN, Delivery, Entry, Ledger, Sent, State
from dicom_node.workflow.parcel import pack
from dicom_node.workflow.summary import FILE_NAME
from dicom_node.workflow.worked import Outcome

GIVEN_UP = f"given up: the node died {RECOVERIES} times while it worked on this"
GIVEN_UP_REMEDY = "look in the log for why the node died (memory, decoder), then retry"

log = structlog.get_logger()


class Repair:
    """Compares and mends.

    Parameters
    ----------
    folder : of the results
    """

    def __init__(self, engine: DurableEngine, ledger: Ledger, settings: Settings, folder: Path) -> None:
        self._engine, self._ledger, self._folder = engine, ledger, folder
        self._seen: set[str] = set()
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Mend by these pipelines and destinations from now on."""
        self._pipelines = {pipeline.name: pipeline for pipeline in settings.pipelines}
        self._destinations = {destination.name: destination for destination in settings.destinations}

    def at_start(self, *, at_once: bool = True) -> None:
        """Mend all.

        Parameters
        ----------
        at_once : nothing else works on the book but the workflows that were recovered; otherwise, other
            processes do, and what seems to be left behind may be just between book and workflow
        """
        self._enter_lost_results()
        self._give_up_on_unknown_destinations()
        if not at_once:
            self.while_running()
            return
        for entry, delivery in self._left_behind():
            with suppress(Cancelled):  # by an operator, since it was looked at
                self._mend(entry, delivery)

    def while_running(self) -> None:
        """Mend what was left behind twice in a row; once, it may just be between book and workflow."""
        behind = {(delivery or entry).ticket: (entry, delivery) for entry, delivery in self._left_behind()}
        for ticket in self._seen & behind.keys():
            with suppress(Cancelled):
                self._mend(*behind[ticket])
        self._seen = set(behind)

    def _left_behind(self) -> Iterator[tuple[Entry, Delivery | None]]:
        """Find jobs and deliveries that are open in the book while nobody works on them."""
        # Before the book is read: what ends in between has ended in the book too
        under_way = {workflow_id.split("/")[-2] for workflow_id in self._engine.under_way()}
        for entry in self._ledger.unfinished():
            if entry.ticket in under_way or entry.ordered:
                continue
            if entry.state is not State.SENDING or not any(d.state in OPEN for d in entry.deliveries):
                yield entry, None
                continue
            for delivery in entry.deliveries:
                if delivery.state in OPEN and delivery.ticket not in under_way and not delivery.ordered:
                    yield entry, delivery

    def _mend(self, entry: Entry, delivery: Delivery | None) -> None:
        job_id = entry.job_id
        if delivery is None:
            ended = self._engine.ended(f"{job_id}/{entry.ticket}/")
            if ended and ended[0] is Ended.GIVEN_UP:
                self._ledger.fail(job_id, GIVEN_UP, GIVEN_UP_REMEDY, entry.ticket)
                _tell(entry, delivery, GIVEN_UP)
            elif self._ledger.order_job(job_id, "begun anew: its work was lost", entry.ticket):
                _tell(entry, delivery, "begun anew")
            return
        ended = self._engine.ended(f"{job_id}/{delivery.destination}/{delivery.ticket}/")
        if ended == (Ended.WELL, Sent.DONE):
            self._ledger.deliver(job_id, replace(delivery, state=Sent.DONE, detail="", remedy=""))
            _tell(entry, delivery, "entered as sent")
        elif ended and ended[0] is Ended.GIVEN_UP:
            given_up = replace(delivery, state=Sent.FAILED, detail=GIVEN_UP, remedy=GIVEN_UP_REMEDY)
            self._ledger.deliver(job_id, given_up)
            _tell(entry, delivery, GIVEN_UP)
        elif self._ledger.order_delivery(
            job_id, delivery.destination, "begun anew: its work was lost", delivery.ticket
        ):
            _tell(entry, delivery, "begun anew")

    def _give_up_on_unknown_destinations(self) -> None:
        for entry in self._ledger.unfinished():
            for delivery in entry.deliveries:
                if delivery.state in OPEN and delivery.destination not in self._destinations:
                    why = "this destination is no longer configured"
                    failed = replace(
                        delivery, state=Sent.FAILED, detail=why, remedy=DestinationUnknown.remedy
                    )
                    with suppress(Cancelled):
                        self._ledger.deliver(entry.job_id, failed)
                        _tell(entry, delivery, why)

    def _enter_lost_results(self) -> None:
        there = sorted(self._folder.glob(f"*/*/{FILE_NAME}"))
        known = self._ledger.job_ids()  # after the files: another process may just have made one
        for path in there:
            series_instance_uid, name = path.parts[-3:-1]
            job_id = f"{series_instance_uid}-{name}"
            if job_id in known:
                continue
            try:
                summary = json.loads(path.read_text())
                self._enter(job_id, summary, path.parent)
            except Exception as error:  # not ours, of an earlier release, or damaged: the others are wanted
                if may_be_read_later(error):
                    raise
                log.warning("result_not_entered", job=job_id, error=type(error).__name__)

    def _enter(self, job_id: str, summary: dict[str, object], folder: Path) -> None:
        job, objects = summary["job"], summary["objects"]
        if not isinstance(job, dict) or not isinstance(objects, list):
            raise TypeError("result.json")
        made = [_object(Kind(each["kind"]), folder / each["file"]) for each in objects]
        pipeline = self._pipelines.get(str(summary["pipeline"]))
        destinations = [self._destinations[name] for name in pipeline.destinations] if pipeline else []
        parcels = pack(made, pipeline.outputs, destinations) if pipeline else {}
        uid = str(summary["series_instance_uid"])
        self._ledger.open_job(job_id, uid, int(job["instances"]), version=int(job["version"]))
        self._ledger.update(
            job_id,
            State.SENDING if parcels else State.DONE,
            outcome=Outcome(str(summary["outcome"])),
            detail=str(summary["detail"]),
            pipeline=pipeline.name if pipeline else None,
            folder=folder,
            parcels=parcels,
        )
        entry = self._ledger.entry(job_id)
        for delivery in entry.deliveries if entry else ():
            if self._engine.ended(f"{job_id}/{delivery.destination}/") == (Ended.WELL, Sent.DONE):
                self._ledger.deliver(job_id, replace(delivery, state=Sent.DONE))
        log.warning("book_repaired", job=job_id, done="entered again from its result")


def _object(kind: Kind, path: Path) -> ResultObject:
    return result_object(kind, dcmread(path, stop_before_pixels=True), path)


def _tell(entry: Entry, delivery: Delivery | None, done: str) -> None:
    destination = {"destination": delivery.destination} if delivery else {}
    log.warning("book_repaired", job=entry.job_id, done=done, **destination)
