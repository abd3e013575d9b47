"""What senders were promised and archives have, against what the node holds: differences as sentences."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom_node.workflow.ledger import Sent, State
from tests.receive.images import data_set_of
from tests.support.running import entries_of
from tests.torture.material import Series
from tests.torture.sender import content_of

_HAS_IT = (Sent.DONE, Sent.COMMITTED)


@dataclass(frozen=True)
class Result:
    """One published result of the node.

    Attributes
    ----------
    objects : path of each object by SOP Instance UID
    """

    series_uid: str
    report: Dataset
    objects: Mapping[str, Path]

    @property
    def version(self) -> int:
        return int(self.report.InstanceNumber)

    @property
    def images(self) -> set[str]:
        """SOP Instance UIDs of the source images that the report refers to."""
        return {
            str(instance.ReferencedSOPInstanceUID)
            for study in self.report.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            if series.SeriesInstanceUID == self.series_uid
            for instance in series.ReferencedSOPSequence
        }

    @property
    def predecessors(self) -> list[str]:
        """SOP Instance UIDs of the reports that this one replaces."""
        return [
            str(instance.ReferencedSOPInstanceUID)
            for study in self.report.get("PredecessorDocumentsSequence", [])
            for series in study.ReferencedSeriesSequence
            for instance in series.ReferencedSOPSequence
        ]


@dataclass(frozen=True)
class Evidence:
    """What is known once all is quiet and the node is stopped.

    Attributes
    ----------
    acknowledged : digests of the pixels that were answered with Success, by SOP Instance UID
    folder : of the node
    archives : by name, the digest of each data set by SOP Instance UID
    comings : digests of the data sets that came to an archive, by SOP Instance UID
    """

    series: Sequence[Series]
    acknowledged: Mapping[str, set[str]]
    folder: Path
    archives: Mapping[str, Mapping[str, str]]
    comings: Mapping[str, Sequence[str]]

    @cached_property
    def results(self) -> list[Result]:
        """Every published result."""
        return results_of(self.folder)


def results_of(folder: Path) -> list[Result]:
    """Every result that a node published, by series and version."""
    found = []
    for path in folder.glob("results/*/*/result.json"):
        summary = json.loads(path.read_text())
        objects = {o["sop_instance_uid"]: path.parent / o["file"] for o in summary["objects"]}
        (report,) = (dcmread(p) for p in objects.values() if p.name == "sr.dcm")
        found.append(Result(summary["series_instance_uid"], report, objects))
    return sorted(found, key=lambda result: (result.series_uid, result.version))


def violations(evidence: Evidence) -> list[str]:
    """Everything that is not as it was promised."""
    return [
        *_lost_images(evidence),
        *_unfinished_work(evidence),
        *_wrong_results(evidence),
        *_wrong_deliveries(evidence),
        *_left_parts(evidence),
    ]


def _lost_images(evidence: Evidence) -> Iterator[str]:
    kept: defaultdict[str, set[str]] = defaultdict(set)
    for path in evidence.folder.glob("spool/series/*/*"):
        uid, _, kind = path.name.rpartition(".")
        if kind != "dcm" and not kind.startswith("conflict-"):
            yield f"{path} is no image"
            continue
        kept[uid].add(content_of(path))
    for uid, contents in evidence.acknowledged.items():
        if lost := len(contents - kept[uid]):
            yield f"image {uid}: {lost} of {len(contents)} acknowledged contents are not in the spool"


def _unfinished_work(evidence: Evidence) -> Iterator[str]:
    entries = entries_of(evidence.folder)
    by_job = {entry.job_id: entry for entry in entries}
    for entry in entries:
        if entry.state not in (State.DONE, State.SKIPPED):
            yield f"job {entry.job_id} is {entry.state}: {entry.detail}"
        for delivery in entry.deliveries:
            if delivery.state not in _HAS_IT:
                yield f"job {entry.job_id} to {delivery.destination} is {delivery.state}: {delivery.detail}"
    for series in evidence.series:
        uids = sorted(uid for uid in series.uids if uid in evidence.acknowledged)
        digest = hashlib.sha256("\n".join(uids).encode()).hexdigest()[:16]
        entry = by_job.get(f"{series.uid}-{digest}")
        if entry is None:
            yield f"series {series.uid}: no job has all its {len(uids)} acknowledged images"
        elif entry.state is not State.DONE:
            yield f"series {series.uid}: its whole is {entry.state}"


def _wrong_results(evidence: Evidence) -> Iterator[str]:
    by_series: defaultdict[str, list[Result]] = defaultdict(list)
    for result in evidence.results:
        by_series[result.series_uid].append(result)
    in_latest: Counter[str] = Counter()
    for series in evidence.series:
        versions = by_series.pop(series.uid, [])
        if not versions:
            yield f"series {series.uid} has no result"
            continue
        in_latest.update(versions[-1].images)
        expected = {uid for uid in series.uids if uid in evidence.acknowledged}
        if difference := expected ^ versions[-1].images:
            yield f"series {series.uid}: its latest result differs by {len(difference)} images"
        yield from _wrong_chain(series, versions)
        for result in versions:
            yield from _wrong_identity(series, result)
    for uid in by_series:
        yield f"series {uid} has a result and was never sent"
    for uid, count in in_latest.items():
        if count != 1:
            yield f"image {uid} is in {count} latest results"


def _wrong_chain(series: Series, versions: Sequence[Result]) -> Iterator[str]:
    before: list[str] = []
    for result in versions:
        if result.predecessors != before:
            yield (
                f"series {series.uid}: version {result.version} names {result.predecessors} as predecessor, "
                f"not {before}"
            )
        before = [str(result.report.SOPInstanceUID)]
    numbers = [result.version for result in versions]
    if len(set(numbers)) != len(numbers):
        yield f"series {series.uid}: versions {numbers}"
    of_report = {str(result.report.SeriesInstanceUID) for result in versions}
    if len(of_report) != 1:
        yield f"series {series.uid}: its versions are in {len(of_report)} result series"


def _wrong_identity(series: Series, result: Result) -> Iterator[str]:
    for uid, path in result.objects.items():
        found = dcmread(path, stop_before_pixels=True)
        if (found.PatientID, found.StudyInstanceUID) != (series.patient, series.study):
            yield f"result {uid} of series {series.uid} is of another patient or study"


def _wrong_deliveries(evidence: Evidence) -> Iterator[str]:
    made = {uid: path for result in evidence.results for uid, path in result.objects.items()}
    count = sum(len(result.objects) for result in evidence.results)
    if count != len(made):
        yield f"{count} result objects have {len(made)} SOP Instance UIDs"
    for name, archive in evidence.archives.items():
        for uid in made.keys() - archive.keys():
            yield f"{name} lacks {made[uid]}"
        for uid in archive.keys() - made.keys():
            yield f"{name} has {uid}, which is in no result"
        for uid in made.keys() & archive.keys():
            if hashlib.sha256(data_set_of(made[uid])).hexdigest() != archive[uid]:
                yield f"{name} has other bytes than {made[uid]}"
    for uid, digests in evidence.comings.items():
        if len(set(digests)) != 1:
            yield f"{uid} came {len(digests)} times with {len(set(digests))} contents"


def _left_parts(evidence: Evidence) -> Iterator[str]:
    for path in evidence.folder.rglob("*.part"):
        yield f"{path} is left"
