"""The face of the results station: from findings, or from a failure, to proven objects on disk."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom_node.analysis.findings import Algorithm, Findings
from dicom_node.results.capture import make_capture
from dicom_node.results.files import publish
from dicom_node.results.identity import any_character_set
from dicom_node.results.key_objects import key_slices, make_key_objects
from dicom_node.results.parametric_map import make_parametric_map
from dicom_node.results.picture import Picture, card, slice_picture
from dicom_node.results.proof import prove_failure, prove_results
from dicom_node.results.provenance import Provenance, Source
from dicom_node.results.report import (
    RESEARCH_USE_SENTENCE,
    make_failed_report,
    make_report,
    report_of,
    sentence,
    summary,
)
from dicom_node.results.result_set import Kind, ResultSet
from dicom_node.results.segmentation import make_segmentation
from dicom_node.series.volume import FrameReference, MRVolume


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
    version: int = 1,
    run: int = 1,
) -> ResultSet:
    """Make, prove and write the objects of one analysed volume.

    The same arguments give the same bytes, so that a repeated call does no harm.

    Parameters
    ----------
    kinds : wanted; the report is always made, a SEG only when there is a lesion, and then the picture
        too, which takes its place at a destination that refuses it
    folder : gets ``seg.dcm`` and so on, one for each kind, and ``picture.png``
    made_at : aware; every date and time of creation in the objects
    limitations : of the models, in sentences, for the report
    predecessor : the result that this one replaces
    version : of the series' results, from 1
    run : of these very images, from 1

    Raises
    ------
    ResultInvalid
        When an object fails its proof; then none is left in the folder.
    """
    source = Source.of_headers(volume.headers)
    provenance = Provenance(
        source,
        findings.algorithm,
        site_salt,
        configuration_digest,
        made_at,
        outcome=_analysed(volume),
        version=version,
        run=run,
    )
    provenance = replace(provenance, began=_began(provenance, predecessor))
    shown: FrameReference | None = None
    if findings.lesions:
        # that of the largest lesion's outline in the report
        picture = slice_picture(volume, findings, findings.key_slice)
        shown = volume.frames[findings.key_slice]
    else:
        picture = _negative_card(findings, limitations)
    made: dict[Kind, Dataset] = {}
    if Kind.SEG in kinds and findings.lesions:
        made[Kind.SEG] = make_segmentation(volume, findings, provenance)
    if Kind.PM in kinds and findings.segmented.any():
        made[Kind.PM] = make_parametric_map(volume, findings, provenance)
    if Kind.SC in kinds or Kind.SEG in made:
        made[Kind.SC] = make_capture(picture, provenance, shown)
    if Kind.KOS in kinds and key_slices(findings):
        made[Kind.KOS] = make_key_objects(volume, findings, provenance)
    made[Kind.SR] = make_report(
        volume,
        findings,
        provenance,
        segmentation=made.get(Kind.SEG),
        limitations=limitations,
        predecessor=predecessor,
    )
    return publish(made, picture, folder, lambda paths: prove_results(paths, volume, findings, predecessor))


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
    version: int = 1,
    run: int = 1,
    apart: bool = False,
) -> ResultSet:
    """Make, prove and write the report of an analysis that failed, and a card that says the same.

    Parameters
    ----------
    headers : of one patient and study; pixels and geometry may be missing or broken
    cause : in plain words, without patient data
    algorithm : that would have been applied
    apart : the series mixes patients or studies, and these are the headers of one of them

    Raises
    ------
    ResultInvalid
        When an object fails its proof, or the headers are not of one patient and study.
    """
    source = Source.of_headers(headers)
    provenance = Provenance(
        source,
        algorithm,
        site_salt,
        configuration_digest,
        made_at,
        outcome=f"failed: {cause}",
        version=version,
        run=run,
        apart=apart,
    )
    provenance = replace(provenance, began=_began(provenance, predecessor))
    no_statement = f"No statement is made about any {algorithm.finding.label}."
    told = sentence(cause[:1].upper() + cause[1:])
    picture = card("The analysis failed", (told, no_statement, limitations))
    made: dict[Kind, Dataset] = {}
    if Kind.SC in kinds:
        made[Kind.SC] = make_capture(picture, provenance)
    made[Kind.SR] = make_failed_report(cause, provenance, limitations=limitations, predecessor=predecessor)
    return publish(made, picture, folder, lambda paths: prove_failure(paths, headers, predecessor))


def _analysed(volume: MRVolume) -> str:
    """Tell two volumes apart that are frames of the same instances."""
    numbers = sorted(frame.frame_number for frame in volume.frames if frame.frame_number is not None)
    return " ".join(["analysed", *map(str, numbers)])


def _began(provenance: Provenance, predecessor: ResultSet | None) -> tuple[str, str] | None:
    """When the series began to which this version is added: one date for all of a series (PS3.3 C.7.3.1)."""
    if predecessor is None:
        return None
    report = report_of(predecessor)
    if report.series_instance_uid != provenance.series_uid(Kind.SR):
        return None
    header = dcmread(report.path, specific_tags=["SeriesDate", "SeriesTime"])
    return str(header.SeriesDate), str(header.SeriesTime)


def _negative_card(findings: Findings, limitations: str) -> Picture:
    label = findings.algorithm.finding.label
    title = "The models disagree" if findings.slice_positive.any() else f"No {label} found by the models"
    return card(title, (summary(findings), RESEARCH_USE_SENTENCE, limitations))
