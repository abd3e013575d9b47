"""``dicom-node serve``, which tells when it takes up work and dies at a moment when it is told to.

``python -m tests.torture.node CONFIGURATION [MARK MOMENT NUMBER WITHIN_S]``
"""

from __future__ import annotations

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
from dicom_node.workflow.engine import DurableEngine
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


if __name__ == "__main__":
    configuration, *when = sys.argv[1:]
    tell_of_recovery()
    if when:
        mark, name, number, within_s = when
        arm(moment_named(name), int(number), float(within_s), Path(mark))
    app(["serve", "--config", configuration])
