"""Volumes with known lesions, made from real bytes, and the peers that read results back."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation

from dicom_node.analysis.findings import Algorithm, Findings
from dicom_node.analysis.lesions import find_lesions
from dicom_node.phantom.mr_series import mr_series
from dicom_node.results.make import make_failure, make_results
from dicom_node.results.result_set import Kind, ResultSet
from dicom_node.series.volume import Contrast, FrameReference, MRVolume
from tests.support.running import need

MADE_AT = datetime(2026, 1, 5, 11, 30, tzinfo=UTC)
ALGORITHM = Algorithm("flair-glioma", "1.0.0", "5e" * 32, (("threshold", "0.5"), ("rule", "percentile")))
LIMITATIONS = "Trained on adults with low-grade glioma."
SHAPE = (12, 40, 32)
TOOLS = Path(sys.executable).parent


def _unit(*direction: float) -> NDArray[np.float64]:
    return np.array(direction) / np.linalg.norm(direction)


def _square(row: NDArray[np.float64], near: Sequence[float]) -> NDArray[np.float64]:
    """The direction nearest to another that is square to a row."""
    return _unit(*(np.array(near) - row * (row @ np.array(near))))


_OBLIQUE_ROW = np.array([0.96, 0.28, 0.0])
_OBLIQUE_COLUMN = np.cross([0.1, -0.342857142857, 0.8], _OBLIQUE_ROW)
ORIENTATIONS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "oblique": (_OBLIQUE_ROW, _OBLIQUE_COLUMN / np.linalg.norm(_OBLIQUE_COLUMN)),
    "feet first, face down": ((-1, 0, 0), (0, -1, 0)),
    "oblique sagittal": (_unit(0.1, 0.97, 0.2), _square(_unit(0.1, 0.97, 0.2), (0.05, 0.2, -0.97))),
    "doubly oblique": (_unit(0.62, -0.54, 0.57), _square(_unit(0.62, -0.54, 0.57), (-0.3, -0.8, -0.4))),
    "negative row": ((-1, 0, 0), (0, 1, 0)),
    "rows along y": ((0, 1, 0), (1, 0, 0)),
}


@dataclass(frozen=True)
class Case:
    """A source and what was found in it."""

    volume: MRVolume
    findings: Findings


def affine_of(
    orientation: str, spacing_mm: Sequence[float] = (5.0, 1.1, 0.9), origin: Sequence[float] = (-12, 7, 30)
) -> NDArray[np.float64]:
    """An affine as MRVolume's: spacing along (slices, rows, columns)."""
    row, column = (np.asarray(d, float) for d in ORIENTATIONS[orientation])
    affine = np.eye(4)
    affine[:3, 0] = row * spacing_mm[2]
    affine[:3, 1] = column * spacing_mm[1]
    affine[:3, 2] = np.cross(row, column) * spacing_mm[0]
    affine[:3, 3] = origin
    return affine


def two_lesions(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float32]:
    """Probabilities with two lesions that look different after any flip or turn."""
    probability = np.zeros(shape, np.float32)
    probability[3:7, 5:15, 4:9] = 0.9
    probability[3:5, 15:20, 4:20] = 0.8
    probability[5, 5, 9:12] = 0.7
    probability[9:11, 28:33, 20:27] = 0.6
    probability[10, 33, 20] = 0.95
    return probability


def findings_of(volume: MRVolume, probability: NDArray[np.float32]) -> Findings:
    labels, lesions = find_lesions(volume, probability, 0.5, 0.0)
    detector = (0.1 + 0.8 * probability.max(axis=(1, 2))).astype(np.float32)
    return Findings(
        slice_probability=detector,
        slice_positive=detector > 0.5,
        segmented=detector > 0.5,
        probability=probability,
        labels=labels,
        lesions=lesions,
        algorithm=ALGORITHM,
    )


def reread(dataset: Dataset) -> Dataset:
    """The header as it would come from a file: values not decoded yet, no pixels."""
    buffer = BytesIO()
    with disable_value_validation():
        dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer, stop_before_pixels=True)


def volume_of(datasets: Sequence[Dataset], voxels: NDArray[Any], affine: NDArray[np.float64]) -> MRVolume:
    """A volume from single-frame data sets in any order."""
    headers = [reread(dataset) for dataset in datasets]
    normal = affine[:3, 2]
    headers.sort(key=lambda h: float(np.dot([float(x) for x in h.ImagePositionPatient], normal)))
    frames = tuple(FrameReference(str(h.SOPClassUID), str(h.SOPInstanceUID)) for h in headers)
    return MRVolume(voxels.astype(np.float32), affine, frames, tuple(headers), Contrast.FLAIR)


def multi_frame_volume(voxels: NDArray[Any], affine: NDArray[np.float64]) -> MRVolume:
    """The same slices as frames of one Legacy Converted Enhanced MR image, last slice first."""
    datasets = mr_series(voxels, affine, reversed_order=True)
    enhanced = LegacyConvertedEnhancedMRImage(
        datasets,
        series_instance_uid="2.25.77",
        series_number=5,
        sop_instance_uid="2.25.78",
        instance_number=1,
    )
    header = reread(enhanced)
    inverse = np.linalg.inv(affine)

    def along(item: Dataset) -> float:
        position = [float(x) for x in item.PlanePositionSequence[0].ImagePositionPatient]
        return float((inverse @ [*position, 1.0])[2])

    groups = header.PerFrameFunctionalGroupsSequence
    header.PerFrameFunctionalGroupsSequence = sorted(groups, key=along, reverse=True)
    numbers = {}
    for number, item in enumerate(header.PerFrameFunctionalGroupsSequence, 1):
        numbers[round(along(item))] = number
    frames = tuple(
        FrameReference(str(header.SOPClassUID), str(header.SOPInstanceUID), numbers[index])
        for index in range(len(voxels))
    )
    return MRVolume(voxels.astype(np.float32), affine, frames, (header,), Contrast.FLAIR)


