"""Moments at which a node is to die, and how they are met within its processes.

A moment is a call of one function: of the program, or of the system for one kind of file. System calls
are preferred, as they stay what they are when the program is written anew. A node has processes that
receive for it: it dies at a moment in one of them, or only that one does.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Moment:
    """A call at which the process ends.

    Attributes
    ----------
    name : in words
    calls : the functions, as ``module:name`` or ``module:Class.name``
    when : before the call, after it, or some milliseconds within
    of : what the path of the file must be like that the call is about; empty: any call
    most : it is one of the first so many calls
    within_ms : the longest time within the call
    alone : only a process that receives dies, not the node
    """

    name: str
    calls: tuple[str, ...]
    when: Literal["before", "after", "within"]
    of: str = ""
    most: int = 1
    within_ms: float = 40.0
    alone: bool = False

    @property
    def is_of_receiving(self) -> bool:
        """Whether it may be met in a process that receives."""
        return self.of == _SPOOLED


_SPOOLED = "*/incoming/*.part"
_FLUSH, _WRITE = ("os:fdatasync", "os:fsync"), ("os:write", "os:writev", "os:pwrite")
_JOB, _STATIONS = "dicom_node.workflow.series_job:SeriesJob", "dicom_node.workflow.stations"
_SEND = ("pynetdicom.association:Association.send_c_store",)
_COMMITMENTS = "dicom_node.workflow.commitments"

MOMENTS = (
    Moment("during C-STORE", _WRITE, "before", _SPOOLED, most=15),
    Moment("image whole, not flushed", _FLUSH, "before", _SPOOLED, most=8),
    Moment("image flushed, not named", _FLUSH, "after", _SPOOLED, most=8),
    Moment("image named, part not removed", ("os:link",), "after", _SPOOLED, most=8),
    Moment("image named, not acknowledged", ("os:rename", "os:unlink"), "after", _SPOOLED, most=8),
    Moment("receiver alone, image not named", _FLUSH, "after", _SPOOLED, most=8, alone=True),
    Moment("receiver alone, image not told", ("os:unlink",), "after", _SPOOLED, most=8, alone=True),
    Moment("before the series is in the book", (f"{_JOB}.enqueue",), "before", most=2),
    Moment("in the book, before its workflow", (f"{_JOB}.begin",), "before", most=2),
    Moment("workflow enqueued", (f"{_JOB}.begin",), "after", most=2),
    Moment("in inference", (f"{_STATIONS}:analyse",), "within", most=2),
    Moment("while the SEG is written", ("os:fsync",), "within", "*seg.dcm.part", within_ms=5),
    Moment("SEG named, report not", ("os:replace",), "after", "*seg.dcm.part"),
    Moment("objects named, summary not", ("os:replace",), "before", "*result.json.part"),
    Moment("analysed, the book not told", (f"{_JOB}._tell",), "before"),
    Moment("told, deliveries not enqueued", (f"{_JOB}._errands",), "before"),
    Moment("during a send", _SEND, "within", most=4, within_ms=30),
    Moment("between two sends", _SEND, "after", most=4),
    Moment("sent, the book not told", (f"{_JOB}._tell_of",), "before", most=2),
    Moment("commitment kept, not asked", ("dicom_node.workflow.transactions:Transactions.open",), "after"),
    Moment("commitment asked", (f"{_COMMITMENTS}:ask",), "after"),
    Moment("report of commitment not taken", (f"{_COMMITMENTS}:Commitments.take",), "before"),
    Moment("report of commitment taken", (f"{_COMMITMENTS}:Commitments.take",), "after"),
    Moment("in recovery", ("dicom_node.workflow.engine:DurableEngine.start",), "within", within_ms=600),
    Moment("recovered, not listening", ("dicom_node.receive.completion:Completion.restore",), "after"),
)


def moment_named(name: str) -> Moment:
    return next(moment for moment in MOMENTS if moment.name == name)


def arm(moment: Moment, number: int, within_s: float, mark: Path, node: int | None = None) -> None:
    """Let this process die at a call of the moment's functions, the ``number``-th one that counts.

    Parameters
    ----------
    mark : an empty file is made there just before
    node : process that dies first, if it is another
    """
    meets = _Meets(number)

    def die() -> None:
        os.close(os.open(mark, os.O_CREAT))
        if node is not None:
            os.kill(node, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def die_soon() -> None:
        time.sleep(within_s)
        die()

    for call in moment.calls:
        holder, name = target_of(call)
        setattr(holder, name, _wrapped(getattr(holder, name), moment, meets, die, die_soon))


class _Meets:
    """Counts calls, from any thread; true for the one that matters."""

    def __init__(self, number: int) -> None:
        self._left, self._counting = number, threading.Lock()

    def __call__(self) -> bool:
        with self._counting:
            self._left -= 1
            return self._left == 0


def _wrapped(
    function: Callable[..., Any],
    moment: Moment,
    meets: Callable[[], bool],
    die: Callable[[], None],
    die_soon: Callable[[], None],
) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        is_now = (not moment.of or _is_about(args, moment.of)) and meets()
        if is_now and moment.when == "before":
            die()
        if is_now and moment.when == "within":
            threading.Thread(target=die_soon, daemon=True).start()
        result = function(*args, **kwargs)
        if is_now and moment.when == "after":
            die()
        return result

    return call


def _is_about(args: Sequence[Any], pattern: str) -> bool:
    """Whether the first argument, a path or a descriptor, is a file with such a name."""
    try:
        file = Path(f"/proc/self/fd/{args[0]}").readlink() if isinstance(args[0], int) else Path(args[0])
    except OSError:
        return False
    return fnmatch(str(file), pattern)


def target_of(call: str) -> tuple[Any, str]:
    """Where a function is that can be replaced, and its name there."""
    module, _, path = call.partition(":")
    *parents, name = path.split(".")
    holder = import_module(module)
    for parent in parents:
        holder = getattr(holder, parent)
    return holder, name
