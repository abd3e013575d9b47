"""``dicom-node serve``, which tells when it takes up work and dies at a moment when it is told to.

``python -m tests.torture.node CONFIGURATION [MARK MOMENT NUMBER WITHIN_S]``, or forked from a process
that has imported everything, which takes a tenth of the time. Its processes that receive are those of
`receiver`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from dbos import DBOS

import dicom_node.node  # noqa: F401 - all modules, before a moment is armed in them
from dicom_node.cli import app
from dicom_node.receive import processes
from dicom_node.workflow.engine import DurableEngine
from tests.torture import receiver
from tests.torture.moments import arm, moment_named

log = structlog.get_logger()


def tell_of_recovery() -> None:
    """Log how much work was open at the start, and when its first step runs."""
    started, told = DurableEngine.start, threading.Event()

    def start(engine: DurableEngine) -> None:
        started(engine)
        found = DBOS.list_workflows(status=["PENDING", "ENQUEUED"], load_input=False, load_output=False)
        log.info("torture_open", workflows=len(found))

    def telling(run: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            if not told.is_set():
                told.set()
                log.info("torture_first_step", cpu_s=time.process_time())
            return run(*args, **kwargs)

        return step

    DurableEngine.start = start  # type: ignore[method-assign]
    DurableEngine.step = telling(DurableEngine.step)  # type: ignore[method-assign]
    DurableEngine.insist = telling(DurableEngine.insist)  # type: ignore[method-assign]


def serve(configuration: str, *when: str) -> None:
    """Run the node; it does not return."""
    tell_of_recovery()
    if when:
        mark, name, number, within_s = when
        moment = moment_named(name)
        if not moment.alone:
            arm(moment, int(number), float(within_s), Path(mark))
        if moment.is_of_receiving:
            processes.MODULE = receiver.__name__
            os.environ[receiver.WHEN] = "\n".join([*when, str(os.getpid())])
    app(["serve", "--config", configuration])


def _serve_forked(log: Path, environment: dict[str, str], arguments: tuple[str, ...]) -> None:
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.environ.update(environment)
    serve(*arguments)


class Forked:
    """A node as a process of its own, with the face of ``subprocess.Popen``."""

    def __init__(self, log: Path, environment: dict[str, str], *arguments: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._process = context.Process(target=_serve_forked, args=(log, environment, arguments), daemon=True)
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()


if __name__ == "__main__":
    serve(*sys.argv[1:])
