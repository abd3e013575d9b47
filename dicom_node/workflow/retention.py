"""What nobody needs any more is deleted: images of series that are done, results that are delivered.

============  ======================================================================================
images        when all work on their series has ended, and what was made of just these images was
              delivered, skipped or cancelled; conflict files go with their series
results       when every destination has them, and has committed itself where that is required
workflows     when they have ended
============  ======================================================================================

Kept are: what arrives, waits or is being sent; what failed or was not delivered, as a person is
needed; results without a destination, as they are the only ones.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import structlog

from dicom_node.receive.completion import CompleteSeries, look
from dicom_node.receive.spool import Spool
from dicom_node.results.files import MEMORY_NAME, remember
from dicom_node.settings import Destination, Settings
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.ledger import ENDED, Delivery, Entry, Ledger, Sent, State
from dicom_node.workflow.series_job import job_id_of
from dicom_node.workflow.summary import FILE_NAME

EVERY_S = 3600.0
_GB = 1 << 30
# What images need no more
_DONE_WITH = (State.DONE, State.SKIPPED, State.CANCELLED)

log = structlog.get_logger()


class What(StrEnum):
    """What is deleted together; of one age, images go first."""

    IMAGES = "images"
    RESULTS = "results"


@dataclass(frozen=True, slots=True)
class Holding:
    """Files that go together.

    Attributes
    ----------
    name : the series, or the job
    since : when they were last needed
    may_go : whether nobody needs them any more
    """

    what: What
    name: str
    paths: tuple[Path, ...]
    size_bytes: int
    since: datetime
    may_go: bool


@dataclass(frozen=True, slots=True)
class Held:
    """What a node holds, and how much room there is."""

    series: int
    image_bytes: int
    conflicts: int
    result_bytes: int
    free_bytes: int
    oldest: datetime | None


class Retention:
    """Finds and deletes.

    Works beside a running node, from another process too: deleting a series and taking one up
    exclude each other, and what came meanwhile is not touched.

    Parameters
    ----------
    settings : Settings
    spool : Spool
    ledger : Ledger
    """

    def __init__(self, settings: Settings, spool: Spool, ledger: Ledger) -> None:
        self._settles_after = timedelta(seconds=settings.completion.longest_s)
        self._spool, self._ledger, self._results = spool, ledger, settings.folder / "results"
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Delete by these rules from now on."""
        self._rules = settings.retention
        destinations = (d for d in settings.destinations if isinstance(d, Destination))
        self._to_commit = {d.name for d in destinations if d.commitment == "required"}

    def held(self) -> Held:
        """Count all that is held."""
        found = [_files(folder) for folder in self._spool.folders()]
        images = [files for files in found if files]
        results = _files(self._results)
        sizes = [each.st_size for files in images for each in files.values()]
        return Held(
            series=len(images),
            image_bytes=sum(sizes),
            conflicts=sum(path.suffix != ".dcm" for files in images for path in files),
            result_bytes=sum(each.st_size for each in results.values()),
            free_bytes=shutil.disk_usage(self._results.parent).free,
            oldest=min(
                (
                    datetime.fromtimestamp(each.st_mtime, UTC)
                    for f in (*images, results)
                    for each in f.values()
                ),
                default=None,
            ),
        )

    def due(self, now: datetime | None = None) -> list[Holding]:
        """List what is to be deleted by age, and the oldest beyond ``maximum_gb``."""
        rules = self._rules
        if not (rules.images_days or rules.results_days or rules.maximum_gb):
            return []
        now = now or datetime.now(UTC)
        held_bytes = 0
        may_go: list[Holding] = []
        for holding in self._holdings(now):
            held_bytes += holding.size_bytes
            # Not those that nothing asks for: their paths would take 0.7 kB of memory for each image on disk
            if holding.may_go and (rules.maximum_gb is not None or self._is_old(holding, now)):
                may_go.append(holding)
        may_go.sort(key=lambda h: (h.since, h.what))
        due = [h for h in may_go if self._is_old(h, now)]
        if rules.maximum_gb is not None:
            excess = held_bytes - sum(h.size_bytes for h in due) - round(rules.maximum_gb * _GB)
            for holding in may_go:
                if excess <= 0:
                    break
                if holding not in due:
                    due.append(holding)
                    excess -= holding.size_bytes
            if excess > 0:
                log.warning("retention_over_maximum", over_mb=excess >> 20, reason="the rest is still needed")
        return due

    def clean(self, now: datetime | None = None) -> list[Holding]:
        """Delete what is due; returns what was deleted."""
        now = now or datetime.now(UTC)
        return [holding for holding in self.due(now) if self._try_to_delete(holding, now)]

    def _is_old(self, holding: Holding, now: datetime) -> bool:
        days = self._rules.images_days if holding.what is What.IMAGES else self._rules.results_days
        return days is not None and now - holding.since >= timedelta(days=days)

    def _try_to_delete(self, holding: Holding, now: datetime) -> bool:
        try:
            return self._delete(holding, now)
        except Exception as error:  # noqa: BLE001 - a damaged file must not keep all the others
            log.error("not_deleted", what=holding.what, of=holding.name, error=type(error).__name__)  # noqa: TRY400
            return False

    def _delete(self, holding: Holding, now: datetime) -> bool:
        """Delete unless something changed since it was found."""
        with self._spool.exclusively():
            if holding.what is What.IMAGES:
                if self._images(holding.name, now) != holding:
                    return False
                self._spool.delete(holding.name, holding.paths)
            else:
                folder = self._results.joinpath(*holding.name.split("-", 1))
                if self._result(folder, now) != holding:
                    return False
                remember(folder)
                for path in holding.paths:
                    path.unlink(missing_ok=True)
        log.info("deleted", what=holding.what, of=holding.name, files=len(holding.paths))
        return True

    def _holdings(self, now: datetime) -> Iterator[Holding]:
        for uid in self._spool.series():
            if images := self._images(uid, now):
                yield images
        for folder in sorted(self._results.glob("*/*")):
            if result := self._result(folder, now):
                yield result

    def _images(self, uid: str, now: datetime) -> Holding | None:
        paths = (*self._spool.instances(uid), *self._spool.conflicts(uid))
        entries = self._ledger.entries(series_instance_uid=uid)
        if not paths:
            return None
        # Deleted in part, when a crash came between, or sent again in part
        is_rest = {p.stem for p in paths if p.suffix == ".dcm"} <= self._spool.deleted(uid)
        series = look(self._spool, uid)
        of_these = [e for e in entries if series and _is_of(series, e)]
        is_done_with = is_rest or any(e.state in _DONE_WITH for e in of_these[:1])
        return self._holding(What.IMAGES, uid, paths, entries, is_done_with, now)

    def _result(self, folder: Path, now: datetime) -> Holding | None:
        uid = folder.parent.name
        memory = folder / MEMORY_NAME
        files = [p for p in sorted(folder.rglob("*")) if p.is_file() and memory not in p.parents]
        # The summary first: without it nobody takes what is left for a result that the book lost
        files.sort(key=lambda path: path.name != FILE_NAME)
        if not files:
            return None
        entries = self._ledger.entries(series_instance_uid=uid)
        job_id = f"{uid}-{folder.name}"
        entry = next((e for e in entries if e.job_id == job_id), None)
        is_done_with = entry is not None and self._is_delivered(entry)
        return self._holding(What.RESULTS, job_id, files, entries, is_done_with, now)

    def _holding(
        self,
        what: What,
        name: str,
        paths: Sequence[Path],
        entries: Sequence[Entry],
        is_done_with: bool,
        now: datetime,
    ) -> Holding | None:
        try:
            found = [path.stat() for path in paths]
        except FileNotFoundError:  # deleted or moved since it was listed
            return None
        touched = datetime.fromtimestamp(max(each.st_mtime for each in found), UTC)
        since = max([touched, *(entry.updated_at for entry in entries)])
        is_quiet = all(e.state in ENDED for e in entries) and now - touched > self._settles_after
        return Holding(
            what, name, tuple(paths), sum(each.st_size for each in found), since, is_done_with and is_quiet
        )

    def _is_delivered(self, entry: Entry) -> bool:
        return (
            entry.state is State.DONE
            and bool(entry.deliveries)
            and all(self._has_it(delivery) for delivery in entry.deliveries)
        )

    def _has_it(self, delivery: Delivery) -> bool:
        if delivery.destination in self._to_commit:
            return delivery.state is Sent.COMMITTED
        return delivery.state in (Sent.DONE, Sent.COMMITTED)


