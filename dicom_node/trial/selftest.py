"""Installation qualification: the phantom through every installed bundle against its known lesion."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from dicom_node.analysis.findings import Findings
from dicom_node.phantom.mr_series import write_series
from dicom_node.phantom.scan import DEMO_SEED, Scan, scan_phantom
from dicom_node.settings import Settings
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
    """Analyse a phantom with a lesion and one without, with each pipeline that reads their contrast.

    Raises
    ------
    BundleError
        When a bundle does not prove itself; its message says why.
    """
    checks = []
    for pipeline in settings.pipelines:
        alone = settings.model_copy(update={"pipelines": (pipeline,)})
        stations = Stations(alone)
        device = stations.bundles[pipeline.bundle].device
        checks.append(Check(pipeline.bundle, "files and stored answers", True, f"as made, on {device}"))
        for lesion in (True, False):
            scan = scan_phantom(DEMO_SEED, lesion=lesion)
            checks += [Check(pipeline.bundle, *line) for line in _examine(stations, scan)]
    return checks


def _examine(stations: Stations, scan: Scan) -> list[tuple[str, bool, str]]:
    name = "phantom with a lesion" if scan.lesion_centre_mm is not None else "phantom without"
    with TemporaryDirectory() as folder:
        paths = write_series(scan.datasets, Path(folder) / "series")
        selected = stations.select(paths)
        if selected.selection.pipeline is None:
            return [(name, True, f"not for this bundle: {selected.selection.reason}")]
        worked = stations.work(selected, Task(Path(folder) / "result", datetime.now(UTC)))
    if worked.findings is None:
        return [(name, False, worked.detail)]
    return _compare(name, scan, worked.findings)


def _compare(name: str, scan: Scan, findings: Findings) -> list[tuple[str, bool, str]]:
    lesions = findings.lesions
    expected = 0 if scan.lesion_centre_mm is None else 1
    lines = [(name, len(lesions) == expected, f"lesions found: {len(lesions)}, expected: {expected}")]
    if scan.lesion_centre_mm is None or not lesions:
        return lines
    off_mm = float(np.linalg.norm(np.array(lesions[0].centroid_mm) - scan.lesion_centre_mm))
    ratio = lesions[0].volume_ml / scan.phantom.volume_ml
    return [
        *lines,
        ("place of the lesion", off_mm <= CENTROID_TOLERANCE_MM, f"{off_mm:.1f} mm off"),
        (
            "volume of the lesion",
            abs(ratio - 1) <= VOLUME_TOLERANCE,
            f"{lesions[0].volume_ml:.1f} ml, known {scan.phantom.volume_ml:.1f} ml",
        ),
    ]
