"""Durable work: a thin port over DBOS Transact, so that it can be replaced.

Workflows survive ``kill -9``: after a restart they go on at the first step that had not ended.
A step may run again, so each must be idempotent. A workflow with an id that was used before
does not run a second time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

from dicom_node.workflow.database import open_sqlite

P = ParamSpec("P")
R = TypeVar("R")

RECOVERIES = 10  # of a workflow that was running when the process died; then it is left alone
POLLING_S = 0.25  # how soon a queued workflow starts; idle cost is about 2 % of a core


class DurableEngine:
    """The one workflow engine of a process.

    Parameters
    ----------
    database : the SQLite file of the workflows; made when missing
    """

    def __init__(self, database: Path) -> None:
        self._sqlite = open_sqlite(database)
        DBOS(
            config={
                "name": "dicom-node",
                "system_database_engine": self._sqlite,
                "application_version": "1",  # of the workflows' shape, not of the program: see series_job
                "executor_id": "node",
                "run_migrations": True,
            }
        )
        self._queues: dict[str, int] = {}
        self._running = 0
        self._counting = threading.Lock()

    def workflow(self, name: str, function: Callable[P, None]) -> Callable[P, None]:
        """Register a workflow under a name that outlives renamings in the code."""

        def run(*args: P.args, **kwargs: P.kwargs) -> None:  # DBOS marks functions, not bound methods
            function(*args, **kwargs)

        return DBOS.workflow(name=name, max_recovery_attempts=RECOVERIES)(run)

    def queue(self, name: str, at_once: int) -> str:
        """Declare a queue that runs so many workflows at a time; returns its name."""
        self._queues[name] = at_once
        return name

    def start(self) -> None:
        """Take up unfinished workflows and begin to work."""
        DBOS.launch()
        for name, at_once in self._queues.items():
            DBOS.register_queue(name, worker_concurrency=at_once, polling_interval_sec=POLLING_S)

    def enqueue(
        self,
        queue: str,
        workflow_id: str,
        function: Callable[P, None],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Put a workflow on a queue; nothing happens when its id was used before."""
        with SetWorkflowID(workflow_id):
            DBOS.enqueue_workflow(queue, function, *args, **kwargs)

    def enqueue_later(
        self,
        delay_s: float,
        queue: str,
        workflow_id: str,
        function: Callable[P, None],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Put a workflow on a queue that starts after a delay, if any; waiting costs nothing."""
        with SetEnqueueOptions(delay_seconds=delay_s or None):
            self.enqueue(queue, workflow_id, function, *args, **kwargs)

    def step(self, name: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a step of the workflow that calls; its outcome is kept, so that it does not run again."""
        with self._counting:
            self._running += 1
        try:
            return DBOS.run_step({"name": name}, function, *args, **kwargs)
        finally:
            with self._counting:
                self._running -= 1

    @property
    def is_working(self) -> bool:
        """Whether a step still runs, even after ``stop``."""
        return self._running > 0

    def stop(self, timeout_s: float) -> None:
        """Let running steps end, within the limit, and stop."""
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=int(timeout_s))
        self._sqlite.dispose()
