"""The face of the results station: from findings, or from a failure, to proven objects on disk."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from pydicom import Dataset

from dicom_node.analysis.findings import Algorithm, Findings
from dicom_node.results.capture import make_capture
from dicom_node.results.identity import any_character_set
from dicom_node.results.picture import Picture, card, png, slice_picture
from dicom_node.results.proof import prove_failure, prove_results
from dicom_node.results.provenance import Provenance, Source
from dicom_node.results.report import (
    RESEARCH_USE_SENTENCE,
    has_findings,
    make_failed_report,
    make_report,
    summary,
)
from dicom_node.results.result_set import Kind, ResultObject, ResultSet
from dicom_node.results.segmentation import make_segmentation
from dicom_node.series.volume import FrameReference, MRVolume

PICTURE_NAME = "picture.png"

_Made = Mapping[Kind, Dataset]


@any_character_set()
def make_results(
    volume: MRVolume,
    findings: Findings,
    *,
    kinds: Collection[Kind],
    folder: Path,
    site_salt: str,
    configuration_digest: str,
    made_at: datetime,
    limitations: str = "",
    predecessor: ResultSet | None = None,
) -> ResultSet:
    """Make, prove and write the objects of one analysed volume.

    The same arguments give the same bytes, so that a repeated call does no harm.

    Parameters
    ----------
    kinds : wanted; the report is always made, a SEG only when there is a lesion
    folder : gets ``seg.dcm``, ``sc.dcm``, ``sr.dcm`` and ``picture.png``
    made_at : aware; every date and time of creation in the objects
    limitations : of the models, in sentences, for the report
    predecessor : the result that this one replaces

    Raises
    ------
    ResultInvalid
        When an object fails its proof; then none is left in the folder.
    """
    source = Source.of_headers(volume.headers)
    provenance = Provenance(
        source, findings.algorithm, site_salt, configuration_digest, made_at, outcome=_analysed(volume)
    )
    shown: FrameReference | None = None
    if has_findings(findings):
        key_slice = findings.key_slice
        picture = slice_picture(volume, findings, key_slice)
        shown = volume.frames[key_slice]
    else:
        picture = _negative_card(findings, limitations)
    made: dict[Kind, Dataset] = {}
    if Kind.SEG in kinds and findings.lesions:
        made[Kind.SEG] = make_segmentation(volume, findings, provenance)
    if Kind.SC in kinds:
        made[Kind.SC] = make_capture(picture, provenance, shown)
    made[Kind.SR] = make_report(
        volume,
        findings,
        provenance,
        segmentation=made.get(Kind.SEG),
        limitations=limitations,
        predecessor=predecessor,
    )
    parts = _write_parts(made, picture, folder)
    try:
        prove_results({kind: parts[kind.value] for kind in made}, volume, findings, predecessor)
    except BaseException:
        _discard(parts.values())
        raise
    return _keep(made, parts, folder)


@any_character_set()
def make_failure(
    headers: Sequence[Dataset],
    cause: str,
    *,
    algorithm: Algorithm,
    kinds: Collection[Kind],
    folder: Path,
    site_salt: str,
    configuration_digest: str,
    made_at: datetime,
    limitations: str = "",
    predecessor: ResultSet | None = None,
) -> ResultSet:
    """Make, prove and write the report of an analysis that failed, and a card that says the same.

    Parameters
    ----------
    headers : of one patient and study; pixels and geometry may be missing or broken
    cause : in plain words, without patient data
    algorithm : that would have been applied

    Raises
    ------
    ResultInvalid
        When an object fails its proof, or the headers are not of one patient and study.
    """
    source = Source.of_headers(headers)
    provenance = Provenance(
        source, algorithm, site_salt, configuration_digest, made_at, outcome=f"failed: {cause}"
    )
    picture = card("The analysis failed", (cause, "No statement is made about a tumour.", limitations))
    made: dict[Kind, Dataset] = {}
    if Kind.SC in kinds:
        made[Kind.SC] = make_capture(picture, provenance)
    made[Kind.SR] = make_failed_report(
        cause,
        provenance,
        limitations=limitations,
        predecessor=predecessor,
    )
    parts = _write_parts(made, picture, folder)
    try:
        prove_failure({kind: parts[kind.value] for kind in made}, headers, predecessor)
    except BaseException:
        _discard(parts.values())
        raise
    return _keep(made, parts, folder)


def _analysed(volume: MRVolume) -> str:
    """Tell two volumes apart that are frames of the same instances."""
    numbers = sorted(frame.frame_number for frame in volume.frames if frame.frame_number is not None)
    return " ".join(["analysed", *map(str, numbers)])


def _negative_card(findings: Findings, limitations: str) -> Picture:
    return card("No tumour found by the models", (summary(findings), RESEARCH_USE_SENTENCE, limitations))


def _write_parts(made: _Made, picture: Picture, folder: Path) -> dict[str, Path]:
    """Write everything under names that nobody takes for finished."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"picture": folder / f"{PICTURE_NAME}.part"}
    parts["picture"].write_bytes(png(picture))
    parts |= {kind.value: folder / f"{kind.value}.dcm.part" for kind in made}
    for kind, dataset in made.items():
        with parts[kind.value].open("wb") as file:
            dataset.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
    return parts


def _discard(parts: Collection[Path]) -> None:
    for path in parts:
        path.unlink(missing_ok=True)


def _keep(made: _Made, parts: Mapping[str, Path], folder: Path) -> ResultSet:
    """Give the proven files their names, the report last: it stands for the whole."""
    for part in parts.values():
        part.replace(part.with_suffix(""))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    objects = tuple(
        ResultObject(
            kind=kind,
            sop_class_uid=str(dataset.SOPClassUID),
            sop_instance_uid=str(dataset.SOPInstanceUID),
            series_instance_uid=str(dataset.SeriesInstanceUID),
            path=folder / f"{kind.value}.dcm",
        )
        for kind, dataset in made.items()
    )
    return ResultSet(str(made[Kind.SR].StudyInstanceUID), objects)