class Housekeeping:
    """A thread of the node that deletes, now and then.

    Parameters
    ----------
    every_s : between two times; the first comes after so long
    leads : whether this process is the one of several that does so
    """

    def __init__(
        self,
        settings: Settings,
        retention: Retention,
        engine: DurableEngine,
        every_s: float = EVERY_S,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._workflows_days = settings.retention.workflows_days
        self._retention, self._engine = retention, engine
        self._every_s, self._leads = every_s, leads
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def use(self, settings: Settings) -> None:
        """Delete by these rules from now on."""
        self._workflows_days = settings.retention.workflows_days
        self._retention.use(settings)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after what it is deleting."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            if not self._leads():
                continue
            try:
                self._retention.clean()
                before = datetime.now(UTC) - timedelta(days=self._workflows_days)
                if forgotten := self._engine.forget_ended(before):
                    log.info("workflows_deleted", count=forgotten)
            except Exception as error:  # noqa: BLE001 - it comes again
                log.error("housekeeping_failed", error=type(error).__name__)  # noqa: TRY400 - as above


def describe(held: Held) -> str:
    """Say in one line how much is held."""
    since = f", the oldest since {held.oldest:%Y-%m-%d}" if held.oldest else ""
    conflicts = f", {held.conflicts} conflict files" if held.conflicts else ""
    return (
        f"held: images of {held.series} series ({_size(held.image_bytes)}{conflicts}), "
        f"results ({_size(held.result_bytes)}){since}; {_size(held.free_bytes)} free"
    )


def describe_holding(holding: Holding) -> str:
    """Say in one line what is deleted."""
    return (
        f"{holding.what} of {holding.name}: {len(holding.paths)} files, {_size(holding.size_bytes)}, "
        f"not needed since {holding.since:%Y-%m-%d %H:%M}Z"
    )


def _files(folder: Path) -> dict[Path, os.stat_result]:
    """Look at every file below a folder, without those that go while it is looked at."""
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and MEMORY_NAME not in path.parts[-2:-1]:
                found[path] = path.stat()
    return found


def _size(count: int) -> str:
    if count >= _GB:
        return f"{count / _GB:.1f} GB"
    return f"{count / (1 << 20):.1f} MB"


def _is_of(series: CompleteSeries, entry: Entry) -> bool:
    job_id = job_id_of(series)
    return entry.job_id == job_id or entry.job_id.startswith(f"{job_id}-")
