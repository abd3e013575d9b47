"""Whether the process works, and whether it can be given work.

*Health* is about this process: its threads live and do what they are there for. A process that is not
healthy is to be restarted. *Readiness* is about its work: a node whose disk is full is healthy, but not
ready, and restarting it mends nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog

from dicom_node.errors import reason

PROVE_EVERY_S = 5.0
# A database that is locked holds a proof up for half a minute
STALE_S = 40.0

log = structlog.get_logger()

Check = Callable[[], str]
"""Says what is wrong, without patient data; the empty text when nothing is."""


@dataclass(frozen=True, slots=True)
class Report:
    """What each check said; the empty text when nothing is wrong."""

    checks: Mapping[str, str]

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.checks.values())


class Checks:
    """Checks by name, made anew each time."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)

    def report(self) -> Report:
        """Make each check; one that raises is not passed."""
        return Report({name: _say(check) for name, check in self._checks.items()})


def threads_live(
    names: Callable[[], Iterable[str]], grace_s: float = 10.0, clock: Callable[[], float] = time.monotonic
) -> Check:
    """Check that threads of these names live.

    Parameters
    ----------
    grace_s : a thread may be missing for so long: one that begins, or that its owner begins anew
    """
    missing: dict[str, float] = {}

    def check() -> str:
        alive, now, wanted = {thread.name for thread in threading.enumerate()}, clock(), list(names())
        for name in list(missing):
            if name in alive or name not in wanted:
                missing.pop(name, None)
        for name in wanted:
            if name not in alive:
                missing.setdefault(name, now)
        dead = sorted(name for name, since in missing.items() if now - since >= grace_s)
        return f"threads that ended: {', '.join(dead)}" if dead else ""

    return check


def beats(last: Callable[[], float], longest_s: float, clock: Callable[[], float] = time.monotonic) -> Check:
    """Check that something was heard lately.

    Parameters
    ----------
    last : when it was, on the clock
    """

    def check() -> str:
        silent_s = clock() - last()
        return f"nothing heard of it for {silent_s:.0f} s" if silent_s > longest_s else ""

    return check


class Proof:
    """A check that may block, made again and again in a thread of its own, so that asking never blocks.

    Parameters
    ----------
    prove : raises when it fails
    """

    def __init__(
        self,
        name: str,
        prove: Callable[[], object],
        every_s: float = PROVE_EVERY_S,
        stale_s: float = STALE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._prove, self._every_s, self._stale_s = name, prove, every_s, stale_s
        self._clock = clock
        self._said = "not looked at yet"
        self._said_at = clock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"proof-{name}", daemon=True)

    def start(self) -> None:
        """Prove once, then go on in the thread."""
        self._once()
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the proof that runs, which is not waited for."""
        self._stopping.set()

    def __call__(self) -> str:
        """Say what the last proof said; a proof that hangs has failed."""
        silent_s = self._clock() - self._said_at
        return f"no answer for {silent_s:.0f} s" if silent_s > self._stale_s else self._said

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._once()

    def _once(self) -> None:
        try:
            self._prove()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not passed
            said = reason(error)
        else:
            said = ""
        if said != self._said and said:
            log.warning("proof_failed", of=self._name, reason=said)
        self._said, self._said_at = said, self._clock()


def _say(check: Check) -> str:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not passed
        return reason(error)
