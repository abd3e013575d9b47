"""How far the analyses of this process are, for whoever shows it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dicom_node.analysis.progress import watched


@dataclass(frozen=True, slots=True)
class Stage:
    """Where an analysis is.

    Attributes
    ----------
    doing : in a word
    done, total : slices; both 0 while there is nothing to count
    """

    doing: str
    done: int = 0
    total: int = 0


class Progress:
    """The analyses that run, by job."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}
        self._changed = threading.Condition()

    def of(self, job_id: str) -> Stage | None:
        """Where an analysis is; None when it does not run here."""
        with self._changed:
            return self._stages.get(job_id)

    @contextmanager
    def following(self, job_id: str) -> Iterator[None]:
        """Follow the analysis of a job in this thread."""

        def follow(done: int, total: int) -> None:
            with self._changed:
                before = self._stages[job_id]
                # the detector comes first; the counting begins anew with the segmenter
                outlines = before.doing == "outlining" or done <= before.done
                self._stages[job_id] = Stage("outlining" if outlines else "detecting", done, total)

        with self._changed:
            self._stages[job_id] = Stage("reading")
        try:
            with watched(follow):
                yield
        finally:
            with self._changed:
                self._stages.pop(job_id, None)
                self._changed.notify_all()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait while analyses run; False when they still do."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._stages, timeout_s)
