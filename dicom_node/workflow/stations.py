"""What is done to one series, station by station; nothing here is durable, see series_job."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import structlog
from pydicom import Dataset

from dicom_node.analysis.analyse import analyse, describe
from dicom_node.analysis.bundle import Bundle, load_bundle
from dicom_node.analysis.findings import Algorithm
from dicom_node.analysis.manifest import read_manifest
from dicom_node.errors import (
    Cancelled,
    ConfigurationError,
    NodeError,
    SeriesRefused,
    TransientError,
    remedy,
)
from dicom_node.results.make import make_failure, make_results
from dicom_node.results.result_set import ResultSet
from dicom_node.series.headers import Frame, frames_of, raise_if_disk, read_header
from dicom_node.series.read import read_volume
from dicom_node.series.selection import Outcome, Selection, Verdict, select
from dicom_node.series.stacks import PATIENT
from dicom_node.series.volume import Plane
from dicom_node.settings import Analysis, Pipeline, Settings
from dicom_node.workflow.maps import write_heatmap
from dicom_node.workflow.progress import Progress
from dicom_node.workflow.summary import JobSummary, write_summary
from dicom_node.workflow.worked import Worked

log = structlog.get_logger()


@dataclass(frozen=True)
class Selected:
    """A series' frames and the decision on it."""

    selection: Selection
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Task:
    """One analysis of one series.

    Attributes
    ----------
    folder : for the result
    made_at : aware
    job_id : for the summary
    version : of the series' results, from 1
    run : of these very images, from 1
    predecessor : the result that this one replaces
    go_on : called between the stations; raises ``Cancelled`` when the work is no longer wanted
    """

    folder: Path
    made_at: datetime
    job_id: str = ""
    version: int = 1
    run: int = 1
    predecessor: ResultSet | None = None
    go_on: Callable[[], None] = lambda: None


class Stations:
    """The stations of one node, built from its settings.

    Parameters
    ----------
    with_models : without them nothing can be analysed; for a node that leaves that to others

    Raises
    ------
    BundleError
        When a pipeline's bundle is missing, altered or does not do what its manifest says.
    ConfigurationError
        When a pipeline takes a contrast that its bundle was not trained for.
    """

    def __init__(self, settings: Settings, *, with_models: bool = True) -> None:
        self.settings, self._with_models = settings, with_models
        self.progress = Progress()
        self._loading = threading.Lock()
        self.bundles = load_bundles(settings.analysis, settings.pipelines) if with_models else {}

    def prove(self, settings: Settings) -> None:
        """See that the models in use can serve other pipelines.

        Raises
        ------
        ConfigurationError
        """
        for pipeline in settings.pipelines if self._with_models else ():
            if pipeline.bundle not in self.bundles:
                raise ConfigurationError(
                    f"pipelines.{pipeline.name}.bundle: {pipeline.bundle!r} is not loaded; restart the node"
                )
            _refuse_other_contrasts(pipeline, self.bundles[pipeline.bundle])

    def _planes_of(self, name: str) -> tuple[Plane, ...]:
        loaded = self.bundles.get(name)
        return (loaded.manifest if loaded else read_manifest(self.settings.analysis.models / name)).planes

    def use(self, settings: Settings) -> None:
        """Select by these pipelines from the next series on."""
        self.settings = settings

    def bundle(self, name: str) -> Bundle:
        """Give a bundle that is installed, also one that no pipeline names; it stays loaded.

        Raises
        ------
        BundleError
        """
        with self._loading:
            if name not in self.bundles:
                analysis = self.settings.analysis
                remote = analysis.remote_of(name)
                self.bundles[name] = load_bundle(
                    analysis.models / name, analysis.device, analysis.threads, remote
                )
            return self.bundles[name]

    def pipelines_with(self, bundle: str, pipelines: Sequence[Pipeline]) -> tuple[Pipeline, ...]:
        """Pipelines as they would be with another bundle, as far as it reads their contrasts.

        Raises
        ------
        BundleError
        ConfigurationError
            It reads none of them.
        """
        trained = self.bundle(bundle).manifest.contrasts
        fitting = [p for p in pipelines if set(p.match.contrasts) <= set(trained)]
        if not fitting:
            reads = "/".join(trained)
            raise ConfigurationError(f"bundle {bundle!r} reads {reads}: no pipeline takes just that")
        return tuple(pipeline.model_copy(update={"bundle": bundle}) for pipeline in fitting)

    def select(
        self,
        paths: Sequence[Path],
        called_ae_title: str | None = None,
        pipelines: Sequence[Pipeline] | None = None,
    ) -> Selected:
        """Read the headers of a series' files and decide.

        Parameters
        ----------
        pipelines : in the place of those of the settings; their bundles are loaded
        """
        frames: list[Frame] = []
        broken: list[str] = []
        for path in paths:
            try:
                frames += frames_of(path, read_header(path))
            except SeriesRefused as refusal:
                broken.append(str(refusal))
        if not frames:
            reason = broken[0] if broken else "no instance is there"
            verdict = Verdict("headers can be read", False, reason)
            return Selected(Selection(Outcome.SKIPPED, reason, (verdict,)), ())
        chosen_from = self.settings.pipelines if pipelines is None else pipelines
        planes = {pipeline.bundle: self._planes_of(pipeline.bundle) for pipeline in chosen_from}
        selection = select(frames, chosen_from, planes, called_ae_title)
        if broken and selection.outcome is Outcome.CHOSEN:
            verdict = Verdict("headers can be read", False, broken[0])
            selection = replace(
                selection,
                outcome=Outcome.REFUSED,
                reason=broken[0],
                trace=(verdict, *selection.trace),
                stack=None,
            )
        return Selected(selection, tuple(frames))

    def work(self, selected: Selected, task: Task) -> Worked:
        """Take a series that fits a pipeline from its files to proven result objects in a folder.

        A series that cannot be analysed gets a report that says why. The report names the
        result that it replaces, if there is one.

        Raises
        ------
        Cancelled
            The work is no longer wanted.
        TransientError, OSError
            The same call may succeed later.
        NodeError
            When not even the report could be made.
        """
        selection = selected.selection
        pipeline = selection.pipeline
        if pipeline is None:
            raise ConfigurationError("the series fits no pipeline")
        timings: dict[str, float] = {}
        try:
            with self.progress.following(task.job_id) if task.job_id else nullcontext():
                worked = self._analyse(selection, pipeline, task, timings)
        except (TransientError, Cancelled):
            raise
        except NodeError as error:
            worked = self._fail(selected.frames, pipeline, task, str(error), error)
        except Exception as error:
            raise_if_disk(error)
            log.exception("analysis_crashed")
            cause = f"an error of the program ({type(error).__name__}); its log says where"
            worked = self._fail(selected.frames, pipeline, task, cause, error)
        worked = replace(worked, timings_s=timings)
        write_summary(
            task.folder,
            selected.frames[0].header,
            selection,
            worked,
            self.bundles[pipeline.bundle],
            job=JobSummary(task.job_id, task.version, len({frame.path for frame in selected.frames})),
        )
        return worked

    def _analyse(
        self,
        selection: Selection,
        pipeline: Pipeline,
        task: Task,
        timings: dict[str, float],
    ) -> Worked:
        if selection.stack is None:
            raise SeriesRefused(selection.reason)
        bundle = self.bundles[pipeline.bundle]
        with _timed(timings, "series"):
            volume = read_volume(selection.stack, selection.contrast)
        task.go_on()
        with _timed(timings, "analysis"):
            findings = analyse(
                volume, bundle, segment=pipeline.segment, minimum_lesion_ml=pipeline.minimum_lesion_ml
            )
        task.go_on()
        with _timed(timings, "results"):
            results = make_results(
                volume,
                findings,
                kinds=pipeline.outputs,
                folder=task.folder,
                site_salt=self.settings.site.uid_salt,
                configuration_digest=configuration_digest(pipeline, findings.algorithm),
                made_at=task.made_at,
                limitations=bundle.manifest.limitations,
                predecessor=task.predecessor,
                version=task.version,
                run=task.run,
            )
        write_heatmap(task.folder, findings)
        return Worked.of(findings, results)

    def _fail(
        self,
        frames: Sequence[Frame],
        pipeline: Pipeline,
        task: Task,
        cause: str,
        error: Exception,
    ) -> Worked:
        """Report a failure into every study that the series touches; each report names only its own."""
        bundle = self.bundles[pipeline.bundle]
        algorithm = describe(bundle, segment=pipeline.segment, minimum_lesion_ml=pipeline.minimum_lesion_ml)
        identities = _by_identity(frames)
        is_one = len(identities) == 1
        results = tuple(
            make_failure(
                headers,
                cause,
                algorithm=algorithm,
                kinds=pipeline.outputs,
                folder=task.folder if is_one else task.folder / str(number),
                site_salt=self.settings.site.uid_salt,
                configuration_digest=configuration_digest(pipeline, algorithm),
                made_at=task.made_at,
                limitations=bundle.manifest.limitations,
                predecessor=task.predecessor if is_one else None,
                version=task.version,
                run=task.run,
                apart=not is_one,
            )
            for number, headers in enumerate(identities, start=1)
        )
        return Worked(None, cause, results, remedy=remedy(error), error=type(error).__name__)


