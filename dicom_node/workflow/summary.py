"""``result.json``: what was found, for programs. No patient data beyond the DICOM UIDs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydicom import Dataset

from dicom_node import __version__
from dicom_node.analysis.bundle import Bundle
from dicom_node.analysis.findings import Axis, Findings, Lesion
from dicom_node.series.selection import Selection
from dicom_node.workflow.worked import Worked

FILE_NAME = "result.json"
NOTICE = "RESEARCH USE ONLY"


class JobSummary(NamedTuple):
    """What of a job can be told from its result, when the book is lost."""

    job_id: str
    version: int
    instances: int


def write_summary(
    folder: Path, header: Dataset, selection: Selection, worked: Worked, bundle: Bundle, job: JobSummary
) -> None:
    """Write ``result.json`` into the folder, whole or not at all."""
    summary = {
        "notice": NOTICE,
        "software": f"dicom-node {__version__}",
        "study_instance_uid": str(header.get("StudyInstanceUID", "")),
        "series_instance_uid": str(header.get("SeriesInstanceUID", "")),
        **({"job": job._asdict()} if job.job_id else {}),
        "pipeline": selection.pipeline.name if selection.pipeline else None,
        "contrast": selection.contrast,
        "bundle": {
            "name": bundle.manifest.name,
            "version": bundle.manifest.version,
            "weights_sha256": bundle.weights_sha256,
            "device": bundle.device,
            "detector_threshold": bundle.manifest.detector.threshold,
        },
        "outcome": worked.outcome,
        "detail": worked.detail,
        **(_findings(worked.findings, selection) if worked.findings else {}),
        "objects": [
            {"kind": o.kind, "file": str(o.path.relative_to(folder)), "sop_instance_uid": o.sop_instance_uid}
            for results in worked.results
            for o in results.objects
        ],
        "timings_s": {station: round(seconds, 3) for station, seconds in worked.timings_s.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{FILE_NAME}.part"
    part.write_text(json.dumps(summary, indent=2) + "\n")
    part.replace(folder / FILE_NAME)


def _findings(findings: Findings, selection: Selection) -> dict[str, Any]:
    frames = selection.stack.frames if selection.stack else ()
    rows = zip(frames, findings.slice_probability, findings.slice_positive, findings.segmented, strict=True)
    return {
        "slices": [
            {
                "sop_instance_uid": frame.reference.sop_instance_uid,
                "frame_number": frame.reference.frame_number,
                "tumour_probability": round(float(probability), 4),
                "positive": bool(positive),
                "segmented": bool(segmented),
            }
            for frame, probability, positive, segmented in rows
        ],
        "lesions": [_lesion(lesion) for lesion in findings.lesions],
    }


def _lesion(lesion: Lesion) -> dict[str, Any]:
    return {
        "number": lesion.number,
        "volume_ml": round(lesion.volume_ml, 3),
        "long_axis_mm": _length(lesion.long_axis),
        "perpendicular_axis_mm": _length(lesion.perpendicular_axis),
        "centroid_mm": [round(v, 2) for v in lesion.centroid_mm],
        "first_slice": lesion.slices[0] + 1,
        "last_slice": lesion.slices[1] + 1,
        "largest_slice": lesion.largest_slice + 1,
        "mean_probability": round(lesion.mean_probability, 4),
        "maximum_probability": round(lesion.maximum_probability, 4),
    }


def _length(axis: Axis) -> float:
    return round(axis.length_mm, 2)
