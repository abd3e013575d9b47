"""Installation qualification: phantoms through every bundle in use against their known lesion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np

from dicom_node.analysis.findings import Findings
from dicom_node.phantom.brain import PhantomContrast
from dicom_node.phantom.mr_series import write_series
from dicom_node.phantom.scan import DEMO_SEED, Scan, scan_phantom
from dicom_node.settings import Match, Pipeline, Settings
from dicom_node.workflow.stations import Stations, Task

CENTROID_TOLERANCE_MM = 5.0  # one slice of the phantom
VOLUME_TOLERANCE = 0.35  # of the known volume: the lesion's border is soft


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the protocol."""

    bundle: str
    what: str
    passed: bool
    detail: str


def qualify(settings: Settings) -> list[Check]:
    """Examine the bundle of each pipeline with heads of its contrasts, in each plane that it reads.

    One head has a lesion and one has none. A contrast without a phantom is a failed check.

    Raises
    ------
    BundleError
        When a bundle does not prove itself; its message says why.
    ConfigurationError
        When a pipeline takes a contrast that its bundle was not trained for.
    """
    checks = []
    for pipeline in settings.pipelines:
        # whom the pipeline takes series from, and how they are described, says nothing of the bundle
        bare = pipeline.model_copy(update={"match": Match(contrasts=pipeline.match.contrasts)})
        stations = Stations(settings.model_copy(update={"pipelines": (bare,)}))
        device = stations.bundles[pipeline.bundle].device
        checks.append(Check(pipeline.bundle, "files and stored answers", True, f"as made, on {device}"))
        checks += [Check(pipeline.bundle, *line) for line in _examine_all(stations, bare)]
    return checks


def _examine_all(stations: Stations, pipeline: Pipeline) -> Iterator[tuple[str, bool, str]]:
    planes = stations.bundles[pipeline.bundle].manifest.planes
    phantoms: dict[str, PhantomContrast] = {contrast: contrast for contrast in get_args(PhantomContrast)}
    for wanted in pipeline.match.contrasts:
        if wanted not in phantoms:
            remedy = "examine the bundle with images of your own: dicom-node analyse"
            yield f"{wanted} phantom", False, f"there is none; {remedy}"
            continue
        for lesion in (True, False):
            for plane in planes:
                scan = scan_phantom(DEMO_SEED, contrast=phantoms[wanted], plane=plane, lesion=lesion)
                yield from _examine(stations, f"{wanted} {plane.lower()}", scan)


def _examine(stations: Stations, name: str, scan: Scan) -> list[tuple[str, bool, str]]:
    which = f"{name}, {'healthy' if scan.cut.lesion_centre_mm is None else 'lesion'}"
    with TemporaryDirectory() as folder:
        paths = write_series(scan.datasets, Path(folder) / "series")
        selected = stations.select(paths)
        if selected.selection.pipeline is None:
            return [(which, False, f"not taken: {selected.selection.reason}")]
        worked = stations.work(selected, Task(Path(folder) / "result", datetime.now(UTC)))
    if worked.findings is None:
        return [(which, False, worked.detail)]
    return _compare(name, which, scan, worked.findings)


def _compare(name: str, which: str, scan: Scan, findings: Findings) -> list[tuple[str, bool, str]]:
    lesions, known_mm = findings.lesions, scan.cut.lesion_centre_mm
    expected = 0 if known_mm is None else 1
    lines = [(which, len(lesions) == expected, f"lesions found: {len(lesions)}, expected: {expected}")]
    if known_mm is None or not lesions:
        return lines
    off_mm = float(np.linalg.norm(np.array(lesions[0].centroid_mm) - known_mm))
    found_ml, known_ml = lesions[0].volume_ml, scan.cut.lesion_ml
    return [
        *lines,
        (f"{name}, place", off_mm <= CENTROID_TOLERANCE_MM, f"{off_mm:.1f} mm off"),
        (
            f"{name}, volume",
            abs(found_ml / known_ml - 1) <= VOLUME_TOLERANCE,
            f"{found_ml:.1f} ml, known {known_ml:.1f} ml",
        ),
    ]