def load_bundles(analysis: Analysis, pipelines: Sequence[Pipeline]) -> dict[str, Bundle]:
    """Load and prove every bundle that a pipeline names.

    Raises
    ------
    BundleError
        As :func:`load_bundle`.
    ConfigurationError
        A pipeline takes a contrast that its bundle was not trained for.
    """
    names = dict.fromkeys(pipeline.bundle for pipeline in pipelines)
    bundles = {
        name: load_bundle(analysis.models / name, analysis.device, analysis.threads, analysis.remote_of(name))
        for name in names
    }
    for pipeline in pipelines:
        _refuse_other_contrasts(pipeline, bundles[pipeline.bundle])
    return bundles


def _refuse_other_contrasts(pipeline: Pipeline, bundle: Bundle) -> None:
    trained = bundle.manifest.contrasts
    if other := [contrast for contrast in pipeline.match.contrasts if contrast not in trained]:
        raise ConfigurationError(
            f"pipelines.{pipeline.name}.match.contrasts: bundle {pipeline.bundle!r} was trained for "
            f"{'/'.join(trained)}, not for {'/'.join(other)}; remove that, or give it a pipeline with a "
            "bundle that reads it (dicom-node models)"
        )


def configuration_digest(pipeline: Pipeline, algorithm: Algorithm) -> str:
    """Digest of all that decides what a result says, besides the images and the weights."""
    finding = algorithm.finding.model_dump_json()
    text = repr((pipeline.name, algorithm.name, algorithm.version, algorithm.parameters, finding))
    return hashlib.sha256(text.encode()).hexdigest()


def _by_identity(frames: Sequence[Frame]) -> list[list[Dataset]]:
    """Headers of the instances, apart by patient and study."""
    groups: defaultdict[tuple[str, ...], dict[str, Dataset]] = defaultdict(dict)
    for frame in frames:
        identity = (*frame.patient(PATIENT), frame.text("StudyInstanceUID"))
        groups[identity][str(frame.header.SOPInstanceUID)] = frame.header
    return [list(headers.values()) for headers in groups.values()]


@contextmanager
def _timed(timings: dict[str, float], station: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    timings[station] = time.monotonic() - start
