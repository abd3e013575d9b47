"""What the node does beside the way: takes up operators' orders, follows the clock, mends the book."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import structlog

from dicom_node.errors import Cancelled, DestinationUnknown, is_transient, reason, remedy
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.intake import Intake
from dicom_node.workflow.lease import Lease
from dicom_node.workflow.ledger import Delivery, Entry, Ledger, Sent
from dicom_node.workflow.repair import Repair
from dicom_node.workflow.series_job import SeriesJob
from dicom_node.workflow.watch import GRACE_S

EVERY_S = 1.0  # how soon an order is taken up
REPAIR_EVERY_S = 60.0

log = structlog.get_logger()


class Upkeep:
    """A thread of the node.

    Parameters
    ----------
    lease : of several processes, the one that leads does this
    intake : begins ordered jobs
    """

    def __init__(
        self,
        engine: DurableEngine,
        ledger: Ledger,
        jobs: SeriesJob,
        repair: Repair,
        lease: Lease,
        intake: Intake,
    ) -> None:
        self._engine, self._ledger, self._jobs, self._repair = engine, ledger, jobs, repair
        self._intake = intake
        self._lease = lease
        self.beat_at = time.monotonic()  # when it last went round
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Mend the book, take up the orders that were given meanwhile, and go on so."""
        alive, _ = self._lease.others()
        if self._lease.leads:
            self._engine.drop_older()
            self._repair.at_start(at_once=not alive)
            self.take_orders()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def take_orders(self) -> None:
        """Start a workflow for each job and delivery that an operator, or a repair, ordered."""
        jobs, deliveries = self._ledger.ordered()
        for entry in jobs:
            with self._apart(entry, None):
                if self._intake.take_again(entry):
                    log.info("order_taken_up", job=entry.job_id)
                self._ledger.taken_up(entry.ticket)
        for entry, delivery in deliveries:
            with self._apart(entry, delivery):
                if self._jobs.carry(entry, delivery):
                    log.info("order_taken_up", job=entry.job_id, destination=delivery.destination)
                else:
                    why = "this destination is not configured"
                    self._fail(entry, delivery, why, DestinationUnknown.remedy)
                self._ledger.taken_up(delivery.ticket)

    @contextmanager
    def _apart(self, entry: Entry, delivery: Delivery | None) -> Iterator[None]:
        """Keep what is wrong with one order from the others, and give it up unless it may pass."""
        try:
            yield
        except Cancelled:
            pass  # while it was taken up: the book says so
        except Exception as error:
            log.exception("order_not_taken_up", job=entry.job_id)
            if not is_transient(error):
                with suppress(Cancelled):
                    self._fail(entry, delivery, f"not taken up: {reason(error)}", remedy(error))
                self._ledger.taken_up((delivery or entry).ticket)

    def _fail(self, entry: Entry, delivery: Delivery | None, why: str, what_to_do: str) -> None:
        if delivery is None:
            self._ledger.fail(entry.job_id, why, what_to_do, entry.ticket)
        else:
            given_up = replace(delivery, state=Sent.FAILED, detail=why, remedy=what_to_do)
            self._ledger.deliver(entry.job_id, given_up)

    def _run(self) -> None:
        due_at, shapes = time.monotonic() + REPAIR_EVERY_S, set(self._engine.shapes())
        while not self._stopping.wait(EVERY_S):
            self.beat_at = now = time.monotonic()
            before, shapes = shapes, set(self._engine.shapes())
            if before - shapes:  # no process of another release is left, unless it comes back
                due_at = min(due_at, now + GRACE_S)
            if not self._lease.leads:
                continue
            try:
                self._engine.follow_clock()
                self.take_orders()
                if now >= due_at:
                    due_at = now + REPAIR_EVERY_S
                    if self._engine.drop_older():
                        due_at = now + GRACE_S
                    self._repair.while_running()
            except Exception as error:  # noqa: BLE001 - a full disk must not end the upkeep
                log.error("upkeep_failed", error=type(error).__name__)  # noqa: TRY400 - once a second
