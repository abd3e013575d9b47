"""When a series is complete.

DICOM does not say when a series ends: a release is not the end where a router opens one
association for each image, and many senders never release in time. So each series has a
quiet timer, which every instance sets back; it is a short one once every association that
sent to the series was released and the slices have no gap. A series that never falls
quiet is taken as it is after a limit.

Where several receive into one spool, each has a timer for what came to it. A timer that ends looks
whether others got images of the series meanwhile, and is set back if so: the last to end tells.

What is on disk is the series: a `CompleteSeries` is built from the spool's listing, so
that the digest is the same before and after a restart.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import structlog

from dicom_node.receive.header import Vector
from dicom_node.receive.instance import StoredInstance
from dicom_node.receive.part10 import AETitles
from dicom_node.settings import Completion as CompletionSettings

# Distances between slices may differ by this part of their median
_SPACING_TOLERANCE = 0.1
# Slices nearer than this lie at one place (echoes, time points); in mm
_SAME_PLACE_MM = 1e-3
_PARALLEL_TOLERANCE = 1e-3

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CompleteSeries:
    """A series that is taken as complete, at one version of its contents.

    Attributes
    ----------
    digest : first 16 hex digits of SHA-256 over the sorted SOP Instance UIDs, one a line
        With the series UID it names this version: a late slice changes it, a resend does not.
    instances : how many
    paths : of the instances, sorted
    """

    series_instance_uid: str
    digest: str
    instances: int
    called_ae_title: str
    calling_ae_title: str
    paths: tuple[Path, ...]


class Listing(Protocol):
    """What is asked of the spool."""

    def series(self) -> list[str]: ...
    def instances(self, series_instance_uid: str) -> list[Path]: ...
    def titles(self, series_instance_uid: str) -> AETitles: ...


@dataclass(slots=True)
class _Arriving:
    """A series under the timer; times are the clock's seconds.

    After a restart, or when it is opened again, not every slice was seen: then nobody can
    say that there is no gap.
    """

    first_at: float
    last_at: float
    seen_from_start: bool = False
    known: int = 0  # instances that lie in the spool, as far as this process knows
    slices: list[tuple[Vector | None, Vector | None]] = field(default_factory=list)
    open_associations: set[int] = field(default_factory=set)
    was_aborted: bool = False


class Completion:
    """Tells when each series is complete.

    `instance_stored` and `association_ended` may be called from any thread. Either `start`
    the thread, or drive `tick` by hand.

    Parameters
    ----------
    settings : CompletionSettings
        How long is quiet.
    spool : Listing
        What is on disk.
    on_complete : callable
        Gets each complete series, at least once; idempotent by series UID and digest. If
        it raises, the series is put under the timer again.
    clock : callable
        Monotonic seconds.
    is_shared : bool
        Whether others receive into the same spool.
    """

    def __init__(
        self,
        settings: CompletionSettings,
        spool: Listing,
        on_complete: Callable[[CompleteSeries], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        is_shared: bool = False,
    ) -> None:
        self._settings, self._is_shared = settings, is_shared
        self._spool = spool
        self._on_complete = on_complete
        self._clock = clock
        self._arriving: dict[str, _Arriving] = {}
        self._changed = threading.Condition()
        self._waits_until = float("inf")
        self._is_stopping = False
        self._thread: threading.Thread | None = None

    def restore(self) -> None:
        """Put every series in the spool under the timer: after a restart, or when another receiver died."""
        now = self._clock()
        there = {
            uid: len(self._spool.instances(uid)) if self._is_shared else 0 for uid in self._spool.series()
        }
        with self._changed:
            for series_instance_uid, known in there.items():
                self._arriving.setdefault(series_instance_uid, _Arriving(now, now, known=known))
            self._changed.notify()

    def instance_stored(self, instance: StoredInstance) -> None:
        """Set back the timer of the instance's series.

        A complete series is opened again by a new instance only, not by one that was there.
        """
        now = self._clock()
        with self._changed:
            arriving = self._arriving.get(instance.series_instance_uid)
            if instance.is_conflict or (arriving is None and not instance.is_new):
                return
            if arriving is None:
                # Under the timer first: if the listing fails, the sender's repetition is no new instance
                arriving = self._arriving[instance.series_instance_uid] = _Arriving(now, now)
                stored = self._spool.instances(instance.series_instance_uid)
                arriving.seen_from_start = len(stored) <= 1
                arriving.known = len(stored) - 1  # without this one
            arriving.last_at = now
            arriving.open_associations.add(instance.association_id)
            if instance.is_new:
                arriving.known += 1
                arriving.slices.append((instance.position_mm, instance.orientation))
            # Each image only puts the end off: waking the thread for it would cost a switch an image
            if self._deadline(arriving) < self._waits_until:
                self._changed.notify()

    def association_ended(self, association_id: int, released: bool) -> None:
        """Note that an association was released, or else aborted or lost."""
        with self._changed:
            for arriving in self._arriving.values():
                if association_id in arriving.open_associations:
                    arriving.open_associations.remove(association_id)
                    arriving.was_aborted |= not released
            self._changed.notify()

    def arriving(self) -> list[str]:
        """List the series under the timer, the first to arrive first."""
        with self._changed:
            return list(self._arriving)

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do, on the clock; None while nothing arrives."""
        with self._changed:
            return min(map(self._deadline, self._arriving.values()), default=None)

    def tick(self) -> None:
        """Complete every series whose time has come."""
        now = self._clock()
        with self._changed:
            due = [uid for uid, arriving in self._arriving.items() if self._deadline(arriving) <= now]
        for series_instance_uid in due:
            with self._changed:
                arriving = self._arriving.get(series_instance_uid)
                if arriving is None or self._deadline(arriving) > now:  # an instance came in between
                    continue
                if self._is_shared and self._grew_elsewhere(series_instance_uid, arriving, now):
                    continue
                del self._arriving[series_instance_uid]
            self._complete(series_instance_uid)

    def _grew_elsewhere(self, series_instance_uid: str, arriving: _Arriving, now: float) -> bool:
        """Set the timer back if others got images of a series meanwhile, unless it has lasted too long."""
        there = len(self._spool.instances(series_instance_uid))
        if there <= arriving.known or now >= arriving.first_at + self._settings.longest_s:
            return False
        # Not every slice was seen, so that nobody can say that there is no gap
        arriving.known, arriving.last_at, arriving.seen_from_start = there, now, False
        return True

    def start(self) -> None:
        """Tick in a thread that sleeps until the next deadline."""
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="completion", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was arriving is found again by `restore`."""
        if self._thread is None:
            return
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join()
        self._thread = None

    def _deadline(self, arriving: _Arriving) -> float:
        quiet_s = self._settings.quiet_s
        # In this order: while an association is open, the geometry is not computed for each image
        if (
            not arriving.open_associations
            and not arriving.was_aborted
            and arriving.seen_from_start
            and has_no_gap(arriving.slices)
        ):
            quiet_s = min(quiet_s, self._settings.quiet_after_release_s)
        return min(arriving.last_at + quiet_s, arriving.first_at + self._settings.longest_s)

    def _complete(self, series_instance_uid: str) -> None:
        try:
            series = look(self._spool, series_instance_uid)
            if series is not None:
                self._on_complete(series)
        except BaseException:
            now = self._clock()
            with self._changed:
                self._arriving.setdefault(series_instance_uid, _Arriving(now, now))
            raise

    def _run(self) -> None:
        while self._sleep():
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - the series comes again after the quiet time
                _log.error("completion_failed", error=type(error).__name__)

    def _sleep(self) -> bool:
        """Wait for the next deadline or a change; return False once the thread is to end."""
        with self._changed:
            if self._is_stopping:
                return False
            deadline = self.next_deadline()
            self._waits_until = float("inf") if deadline is None else deadline
            self._changed.wait(None if deadline is None else max(0.0, deadline - self._clock()))
            return not self._is_stopping


def look(spool: Listing, series_instance_uid: str) -> CompleteSeries | None:
    """Describe a series as it lies in the spool; None when nothing of it is there."""
    paths = spool.instances(series_instance_uid)
    if not paths:
        return None
    titles = spool.titles(series_instance_uid)
    uids = sorted(path.stem for path in paths)
    return CompleteSeries(
        series_instance_uid=series_instance_uid,
        digest=hashlib.sha256("\n".join(uids).encode("ascii")).hexdigest()[:16],
        instances=len(paths),
        called_ae_title=titles.called,
        calling_ae_title=titles.calling,
        paths=tuple(paths),
    )


def has_no_gap(slices: Sequence[tuple[Vector | None, Vector | None]]) -> bool:
    """Whether slices are parallel and evenly spaced along their normal, two places at least.

    Parameters
    ----------
    slices : pairs of Image Position and Image Orientation (Patient), or None (PS3.3 C.7.6.2.1.1)
        Several slices may lie at one place if as many lie at each.
    """
    if len(slices) < 2 or any(position is None or orientation is None for position, orientation in slices):
        return False
    positions = np.array([position for position, _ in slices], np.float64)
    orientations = np.array([orientation for _, orientation in slices], np.float64)
    if np.abs(orientations - orientations[0]).max() > _PARALLEL_TOLERANCE:
        return False
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    along_mm = np.sort(positions @ normal)
    steps_mm = np.diff(along_mm)
    starts = np.flatnonzero(np.concatenate(([True], steps_mm > _SAME_PLACE_MM)))
    if len(starts) < 2:
        return False
    slices_at_place = np.diff(np.append(starts, len(along_mm)))
    spacings_mm = np.diff(along_mm[starts])
    median_mm = np.median(spacings_mm)
    return bool(
        (slices_at_place == slices_at_place[0]).all()
        and (np.abs(spacings_mm - median_mm) <= _SPACING_TOLERANCE * median_mm).all()
    )
