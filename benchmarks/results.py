"""What results cost: SEG, report, and what is optional, of one long series.

The volume is in memory, as the analysis leaves it; each step is timed alone, in processor time, which
what else the machine does changes little, and as elapsed time. "SEG + SR" is what must stay below 0.3 s
for 200 slices; proof, writing and the other forms of the report are told apart::

    python -m benchmarks.results --slices 200 --size 256
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from dicom_node.analysis.findings import Algorithm, Findings
from dicom_node.analysis.lesions import find_lesions
from dicom_node.phantom.mr_series import mr_series
from dicom_node.results.capture import make_capture
from dicom_node.results.files import result_object, write_durably
from dicom_node.results.key_objects import make_key_objects
from dicom_node.results.older_report import OLDER_CLASSES, make_older_report
from dicom_node.results.parametric_map import make_parametric_map
from dicom_node.results.picture import png, slice_picture
from dicom_node.results.proof import prove_results
from dicom_node.results.provenance import Provenance, Source
from dicom_node.results.report import make_report
from dicom_node.results.report_without_segmentation import make_report_without_segmentation
from dicom_node.results.result_set import Kind
from dicom_node.results.segmentation import make_segmentation
from dicom_node.series.volume import Contrast, FrameReference, MRVolume

LIMIT_S = 0.3
SPACING_MM = (1.0, 0.9, 0.9)

Times = defaultdict[str, list[tuple[float, float]]]


def volume_of(slices: int, size: int) -> MRVolume:
    """A series of noise, its headers as they are read from files."""
    voxels = np.random.default_rng(0).integers(0, 1000, (slices, size, size)).astype(np.float32)
    affine = np.diag([SPACING_MM[2], SPACING_MM[1], SPACING_MM[0], 1.0])
    headers = []
    for dataset in mr_series(voxels, affine):
        file = BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        file.seek(0)
        headers.append(dcmread(file, stop_before_pixels=True))
    frames = tuple(FrameReference(str(h.SOPClassUID), str(h.SOPInstanceUID)) for h in headers)
    return MRVolume(voxels, affine, frames, tuple(headers), Contrast.FLAIR)


def findings_of(volume: MRVolume) -> Findings:
    """One lesion over a third of the slices and a small one, with smooth probabilities."""
    slices, rows, columns = volume.shape
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in volume.shape), indexing="ij", sparse=True)
    away = np.sqrt(sum((axis / r) ** 2 for axis, r in zip(grid, (0.4, 0.2, 0.25), strict=True)))
    probability = (1 / (1 + np.exp(8 * (away - 1)))).astype(np.float32)
    probability[slices // 8 : slices // 6, rows // 8 : rows // 6, columns // 8 : columns // 6] = 0.9
    labels, lesions = find_lesions(volume, probability, 0.5, 0.1)
    seen = probability.max(axis=(1, 2)) > 0.1
    algorithm = Algorithm("benchmark", "1.0", "5e" * 32, (("threshold", "0.5"),))
    return Findings(probability.max(axis=(1, 2)), seen, seen, probability, labels, lesions, algorithm)


@contextmanager
def timed(times: Times, step: str) -> Iterator[None]:
    """Note processor and elapsed time of a step."""
    began = time.process_time(), time.monotonic()
    yield
    times[step].append((time.process_time() - began[0], time.monotonic() - began[1]))


def one_round(volume: MRVolume, findings: Findings, folder: Path, times: Times) -> dict[Kind, int]:
    """Make every kind of object once; gives their sizes in bytes."""
    source = Source.of_headers(volume.headers)
    provenance = Provenance(source, findings.algorithm, "site", "c0ffee", datetime.now(UTC))
    made: dict[Kind, Dataset] = {}
    with timed(times, "SEG"):
        made[Kind.SEG] = make_segmentation(volume, findings, provenance)
    with timed(times, "SR"):
        made[Kind.SR] = make_report(volume, findings, provenance, segmentation=made[Kind.SEG])
    usual = dict(made)
    with timed(times, "picture and SC"):
        index = findings.lesions[0].largest_slice
        picture = slice_picture(volume, findings, index)
        png(picture)
        made[Kind.SC] = make_capture(picture, provenance, volume.frames[index])
    with timed(times, "Parametric Map"):
        made[Kind.PM] = make_parametric_map(volume, findings, provenance)
    with timed(times, "Key Object Selection"):
        made[Kind.KOS] = make_key_objects(volume, findings, provenance)
    paths = {kind: folder / f"{kind}.dcm" for kind in made}
    with timed(times, "write SEG and SR"):
        for kind in usual:
            write_durably(made[kind], paths[kind])
    with timed(times, "prove SEG and SR"):
        prove_results({kind: paths[kind] for kind in usual}, volume, findings)
    for kind in made.keys() - usual.keys():
        write_durably(made[kind], paths[kind])
    with timed(times, "prove all"):
        prove_results(paths, volume, findings)
    report = result_object(Kind.SR, made[Kind.SR], paths[Kind.SR])
    with timed(times, "SR in 5 other forms"):
        for form in (report, make_report_without_segmentation(report)):
            for sop_class_uid in OLDER_CLASSES:
                make_older_report(form, sop_class_uid)
    return {kind: path.stat().st_size for kind, path in paths.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=256, help="rows and columns")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    volume = volume_of(arguments.slices, arguments.size)
    findings = findings_of(volume)
    times: Times = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        one_round(volume, findings, Path(folder), defaultdict(list))  # imports, and tables made at first use
        for _ in range(arguments.rounds):
            sizes = one_round(volume, findings, Path(folder), times)
    times["SEG + SR"] = [
        (seg[0] + sr[0], seg[1] + sr[1]) for seg, sr in zip(times["SEG"], times["SR"], strict=True)
    ]
    frames = sum(int((findings.labels == each.number).any(axis=(1, 2)).sum()) for each in findings.lesions)
    print(f"{arguments.slices} slices of {arguments.size} x {arguments.size}; SEG of {frames} frames")
    for step, each in times.items():
        cpu, elapsed = (statistics.median(column) for column in zip(*each, strict=True))
        limit = f"   (limit {1000 * LIMIT_S:.0f} ms)" if step == "SEG + SR" else ""
        print(f"{step:22} {1000 * cpu:7.0f} ms of CPU, {1000 * elapsed:7.0f} ms elapsed{limit}")
    print(", ".join(f"{kind} {size / 1024:.0f} kB" for kind, size in sizes.items()))


if __name__ == "__main__":
    main()
