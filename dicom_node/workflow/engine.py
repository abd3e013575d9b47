"""Durable work: a thin port over DBOS Transact, so that it can be replaced.

Workflows survive ``kill -9``: after a restart they go on at the first step that had not ended.
A step may run again, so each must be idempotent. A workflow with an id that was used before
does not run a second time.

Several processes may share the workflows in PostgreSQL, each with an executor id and queues of its own
choice; :mod:`dicom_node.workflow.watch` sees to what one leaves behind.

In DBOS a wait ends at a time of the wall clock; `follow_clock` corrects it when that is set back.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog
from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, StepOptions, WorkflowStatus

from dicom_node.errors import is_transient
from dicom_node.workflow.database import Database

P = ParamSpec("P")
R = TypeVar("R")

RECOVERIES = 10  # of a workflow that was running when the process died; then it is left alone
POLLING_S = 0.25  # how soon a queued workflow starts; idle cost is about 2 % of a core
SHAPE = "2"  # of the workflows, not of the program: raised when their steps change, see series_job
INSISTENT_ATTEMPTS = 8  # of a step that must not fail, with 1, 2, 4 ... 64 s between them: 2 minutes
_BATCH = 200  # workflows are deleted in one transaction, which keeps the others waiting
CLOCK_STEP_S = 1.5  # the wall clock moved against the monotonic one by more: somebody set it

log = structlog.get_logger()


class Ended(StrEnum):
    """How a workflow ended that will not go on by itself."""

    WELL = "well"
    IN_ERROR = "in error"
    GIVEN_UP = "given up"  # it was running each time that the process died


_ENDED = {
    "SUCCESS": Ended.WELL,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": Ended.GIVEN_UP,
    "ERROR": Ended.IN_ERROR,
    "CANCELLED": Ended.IN_ERROR,
}


def _everything(_queue: str) -> bool:
    return True


class DurableEngine:
    """The one workflow engine of a process.

    Parameters
    ----------
    where : the SQLite file of the workflows, made when missing, or the database that holds them
    executor : what this process is called among those that share the database; at each start the same
    works_on : tells of a queue whether this process takes work from it
    """

    def __init__(
        self, where: Path | Database, executor: str = "node", works_on: Callable[[str], bool] = _everything
    ) -> None:
        self._database = where if isinstance(where, Database) else Database.in_file(where)
        self._executor, self._works_on = executor, works_on
        # Shapes whose work is gone on with: a process of another release may still run, see lease
        self.shapes: Callable[[], Collection[str]] = lambda: (SHAPE,)
        self._dbos = DBOS(
            config={
                "name": "dicom-node",
                "system_database_engine": self._database.engine,
                "application_version": SHAPE,
                "executor_id": executor,
                "run_migrations": True,
                # Nobody here waits for messages or events; and it may not be changed for a database
                "use_listen_notify": not self._database.is_shared,
            }
        )
        self._queues: dict[str, int] = {}
        self._is_launched = False
        self._active: set[str] = set()
        self._idle: set[str] = set()
        self._running = 0
        self._counting = threading.Lock()
        self._wall_ahead_s = _wall_ahead_s()

    def workflow(self, name: str, function: Callable[P, R]) -> Callable[P, R]:
        """Register a workflow under a name that outlives renamings in the code."""

        def run(*args: P.args, **kwargs: P.kwargs) -> R:  # DBOS marks functions, not bound methods
            workflow_id = DBOS.workflow_id or ""
            self._active.add(workflow_id)
            try:
                return function(*args, **kwargs)
            except Exception:
                log.exception("workflow_failed", workflow=name)
                raise
            finally:
                self._active.discard(workflow_id)

        return DBOS.workflow(name=name, max_recovery_attempts=RECOVERIES)(run)

    def queue(self, name: str, at_once: int) -> str:
        """Declare a queue that runs so many workflows at a time; returns its name."""
        if self._is_launched and name not in self._queues:
            listened_to = self._dbos._listening_queues
            if listened_to is not None and self._works_on(name):
                listened_to.append(name)
            DBOS.register_queue(name, worker_concurrency=at_once, polling_interval_sec=POLLING_S)
        self._queues[name] = at_once
        return name

    def start(self) -> None:
        """Take up unfinished workflows and begin to work."""
        mine = [name for name in self._queues if self._works_on(name)]
        if len(mine) < len(self._queues):
            DBOS.listen_queues(mine)
        DBOS.launch()
        for name, at_once in self._queues.items():
            DBOS.register_queue(name, worker_concurrency=at_once, polling_interval_sec=POLLING_S)
        self._is_launched = True

    @property
    def threads(self) -> list[str]:
        """Names of the threads that take work from the queues; a new queue's comes within a second."""
        if not self._is_launched:
            return []
        return [f"queue-worker-{name}" for name in self._queues if self._works_on(name)]

    def enqueue(
        self,
        queue: str,
        workflow_id: str,
        function: Callable[P, object],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Put a workflow on a queue; nothing happens when its id was used before."""
        with SetWorkflowID(workflow_id):
            DBOS.enqueue_workflow(queue, function, *args, **kwargs)

    def enqueue_at(
        self,
        priority: int,
        delay_s: float,
        queue: str,
        workflow_id: str,
        function: Callable[P, object],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Put a workflow on a queue: before those of a larger priority, and after a delay, if any.

        Waiting costs nothing.
        """
        with SetEnqueueOptions(priority=priority, delay_seconds=delay_s or None):
            self.enqueue(queue, workflow_id, function, *args, **kwargs)

    def step(self, name: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a step of the workflow that calls; its outcome is kept, so that it does not run again."""
        with self._counted():
            return DBOS.run_step({"name": name}, function, *args, **kwargs)

    def insist(self, name: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a step again and again while it meets transient errors, for about two minutes."""
        options: StepOptions = {
            "name": name,
            "retries_allowed": True,
            "max_attempts": INSISTENT_ATTEMPTS,
            "should_retry": is_transient,
        }
        with self._counted():
            return DBOS.run_step(options, function, *args, **kwargs)

    def under_way(self) -> set[str]:
        """Return the ids of the workflows that wait or run, of a shape that is gone on with."""
        return {
            workflow.workflow_id for workflow in self._unfinished() if workflow.app_version in self.shapes()
        }

    def drop_older(self) -> int:
        """Cancel the workflows of a shape that is not gone on with; repair finds what they left behind."""
        shapes = self.shapes()
        ids = [workflow.workflow_id for workflow in self._unfinished() if workflow.app_version not in shapes]
        for start in range(0, len(ids), _BATCH):
            DBOS.cancel_workflows(ids[start : start + _BATCH])
        if ids:
            log.warning("older_workflows_dropped", count=len(ids), shape=SHAPE)
        return len(ids)

    def _unfinished(self) -> list[WorkflowStatus]:
        states = ["ENQUEUED", "DELAYED", "PENDING"]
        return DBOS.list_workflows(status=states, load_input=False, load_output=False)

    def take_over(self, executor: str) -> int:
        """Queue anew what an executor was running that is no more; returns how many workflows.

        Nobody else may do so at that time, and it may not come back: its lease is to be held.
        """
        # Not resume_workflows: that forgets how often a workflow was recovered, and a series that kills
        # its process would kill one after the other
        return len(DBOS._recover_pending_workflows([executor]))

    def revive(self) -> int:
        """Queue anew what this process is to run by the database, but does not; returns how many workflows.

        As when the database went away between the taking of a workflow and its start. To be called
        now and then: only what was so at the last call, too, is meant.
        """
        found = DBOS.list_workflows(
            status="PENDING",
            executor_id=self._executor,
            app_version=SHAPE,
            load_input=False,
            load_output=False,
        )
        idle = {w.workflow_id: w.queue_name for w in found if w.workflow_id not in self._active}
        again = defaultdict(list)
        for workflow_id in self._idle & idle.keys():
            again[idle.pop(workflow_id)].append(workflow_id)
        self._idle = set(idle)
        for queue, ids in again.items():
            DBOS.resume_workflows(ids, queue_name=queue)
            log.warning("workflows_revived", queue=queue, count=len(ids))
        return sum(map(len, again.values()))

    def ended(self, prefix: str) -> tuple[Ended, object] | None:
        """How the latest workflow whose id begins so ended, and what it returned; None without one."""
        found = DBOS.list_workflows(workflow_id_prefix=prefix, load_input=False)
        ended = [workflow for workflow in found if workflow.status in _ENDED]
        if not ended:
            return None
        latest = max(ended, key=lambda w: w.created_at or 0)
        return _ENDED[latest.status], latest.output

    def forget_ended(self, before: datetime) -> int:
        """Delete the workflows that had ended by then; the book tells what became of their work."""
        found = DBOS.list_workflows(
            status=list(_ENDED), completed_before=before.isoformat(), load_input=False, load_output=False
        )
        ids = [workflow.workflow_id for workflow in found]
        for start in range(0, len(ids), _BATCH):
            DBOS.delete_workflows(ids[start : start + _BATCH])
        return len(ids)

    def follow_clock(self) -> None:
        """Move what waits back with the wall clock, so that no wait gets longer; early does no harm."""
        wall_ahead_s = _wall_ahead_s()
        moved_s = wall_ahead_s - self._wall_ahead_s
        if abs(moved_s) < CLOCK_STEP_S:
            return
        self._wall_ahead_s = wall_ahead_s
        log.warning("clock_set", moved_s=round(moved_s, 1))
        for waiting in DBOS.list_workflows(status="DELAYED", load_input=False):
            if moved_s < 0 and waiting.delay_until_epoch_ms is not None:
                until_ms = waiting.delay_until_epoch_ms + round(moved_s * 1000)
                DBOS.set_workflow_delay(waiting.workflow_id, delay_until_epoch_ms=max(0, until_ms))

    @property
    def is_working(self) -> bool:
        """Whether a step still runs, even after ``stop``."""
        return self._running > 0

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._counting:
            self._running += 1
        try:
            yield
        finally:
            with self._counting:
                self._running -= 1

    def stop(self, timeout_s: float) -> None:
        """Let running steps end, within the limit, and stop."""
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=int(timeout_s))
        self._database.close()


def _wall_ahead_s() -> float:
    return time.time() - time.monotonic()
