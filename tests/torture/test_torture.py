"""Nothing acknowledged is lost: a real node is killed at some of the worst moments, and the audit finds
nothing; and it does find each thing that could go wrong, where a test does that to what the node left.

``make torture`` does the same at every moment, hundreds of times. Not covered: a loss of power, where
the disk's own cache counts; damaged disks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.workflow.ledger import Ledger, State
from tests.torture.audit import Evidence, violations
from tests.torture.campaign import Options, Outcome, run
from tests.torture.moments import MOMENTS, moment_named, target_of

SOME = [
    "image flushed, not named",
    "receiver alone, image not told",
    "in the book, before its workflow",
    "while the SEG is written",
    "between two sends",
    "commitment asked",
]

# A busy machine starts a node in half a minute, and this starts eight
pytestmark = [pytest.mark.slow, pytest.mark.peer, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("torture")
    moments = [moment_named(name) for name in SOME]
    return run(Options(len(SOME), 3, folder, wait_s=90, moments=moments, aimed=1.0))


def test_nothing_acknowledged_is_lost_by_kills_at_the_worst_moments(outcome: Outcome) -> None:
    assert outcome.violations == []
    assert outcome.images == sum(len(series.uids) for series in outcome.evidence.series)
    assert all(life.hit for life in outcome.lives)


@pytest.fixture
def evidence(outcome: Outcome, tmp_path: Path) -> Evidence:
    """A copy that a test may spoil."""
    folder = tmp_path / "var"
    shutil.copytree(outcome.evidence.folder, folder)
    return replace(outcome.evidence, folder=folder)


def _first(evidence: Evidence, pattern: str) -> Path:
    return sorted(evidence.folder.glob(pattern))[0]


def _lose_an_image(evidence: Evidence) -> None:
    _first(evidence, "spool/series/*/*.dcm").unlink()


def _overwrite_an_image(evidence: Evidence) -> None:
    path = _first(evidence, "spool/series/*/*.dcm")
    dataset = dcmread(path)
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(path)


def _leave_a_part(evidence: Evidence) -> None:
    (evidence.folder / "spool/incoming/0.part").touch()


def _lose_a_result(evidence: Evidence) -> None:
    _first(evidence, "results/*/*/result.json").unlink()


def _change_a_result(evidence: Evidence) -> None:
    path = _first(evidence, "results/*/*/sr.dcm")
    dataset = dcmread(path)
    dataset.ContentTime = "000000"
    dataset.save_as(path)


def _give_a_result_to_another_patient(evidence: Evidence) -> None:
    path = _first(evidence, "results/*/*/sc.dcm")
    dataset = dcmread(path)
    dataset.PatientID = "T-0"
    dataset.save_as(path)


def _leave_an_image_out(evidence: Evidence) -> None:
    path = _first(evidence, "results/*/*/sr.dcm")
    dataset = dcmread(path)
    for series in dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence:
        if series.SeriesInstanceUID == path.parts[-3]:
            del series.ReferencedSOPSequence[0]
    dataset.save_as(path)


def _name_a_wrong_predecessor(evidence: Evidence) -> None:
    path = _first(evidence, "results/*/*/sr.dcm")
    dataset = dcmread(path)
    dataset.PredecessorDocumentsSequence = dataset.CurrentRequestedProcedureEvidenceSequence
    dataset.save_as(path)


def _fail_a_job(evidence: Evidence) -> None:
    ledger = Ledger(evidence.folder / "ledger.sqlite")
    ledger.update(ledger.entries()[0].job_id, State.FAILED)
    ledger.close()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_lose_an_image, "acknowledged contents are not in the spool"),
        (_overwrite_an_image, "acknowledged contents are not in the spool"),
        (_leave_a_part, "is left"),
        (_lose_a_result, "has no result"),
        (_change_a_result, "has other bytes than"),
        (_give_a_result_to_another_patient, "is of another patient or study"),
        (_leave_an_image_out, "its latest result differs by 1 images"),
        (_name_a_wrong_predecessor, "as predecessor"),
        (_fail_a_job, "is failed"),
    ],
)
def test_the_audit_finds_what_went_wrong(
    evidence: Evidence, spoil: Callable[[Evidence], None], told: str
) -> None:
    spoil(evidence)
    assert any(told in violation for violation in violations(evidence))


def _altered_archives(evidence: Evidence) -> Iterator[tuple[Evidence, str]]:
    archived = dict(evidence.archives["dcmtk"])
    uid = next(iter(archived))
    less = {other: digest for other, digest in archived.items() if other != uid}
    yield replace(evidence, archives={"dcmtk": less}), "dcmtk lacks"
    yield replace(evidence, archives={"dcmtk": {**archived, uid: "0"}}), "dcmtk has other bytes"
    yield replace(evidence, archives={"dcmtk": {**archived, "1.2": "0"}}), "which is in no result"
    twice = {**evidence.comings, uid: ["0", "1"]}
    yield replace(evidence, comings=twice), "came 2 times with 2 contents"


def test_the_audit_finds_what_an_archive_lacks_or_has_too_much(evidence: Evidence) -> None:
    for altered, told in _altered_archives(evidence):
        assert any(told in violation for violation in violations(altered)), told


@pytest.mark.parametrize("call", sorted({call for moment in MOMENTS for call in moment.calls}))
def test_every_moment_is_a_call_that_there_is(call: str) -> None:
    holder, name = target_of(call)
    assert callable(getattr(holder, name))
