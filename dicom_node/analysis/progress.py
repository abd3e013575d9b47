"""How far an analysis is: the networks tell after each batch, and whoever asked for the work may watch.

A watcher is called in the thread that works; it may also hold that thread up, to let other work go first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watcher = Callable[[int, int], None]
"""Gets how many slices a network has seen, and how many it is to see."""

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Let a watcher follow the analyses of this thread."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def tell(done: int, total: int) -> None:
    """Tell the watcher, if there is one."""
    if (watcher := _watcher.get()) is not None:
        watcher(done, total)
