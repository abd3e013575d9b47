"""Each process keeps its place, and takes over what one that is gone leaves behind.

It looks each second. A place that stays free for `GRACE_S` means that its process is gone, as one that
lost its session only has come back by then; its workflows go back into their queues, and a receiver
takes up what it had half received.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from dicom_node.errors import DatabaseUnavailable
from dicom_node.workflow.engine import SHAPE, DurableEngine
from dicom_node.workflow.lease import Executor, Lease
from dicom_node.workflow.roles import Role, Roles

EVERY_S = 1.0
GRACE_S = 3.0  # to come back after a lost session
REJOIN_S = 15.0  # after the database was away: a connection may take its time
REVIVE_EVERY_S = 15.0  # longer than a thread takes to start on a loaded machine
STOP_S = 5.0

log = structlog.get_logger()


class Watch:
    """Two threads of each process: one keeps its place, one looks after the others and its own workflows.

    The first asks the database only, at each second: what the workflow engine is asked waits for as long as
    the database is away, and then some.

    Parameters
    ----------
    roles : of this process
    on_receiver_gone : told, with its name and in its place, of a receiver that is no more
    """

    def __init__(
        self,
        lease: Lease,
        engine: DurableEngine,
        roles: Roles,
        on_receiver_gone: Callable[[str], None],
    ) -> None:
        self._lease, self._engine, self._roles = lease, engine, roles
        self._on_receiver_gone = on_receiver_gone
        self._gone_since: dict[str, float] = {}
        self._wary_until = 0.0
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, name="lease", daemon=True),
            threading.Thread(target=self._run, name="watch", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads, unless the database keeps them waiting; the place is kept until `Lease.leave`."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(STOP_S)

    def look(self) -> None:
        """Look once; takes over from those that were gone for long enough."""
        now = time.monotonic()
        try:
            if not self._lease.is_kept:
                raise DatabaseUnavailable("the lease is lost")  # noqa: TRY301
            alive, gone = self._lease.others()
        except DatabaseUnavailable:
            self._wary_until = time.monotonic() + REJOIN_S  # the others lost their sessions, too
            return
        self._gone_since = {each.name: self._gone_since.get(each.name, now) for each in gone}
        for each in gone:
            if now < max(self._wary_until, self._gone_since[each.name] + GRACE_S):
                continue
            if each.shape != SHAPE and any(other.shape == each.shape for other in alive):
                continue  # they know what to do with its work
            with self._lease.in_place_of(each) as is_ours:
                if is_ours:
                    self._take_over(each)

    def _take_over(self, other: Executor) -> None:
        count = self._engine.take_over(other.name)
        received = Role.RECEIVE in other.roles
        if received and Role.RECEIVE in self._roles:
            self._on_receiver_gone(other.name)
        elif received:
            if count:
                log.warning("taken_over", executor=other.name, workflows=count)
            return  # a receiver will do the rest, and strike it out
        self._lease.forget(other)
        log.warning("taken_over", executor=other.name, workflows=count, series=received)

    def _keep(self) -> None:
        while not self._stopping.wait(EVERY_S):
            try:
                self._lease.keep()
            except Exception as error:  # noqa: BLE001 - it comes again in a second
                log.error("watch_failed", error=type(error).__name__)  # noqa: TRY400 - as above

    def _run(self) -> None:
        revived_at = time.monotonic()
        while not self._stopping.wait(EVERY_S):
            try:
                self.look()
                if time.monotonic() - revived_at >= REVIVE_EVERY_S:
                    revived_at = time.monotonic()
                    self._engine.revive()
            except Exception as error:  # noqa: BLE001 - it comes again in a second
                log.error("watch_failed", error=type(error).__name__)  # noqa: TRY400 - as above
