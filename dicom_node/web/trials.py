"""Trying files out: detected at once, outlined on request, kept for a while, sent nowhere.

It is the node's own analysis with the node's own bundles. One thread does one thing at a time, and lets
the analyses of series that were received go first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import structlog

from dicom_node.analysis.analyse import analyse, detect
from dicom_node.analysis.bundle import Bundle
from dicom_node.analysis.manifest import FILE_NAME
from dicom_node.analysis.progress import watched
from dicom_node.errors import ConfigurationError, NodeError, SeriesRefused, TransientError, reason
from dicom_node.series.find import find_series
from dicom_node.series.read import read_volume
from dicom_node.series.volume import MRVolume
from dicom_node.settings import Match, Pipeline
from dicom_node.web.patients import read_patient
from dicom_node.web.shelf import Shelf
from dicom_node.web.shown import Judged, Shown, first_window, judged_of
from dicom_node.web.stored import read_shown, read_summary
from dicom_node.web.trial_input import as_one_slice, read_picture
from dicom_node.web.trial_item import Doing, Item
from dicom_node.web.uploads import Kind, Received, UploadRefused, remove
from dicom_node.workflow.maps import in_steps
from dicom_node.workflow.stations import Selected, Stations, Task

YIELD_S = 5.0  # the longest that a batch of slices waits for the analyses that go first
POLL_S = 0.05
_ITEMS = 200

log = structlog.get_logger()


@dataclass
class Trial:
    """Files that were sent together.

    Attributes
    ----------
    touched_at : monotonic, when somebody last looked
    passed_over : names of files that are no images
    """

    id: str
    folder: Path
    items: tuple[Item, ...]
    passed_over: tuple[str, ...]
    touched_at: float

    @property
    def is_running(self) -> bool:
        """Whether something is still to come."""
        return any(item.is_running for item in self.items)


class Trials:
    """What is tried out on this node.

    Parameters
    ----------
    stations : whose bundles are used
    folder : emptied now; each trial has its own below
    shelf : for series that are looked at
    """

    def __init__(self, stations: Stations, folder: Path, shelf: Shelf) -> None:
        self._stations, self._folder, self._shelf = stations, folder, shelf
        remove(folder)  # of a run that was cut off
        self._trials: dict[str, Trial] = {}
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="trial")
        self._is_stopping = False

    def close(self) -> None:
        """Stop, and delete all."""
        self._is_stopping = True
        self._worker.shutdown(wait=False, cancel_futures=True)
        remove(self._folder)

    def new_folder(self) -> Path:
        """Make a folder for what is about to be sent; what is old is deleted."""
        self._forget_old()
        folder = self._folder / uuid4().hex
        (folder / "in").mkdir(parents=True, mode=0o700)
        return folder

    def begin(self, folder: Path, received: Sequence[Received], bundle: str = "") -> Trial:
        """Take on files that were put into a folder's ``in``, and detect.

        Parameters
        ----------
        bundle : to be used; without one, what the pipelines use: the first that fits a series

        Raises
        ------
        UploadRefused
            None is an image, or there is no such bundle.
        ConfigurationError, BundleError
            There are no models, or one cannot be used.
        """
        if bundle:
            if bundle not in self._installed():
                raise UploadRefused(f"there is no bundle {bundle!r} here; {', '.join(self._installed())} are")
            self._stations.bundle(bundle)
        elif not self._stations.bundles:
            raise ConfigurationError("this node has no models: nothing can be tried out here")
        items = list(_items(folder, received))
        others = tuple(file.name for file in received if file.kind in (Kind.OTHER, Kind.ZIP))
        if not items:
            raise UploadRefused(f"{', '.join(others[:3]) or 'it'}: no PNG, no JPEG and no DICOM image")
        if len(items) > _ITEMS:
            raise UploadRefused(f"{len(items)} pictures and series; at most {_ITEMS} at once")
        trial = Trial(folder.name, folder, tuple(items), others, time.monotonic())
        with self._lock:
            self._trials[trial.id] = trial
        for item in items:
            item.bundle = bundle
            self._worker.submit(self._do, item, self._detect)
        return trial

    def get(self, id_: str) -> Trial | None:
        """Look a trial up."""
        with self._lock:
            trial = self._trials.get(id_)
            if trial is not None:
                trial.touched_at = time.monotonic()
            return trial

    def outline(self, item: Item) -> None:
        """Segment an item in which a tumour was found; of any other there is nothing to segment."""
        if item.doing is Doing.DETECTED and item.is_positive:
            item.doing = Doing.WAITING
            self._worker.submit(self._do, item, self._outline)

    def wait(self, item: Item, timeout_s: float) -> None:
        """Wait until nothing of an item is to come.

        Raises
        ------
        TransientError
            It took too long.
        """
        deadline = time.monotonic() + timeout_s
        while item.is_running:
            if time.monotonic() > deadline:
                raise TransientError(f"not done within {timeout_s:.0f} s: the node has much to do, try again")
            time.sleep(POLL_S)

    def forget(self, trial: Trial) -> None:
        """Delete a trial now."""
        with self._lock:
            self._trials.pop(trial.id, None)
        remove(trial.folder)

    def shown(self, trial: Trial, item: Item) -> Shown:
        """Give what there is to see.

        Raises
        ------
        SeriesRefused
            There is nothing.
        """
        if item.is_picture:
            if item.shown is None:
                raise SeriesRefused("the picture has not been read")
            return item.shown
        outlined = item.doing is Doing.OUTLINED
        key = (trial.id, item.number, outlined)
        shown = self._shelf.get(key, lambda: read_shown(item.paths, item.folder if outlined else None))
        return shown if outlined else replace(shown, judged=item.judged, threshold=item.threshold)

    def _do(self, item: Item, work: Callable[[Item], None]) -> None:
        def follow(done: int, total: int) -> None:
            item.done, item.total = done, total
            self._stations.progress.wait_until_idle(0 if self._is_stopping else YIELD_S)

        try:
            with watched(follow):
                work(item)
        except NodeError as error:
            item.doing, item.detail = Doing.REFUSED, str(error)
        except Exception as error:  # what a file holds may break any library
            log.exception("trial_failed")
            item.doing, item.detail = Doing.REFUSED, reason(error)

    def _detect(self, item: Item) -> None:
        item.doing = Doing.READING
        if item.is_picture:
            volume = read_picture(item.paths[0])
            item.shown = _shown_of(volume)
            bundle = self._stations.bundle(item.bundle or next(iter(self._stations.bundles)))
        else:
            selected = self._select(item)
            selection = selected.selection
            item.trace = selection.trace
            if selection.pipeline is None or selection.stack is None:
                raise SeriesRefused(selection.reason)
            bundle = self._stations.bundle(selection.pipeline.bundle)
            volume = read_volume(selection.stack, selection.contrast)
        _name(item, bundle)
        item.doing = Doing.DETECTING
        probability = detect(volume, bundle)
        item.judged = tuple(Judged(float(p), bool(p >= item.threshold), False) for p in probability)
        item.detail = "" if item.is_positive else f"no {item.finding} to segment"
        if item.shown is not None:
            item.shown = replace(item.shown, judged=item.judged, threshold=item.threshold)
        item.doing = Doing.DETECTED

    def _outline(self, item: Item) -> None:
        item.doing = Doing.OUTLINING
        item.done = item.total = 0
        if item.is_picture:
            self._outline_picture(item)
        else:
            worked = self._stations.work(
                self._select(item), Task(item.folder, datetime.now(UTC).replace(microsecond=0))
            )
            if worked.findings is None:
                raise SeriesRefused(worked.detail)
            item.judged, item.outcome = judged_of(worked.findings), worked.detail
            item.summary = read_summary(item.folder)
        item.doing = Doing.OUTLINED

    def _outline_picture(self, item: Item) -> None:
        volume, bundle = read_picture(item.paths[0]), self._stations.bundle(item.bundle)
        findings = analyse(volume, bundle)
        share = float((findings.labels > 0).mean())
        item.judged = judged_of(findings)
        count = len(findings.lesions)
        regions = f"{count} region{'' if count == 1 else 's'}"
        item.outcome = f"{regions}, {100 * share:.1f} % of the picture" if count else "no region"
        item.shown = replace(
            _shown_of(volume),
            probability=in_steps(findings.probability),
            labels=findings.labels,
            judged=item.judged,
            threshold=item.threshold,
        )

    def _select(self, item: Item) -> Selected:
        """Choose as the node does, but whoever it came from and however few images there are."""
        names = [item.bundle] if item.bundle else list(self._stations.bundles)
        pipelines = [
            Pipeline(
                name=name,
                bundle=name,
                match=Match(contrasts=self._stations.bundle(name).manifest.contrasts, minimum_slices=1),
            )
            for name in names
        ]
        return as_one_slice(self._stations.select(item.paths, pipelines=pipelines))

    def _installed(self) -> list[str]:
        folder = self._stations.settings.analysis.models
        return sorted(path.parent.name for path in folder.glob(f"*/{FILE_NAME}"))

    def _forget_old(self) -> None:
        until = time.monotonic() - 3600 * self._stations.settings.web.trial_hours
        with self._lock:
            old = [t for t in self._trials.values() if t.touched_at < until and not t.is_running]
            for trial in old:
                del self._trials[trial.id]
        for trial in old:
            remove(trial.folder)


def _items(folder: Path, received: Sequence[Received]) -> list[Item]:
    pictures = [file for file in received if file.kind in (Kind.PNG, Kind.JPEG)]
    found: list[tuple[str, bool, tuple[Path, ...]]] = [(f.name, True, (f.path,)) for f in pictures]
    for uid, paths in find_series(folder / "in").items():
        patient = read_patient(paths[0])
        found.append(((patient.series if patient else "") or f"series {uid}", False, tuple(paths)))
    return [
        Item(number, title, is_picture, paths, folder / f"out-{number}")
        for number, (title, is_picture, paths) in enumerate(found)
    ]


def _name(item: Item, bundle: Bundle) -> None:
    item.bundle, item.version = bundle.manifest.name, bundle.manifest.version
    item.finding, item.threshold = bundle.manifest.finding.label, bundle.detector.threshold


def _shown_of(volume: MRVolume) -> Shown:
    """Show a picture as it came."""
    return Shown(volume.voxels, None, None, ("One picture",), first_window(volume.voxels))