def make_case(
    orientation: str = "axial",
    *,
    spacing_mm: Sequence[float] = (5.0, 1.1, 0.9),
    probability: NDArray[np.float32] | None = None,
    multi_frame: bool = False,
    **options: Any,
) -> Case:
    """A volume with two lesions, or with the given probabilities."""
    probability = two_lesions() if probability is None else probability
    voxels = np.rint(100 + 400 * probability)
    affine = affine_of(orientation, spacing_mm)
    if multi_frame:
        volume = multi_frame_volume(voxels, affine)
    else:
        with disable_value_validation():
            volume = volume_of(mr_series(voxels, affine, **options), voxels, affine)
    return Case(volume, findings_of(volume, probability))


def negative(case: Case) -> Case:
    nothing = findings_of(case.volume, np.zeros_like(case.findings.probability))
    return Case(case.volume, replace(nothing, algorithm=case.findings.algorithm))


def run(case: Case, folder: Path, **changed: Any) -> ResultSet:
    """``make_results`` with usual arguments."""
    arguments: dict[str, Any] = {
        "kinds": tuple(Kind),
        "folder": folder,
        "site_salt": "site",
        "configuration_digest": "c0ffee",
        "made_at": MADE_AT,
        "limitations": LIMITATIONS,
    }
    return make_results(case.volume, case.findings, **(arguments | changed))


def run_failure(headers: Sequence[Dataset], folder: Path, **changed: Any) -> ResultSet:
    """``make_failure`` with usual arguments."""
    arguments: dict[str, Any] = {
        "cause": "There is a gap of 10 mm after slice 7.",
        "algorithm": ALGORITHM,
        "kinds": tuple(Kind),
        "folder": folder,
        "site_salt": "site",
        "configuration_digest": "c0ffee",
        "made_at": MADE_AT,
    }
    return make_failure(headers, **(arguments | changed))


def path_of(result: ResultSet, kind: Kind) -> Path:
    return next(made.path for made in result.objects if made.kind is kind)


def paths_of(result: ResultSet) -> dict[Kind, Path]:
    return {made.kind: made.path for made in result.objects}


def read(result: ResultSet, kind: Kind) -> Dataset:
    return dcmread(path_of(result, kind))


def dciodvfy(path: Path) -> tuple[list[str], list[str]]:
    """Errors and warnings of David Clunie's validator."""
    done = subprocess.run([TOOLS / "dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return [x for x in lines if x.startswith("Error")], [x for x in lines if x.startswith("Warning")]


def read_with_dcmqi(path: Path, folder: Path) -> dict[int, tuple[int, NDArray[np.float64], float]]:
    """Per segment, what dcmqi reads: number of voxels, centroid in LPS mm, volume in ml."""
    folder.mkdir()
    command = [TOOLS / "segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-p", "s"]
    subprocess.run([*command, "-t", "nrrd"], check=True, capture_output=True)
    made = {}
    for file in folder.glob("s-*.nrrd"):
        values, affine = _read_nrrd(file)
        mask = values > 0
        points = np.argwhere(mask)
        centroid = (affine @ [*points.mean(axis=0), 1.0])[:3]
        volume = len(points) * abs(np.linalg.det(affine[:3, :3])) / 1000
        made[int(file.stem.removeprefix("s-"))] = (len(points), centroid, float(volume))
    return made


def read_report_with_dcmqi(path: Path, folder: Path) -> Mapping[str, Any]:
    output = folder / "report.json"
    command = [TOOLS / "tid1500reader", "--inputDICOM", path, "--outputMetadata", output]
    subprocess.run(command, check=True, capture_output=True)
    content: Mapping[str, Any] = json.loads(output.read_text())
    return content


def read_map_with_dcmqi(path: Path, folder: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Values (columns, rows, slices) of a Parametric Map and their affine in LPS mm."""
    folder.mkdir()
    command = [TOOLS / "paramap2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd"]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = folder.glob("*.nrrd")
    return _read_nrrd(file)


def dsrdump(path: Path) -> str:
    """What DCMTK reads of an SR document; fails where it finds an error."""
    done = subprocess.run([need("dsrdump"), "+Pl", path], check=True, capture_output=True, text=True)
    assert "E: " not in done.stderr, done.stderr
    return done.stdout


def _read_nrrd(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    head, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    if fields["space"] != "left-posterior-superior":
        raise ValueError(fields["space"])
    kinds = {
        "unsigned char": np.uint8,
        "uint8": np.uint8,
        "short": "<i2",
        "int16": "<i2",
        "unsigned short": "<u2",
        "float": "<f4",
    }
    raw = gzip.decompress(body) if fields["encoding"] == "gzip" else body
    sizes = [int(size) for size in fields["sizes"].split()]
    values = np.frombuffer(raw, kinds[fields["type"]]).reshape(sizes, order="F")
    affine = np.eye(4)
    for axis, vector in enumerate(fields["space directions"].split(") (")):
        affine[:3, axis] = [float(x) for x in vector.strip("() ").split(",")]
    affine[:3, 3] = [float(x) for x in fields["space origin"].strip("() ").split(",")]
    return values, affine
