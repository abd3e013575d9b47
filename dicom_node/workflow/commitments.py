"""From stored to committed: the request, the wait for the report, and what follows from it.

=================================  ====================================================================
the archive                        what is done
=================================  ====================================================================
reports that it keeps all          the delivery is committed
reports that it lacks some         those are sent again and asked about again
reports nothing                    after ``commitment_timeout_s`` it is asked again, with a new
                                   transaction UID; a late report is still taken
cannot be asked for now            as for any delivery that meets a transient error
offers no commitment, refuses, or  ``wanted``: sent, with a note; ``required``: failed
was asked ``commitment_attempts``
times
=================================  ====================================================================

A crash between the request and its record repeats the request under another transaction UID; both
are known.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog
from pydicom.uid import generate_uid

from dicom_node import events
from dicom_node.deliver.commitment import EVENT_TYPES, NOT_NAMED, PUSH_MODEL, REASONS, ask, read_report
from dicom_node.deliver.destination import peer_of, send_to
from dicom_node.errors import Cancelled, NodeError, is_transient, reason, remedy
from dicom_node.receive.event_report import EventReport
from dicom_node.receive.status import EventStatus
from dicom_node.settings import AnyDestination, Destination
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.ledger import Delivery, Ledger, Sent
from dicom_node.workflow.retry import Policy
from dicom_node.workflow.transactions import Kept, Request, Transactions

REMEDY = "look in the archive's log why it does not commit itself, then retry"

log = structlog.get_logger()


@dataclass(frozen=True)
class Asked:
    """What came of an attempt to ask.

    Attributes
    ----------
    transaction_uid : that a report is awaited on; None when there was no need, or no success
    age_s : of the attempts
    wait_s : for the report, or before the next attempt; None when there is none
    """

    transaction_uid: str | None
    age_s: float
    wait_s: float | None = None


@dataclass(frozen=True)
class Again:
    """What is to be asked next, and the wait before."""

    request: Request
    wait_s: float = 0.0


class Commitments:
    """The workflows of storage commitment.

    Parameters
    ----------
    engine : not started yet: workflows are registered here
    tell : gets what destinations commit themselves to
    """

    def __init__(
        self,
        engine: DurableEngine,
        ledger: Ledger,
        transactions: Transactions,
        destinations: Iterable[AnyDestination],
        tell: events.Tell = events.nobody,
    ) -> None:
        self._engine, self._ledger, self._transactions = engine, ledger, transactions
        self._tell_all = tell
        # Reports need no network, so that a destination that hangs does not hold them up
        self._queue = engine.queue("commitment", at_once=1)
        self.use(destinations)
        self._ask = engine.workflow("commitment-ask", self._ask_workflow)
        self._settle = engine.workflow("commitment-report", self._report_workflow)
        self._expire = engine.workflow("commitment-deadline", self._deadline_workflow)

    def use(self, destinations: Iterable[AnyDestination]) -> None:
        """Ask these destinations from now on."""
        asked = {d.name: d for d in destinations if isinstance(d, Destination) and d.commitment != "off"}
        self._nets = {name: self._engine.queue(f"deliver-{name}", at_once=1) for name in asked}
        self._destinations = asked

    def state_of_sent(self, destination: str) -> Sent:
        """Where a delivery is once all is stored."""
        return Sent.ASKED if destination in self._destinations else Sent.DONE

    def begin(
        self, job_id: str, destination: str, ticket: str, priority: int, objects: Sequence[Kept]
    ) -> None:
        """Ask for what a destination has stored; nothing happens when that was begun before."""
        request = Request(
            job_id=job_id,
            destination=destination,
            ticket=ticket,
            priority=priority,
            objects=list(objects),
            number=1,
            resend=False,
        )
        self._enqueue_ask(request)

    def take(self, report: EventReport) -> EventStatus:
        """Take a report on any association; it is durable when Success is returned."""
        if report.sop_class_uid != PUSH_MODEL:
            return EventStatus.NO_SUCH_SOP_CLASS
        if report.event_type not in EVENT_TYPES:
            return EventStatus.NO_SUCH_EVENT_TYPE
        who = report.calling_ae_title
        try:
            said = read_report(report)
        except ValueError as error:
            log.warning("commitment_report_unreadable", calling_ae_title=who, reason=str(error))
            return EventStatus.PROCESSING_FAILURE
        try:
            request = self._transactions.find(said.transaction_uid)
            if request is None:
                log.warning("commitment_report_unknown", calling_ae_title=who)
                return EventStatus.INVALID_ARGUMENT_VALUE
            # A second report would be the same workflow, which does not run again
            workflow_id = _id(request, f"report-{said.transaction_uid}")
            arguments = (said.transaction_uid, request, sorted(said.committed), dict(said.failed))
            self._engine.enqueue_at(
                request["priority"], 0.0, self._queue, workflow_id, self._settle, *arguments
            )
        except Exception:
            log.exception("commitment_report_not_kept", calling_ae_title=who)
            return EventStatus.PROCESSING_FAILURE
        log.info(
            "commitment_reported",
            job=request["job_id"],
            destination=request["destination"],
            committed=len(said.committed),
            failed=len(said.failed),
        )
        return EventStatus.SUCCESS

    def _enqueue_ask(
        self, request: Request, attempt: int = 1, age_s: float = 0.0, wait_s: float = 0.0
    ) -> None:
        name = request["destination"]
        if name not in self._nets:  # the settings changed: repair finds what is left behind
            return
        workflow_id = _id(request, f"ask-{request['number']}-{attempt}")
        arguments = (request, attempt, age_s)
        self._engine.enqueue_at(
            request["priority"], wait_s, self._nets[name], workflow_id, self._ask, *arguments
        )

    def _ask_workflow(self, request: Request, attempt: int, age_s: float) -> str:
        with _about(request):
            asked = self._engine.step("ask", self._try_to_ask, request, attempt, age_s)
            if asked.wait_s is None:
                return "ended"
            if asked.transaction_uid is None:
                self._enqueue_ask(request, attempt + 1, asked.age_s + asked.wait_s, asked.wait_s)
                return "later"
            workflow_id = _id(request, f"deadline-{asked.transaction_uid}")
            arguments = (asked.transaction_uid, request)
            self._engine.enqueue_at(
                request["priority"], asked.wait_s, self._queue, workflow_id, self._expire, *arguments
            )
            return "asked"

    def _try_to_ask(self, request: Request, attempt: int, age_s: float) -> Asked:
        """Send what is lacking, and ask once."""
        standing = self._standing(request)
        if standing is None or standing.state is not Sent.ASKED:
            return Asked(None, age_s)
        destination = self._destinations.get(request["destination"])
        if destination is None:
            self._give_up(request, standing, "the settings no longer ask for it", "")
            return Asked(None, age_s)
        start = time.monotonic()
        try:
            if request["resend"]:
                for _ in send_to(destination, [Path(kept["path"]) for kept in request["objects"]], {}):
                    pass
            references = [(kept["sop_class_uid"], kept["sop_instance_uid"]) for kept in request["objects"]]
            transaction_uid = ask(
                peer_of(destination),
                partial(self._open, request),
                references,
                self.take,
                destination.commitment_hold_s,
            )
        except Cancelled as error:
            log.warning("commitment_not_asked", attempt=attempt, reason=str(error))
            return Asked(None, age_s)
        except Exception as error:
            age_s += time.monotonic() - start
            wait_s = Policy.of(destination).wait_s(attempt, age_s) if is_transient(error) else None
            log.warning(
                "commitment_not_asked",
                attempt=attempt,
                reason=reason(error),
                retry_in_s=None if wait_s is None else round(wait_s, 1),
                exc_info=not isinstance(error, NodeError | OSError),
            )
            if wait_s is None:
                self._give_up(request, standing, reason(error), remedy(error))
            else:
                self._tell(request, replace(standing, detail=f"cannot be asked: {reason(error)}"))
            return Asked(None, age_s, wait_s)
        log.info("commitment_asked", number=request["number"], objects=len(request["objects"]))
        return Asked(transaction_uid, age_s, destination.commitment_timeout_s)

    def _open(self, request: Request) -> str:
        standing = self._standing(request)
        if standing is None or standing.state is not Sent.ASKED:
            raise Cancelled("cancelled while it was sent again or the archive was called")
        # Nobody can guess it: it is all that a report has to show
        transaction_uid = str(generate_uid(prefix=None))
        self._transactions.open(transaction_uid, request)
        return transaction_uid

    def _report_workflow(
        self, transaction_uid: str, request: Request, committed: list[str], failed: dict[str, int]
    ) -> str:
        with _about(request):
            again = self._engine.insist(
                "settle", self._try_to_settle, transaction_uid, request, committed, failed
            )
            if again is None:
                return "settled"
            self._enqueue_ask(again.request, wait_s=again.wait_s)
            return "again"

    def _try_to_settle(
        self, transaction_uid: str, request: Request, committed: list[str], failed: dict[str, int]
    ) -> Again | None:
        """Enter what a report means; what is to be sent and asked about again, if anything."""
        lacking = [kept for kept in request["objects"] if kept["sop_instance_uid"] not in committed]
        self._transactions.note_report(transaction_uid, lacking=bool(lacking))
        standing = self._standing(request)
        if standing is None:
            log.warning("commitment_report_too_late", reason="the delivery was begun anew")
            return None
        if not lacking:
            if self._transactions.is_outdated(request):
                log.warning("commitment_report_too_late", reason="objects were found lacking since")
            elif standing.state is not Sent.COMMITTED:
                self._tell(request, replace(standing, state=Sent.COMMITTED, detail="", remedy=""))
                log.info("committed", objects=len(request["objects"]))
                self._tell_all(events.Committed(request["job_id"], request["destination"]))
            return None
        why = _reasons(lacking, failed)
        log.warning("commitment_failed", objects=len(lacking), reason=why)
        if standing.state is not Sent.ASKED or not self._transactions.is_latest(request):
            return None  # it has ended, or a later request is under way: that is answered for itself
        return self._ask_again(request, standing, why, lacking, resend=True)

    def _deadline_workflow(self, transaction_uid: str, request: Request) -> str:
        with _about(request):
            again = self._engine.insist("expire", self._try_to_expire, transaction_uid, request)
            if again is None:
                return "ended"
            self._enqueue_ask(again.request)
            return "again"

    def _try_to_expire(self, transaction_uid: str, request: Request) -> Again | None:
        standing = self._standing(request)
        if standing is None or standing.state is not Sent.ASKED:
            return None
        if not self._transactions.awaits_report(transaction_uid, request):
            return None
        log.warning("commitment_overdue", number=request["number"])
        why = "no report came" if request["number"] == 1 else f"no report on request {request['number']} came"
        return self._ask_again(request, standing, why, request["objects"], resend=False)

    def _ask_again(
        self, request: Request, standing: Delivery, why: str, objects: list[Kept], *, resend: bool
    ) -> Again | None:
        destination = self._destinations.get(request["destination"])
        if destination is None or request["number"] >= destination.commitment_attempts:
            self._give_up(request, standing, why, REMEDY)
            return None
        self._tell(request, replace(standing, detail=f"{why}; asked again"))
        number = request["number"] + 1
        # At once where only the report is missing; after a refusal the archive may need time
        wait_s = Policy.of(destination).wait_s(request["number"], 0.0) if resend else None
        return Again({**request, "objects": objects, "number": number, "resend": resend}, wait_s or 0.0)

    def _give_up(self, request: Request, standing: Delivery, why: str, what_to_do: str) -> None:
        destination = self._destinations.get(request["destination"])
        required = destination is not None and destination.commitment == "required"
        state = Sent.FAILED if required else Sent.DONE
        detail = f"not committed: {why}"
        given_up = replace(standing, state=state, detail=detail, remedy=what_to_do if required else "")
        if not self._tell(request, given_up):
            return
        log.warning("commitment_given_up", required=required, reason=why)
        gone = events.DeliveryFailed(
            request["job_id"], request["destination"], events.NOT_COMMITTED, required
        )
        self._tell_all(gone)

    def _standing(self, request: Request) -> Delivery | None:
        """How the book shows the delivery; None when it was begun anew."""
        entry = self._ledger.entry(request["job_id"])
        for delivery in entry.deliveries if entry else ():
            if (delivery.destination, delivery.ticket) == (request["destination"], request["ticket"]):
                return delivery
        return None

    def _tell(self, request: Request, delivery: Delivery) -> bool:
        """Tell the book; False when nobody wants to know: it was cancelled, or a report came meanwhile."""
        with suppress(Cancelled):
            self._ledger.deliver(request["job_id"], delivery)
            return True
        return False


def _about(request: Request) -> AbstractContextManager[None]:
    return structlog.contextvars.bound_contextvars(job=request["job_id"], destination=request["destination"])


def _id(request: Request, what: str) -> str:
    return f"{request['job_id']}/{request['destination']}/{request['ticket']}/{what}"


def _reasons(lacking: Sequence[Kept], failed: dict[str, int]) -> str:
    codes = sorted({failed.get(kept["sop_instance_uid"], NOT_NAMED) for kept in lacking})
    named = ", ".join(f"{REASONS.get(code, 'unknown reason')} ({code:04X}H)" for code in codes if code)
    objects = "1 object" if len(lacking) == 1 else f"{len(lacking)} objects"
    return f"it does not answer for {objects}: {named or 'no reason given'}"
