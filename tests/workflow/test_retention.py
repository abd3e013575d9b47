"""What is deleted, when, and what is kept; late images; crashes between any two deletions; two processes.

The book is written as the node writes it; a whole node runs in the last tests. Not covered: which
instances a network file system shows after a crash of its server.
"""

from __future__ import annotations

import gc
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.deliver.cstore import Peer, send_files
from dicom_node.receive.completion import look
from dicom_node.receive.instance import Incoming
from dicom_node.receive.spool import Spool
from dicom_node.results.files import read_predecessor, read_result_set
from dicom_node.settings import Completion, Destination, Settings
from dicom_node.settings import Retention as Rules
from dicom_node.trial.archive import Archive
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.ledger import Delivery, Ledger, Sent, State
from dicom_node.workflow.retention import Holding, Housekeeping, Intake, Retention, What
from dicom_node.workflow.series_job import job_id_of
from dicom_node.workflow.worked import Outcome
from tests.receive.images import encode, mr_image
from tests.support.running import (
    entries_of,
    free_port,
    node_process,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import image_spot

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=100)
UID = "1.2.826.0.1.3680043.10.1.7"


class Jobs:
    """Where complete series go instead of to an analysis."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def enqueue(self, series: object) -> None:
        self.taken.append(series.instances)


class Shelf:
    """A node's folder, without the node."""

    def __init__(self, folder: Path, rules: dict[str, float], commitment: str = "off") -> None:
        pacs = Destination(name="pacs", ae_title="PACS", host="h", port=1, commitment=commitment)
        self.settings = Settings(
            folder=folder,
            completion=Completion(longest_s=60),
            retention=Rules(**rules),
            destinations=(pacs,),
        )
        self.spool = Spool(folder / "spool", 0)
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.jobs = Jobs()
        self.intake = Intake(self.spool, self.ledger, self.jobs)
        self.retention = Retention(self.settings, self.spool, self.ledger)

    def receive(self, *numbers: int, uid: str = UID, seed: int = 0, size: int = 32) -> None:
        for number in numbers:
            image = mr_image(number, series=uid, seed=seed, size=size)
            part = self.spool.begin(
                Incoming(image.SOPClassUID, image.SOPInstanceUID, ExplicitVRLittleEndian, "NODE", "MR", 1)
            )
            part.write(encode(image, ExplicitVRLittleEndian))
            part.commit()

    def enter(self, state: State, sent: Sent | None = None, uid: str = UID) -> str:
        """Write into the book what became of the images that are there; the job's id."""
        series = look(self.spool, uid)
        job_id = job_id_of(series)
        self.ledger.open_job(job_id, uid, series.instances)
        parcels = {"pacs": "{}"} if sent else None
        folder = self.settings.folder / "results" / uid / job_id.removeprefix(f"{uid}-")
        self.ledger.update(
            job_id, State.SENDING if sent else state, outcome=Outcome.FINDINGS, folder=folder, parcels=parcels
        )
        if sent:
            (delivery,) = self.ledger.entry(job_id).deliveries
            self.ledger.deliver(job_id, Delivery("pacs", sent, 1, "", ticket=delivery.ticket))
            folder.mkdir(parents=True)
            for kind in ("seg", "sc", "sr"):
                write_object(folder / f"{kind}.dcm", kind)
            (folder / "result.json").write_text("{}")
        return job_id

    def take(self, uid: str = UID) -> None:
        self.intake.take(look(self.spool, uid))

    def due(self, now: datetime = LATER) -> list[What]:
        return [holding.what for holding in self.retention.due(now)]


def write_object(path: Path, kind: str) -> None:
    dataset = mr_image(1)
    dataset.SeriesInstanceUID = f"{UID}.{len(kind)}"
    dataset.SeriesDate, dataset.SeriesTime = "20260101", "120000"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def shelf(tmp_path: Path) -> Callable[..., Shelf]:
    shelves: list[Shelf] = []

    def make(commitment: str = "off", **rules: float) -> Shelf:
        shelves.append(Shelf(tmp_path / f"var{len(shelves)}", rules, commitment))
        return shelves[-1]

    yield make
    for each in shelves:
        each.ledger.close()


BOTH = {"images_days": 7, "results_days": 30}


def test_without_rules_nothing_is_ever_deleted(shelf: Callable[..., Shelf]) -> None:
    node = shelf()
    node.receive(1, 2)
    node.enter(State.DONE, Sent.DONE)
    assert node.due() == []


def test_images_and_results_go_after_their_days_and_not_before(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    node.receive(1, 2)
    node.receive(2, seed=1)  # a conflict
    node.enter(State.DONE, Sent.DONE)
    assert node.due(NOW + timedelta(days=6.9)) == []
    assert node.due(NOW + timedelta(days=7.1)) == [What.IMAGES]
    (images,) = node.retention.clean(NOW + timedelta(days=7.1))
    assert len(images.paths) == 3
    assert not list((node.settings.folder / "spool/series").iterdir())
    assert node.due(NOW + timedelta(days=29.9)) == []
    (results,) = node.retention.clean(NOW + timedelta(days=30.1))
    assert results.what is What.RESULTS
    assert node.retention.clean(LATER) == []


@pytest.mark.parametrize(
    ("state", "sent", "expected"),
    [
        (State.WAITING, None, []),
        (State.ANALYSING, None, []),
        (State.SENDING, Sent.RETRYING, []),
        (State.SENDING, Sent.ASKED, []),
        (State.UNDELIVERED, Sent.FAILED, []),
        (State.FAILED, None, []),
        (State.SKIPPED, None, [What.IMAGES]),
        (State.DONE, None, [What.IMAGES]),
        (State.DONE, Sent.DONE, [What.IMAGES, What.RESULTS]),
        (State.DONE, Sent.COMMITTED, [What.IMAGES, What.RESULTS]),
    ],
)
def test_only_what_nobody_needs_goes(
    shelf: Callable[..., Shelf], state: State, sent: Sent | None, expected: list[What]
) -> None:
    node = shelf(**BOTH, maximum_gb=1e-9)
    node.receive(1, 2)
    node.enter(state, sent)
    assert sorted(node.due()) == expected


def test_images_that_no_job_knows_of_are_never_deleted(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH, maximum_gb=1e-9)
    node.receive(1, 2)
    assert node.due() == []
    node.enter(State.DONE, Sent.DONE)
    node.receive(3)  # late: its version was not analysed yet
    assert What.IMAGES not in node.due()


def test_results_without_a_destination_are_the_only_ones_and_stay(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    node.receive(1)
    job_id = node.enter(State.DONE)
    folder = node.settings.folder / "results" / UID / job_id.removeprefix(f"{UID}-")
    folder.mkdir(parents=True)
    write_object(folder / "sr.dcm", "sr")
    assert node.due() == [What.IMAGES]


def test_where_commitment_is_required_sent_is_not_enough(shelf: Callable[..., Shelf]) -> None:
    for sent, expected in ((Sent.DONE, [What.IMAGES]), (Sent.COMMITTED, [What.IMAGES, What.RESULTS])):
        node = shelf(commitment="required", **BOTH)
        node.receive(1)
        node.enter(State.DONE, sent)
        assert sorted(node.due()) == expected


def test_beyond_the_maximum_the_oldest_go_first_and_no_more_than_needed(shelf: Callable[..., Shelf]) -> None:
    node = shelf(maximum_gb=1.0)
    for number, days in ((1, 30), (2, 40), (3, 20)):
        uid = f"{UID}.{number}"
        node.receive(1, 2, uid=uid, size=256)
        node.enter(State.SKIPPED, uid=uid)
        for path in node.spool.instances(uid):
            os.utime(path, (time.time() - days * 86400,) * 2)
    # The book's times are now: only the order of the files' times can differ from it
    held = sum(p.stat().st_size for p in (node.settings.folder / "spool/series").rglob("*.dcm"))
    object.__setattr__(node.settings.retention, "maximum_gb", held * 0.6 / (1 << 30))
    due = node.retention.due(LATER)
    assert [holding.name for holding in due] == [f"{UID}.1", f"{UID}.2"]
    object.__setattr__(node.settings.retention, "maximum_gb", held * 1.1 / (1 << 30))
    assert node.retention.due(LATER) == []


def test_what_stays_is_not_kept_in_memory_while_the_rest_is_looked_for(
    shelf: Callable[..., Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shelf(images_days=7)
    for number in range(5):
        here.receive(1, uid=f"{UID}.{number}")
        here.enter(State.SKIPPED, uid=f"{UID}.{number}")
    holdings, at_once = here.retention._holdings, []

    def counted(now: datetime) -> Iterator[Holding]:
        for holding in holdings(now):
            yield holding
            at_once.append(sum(isinstance(each, Holding) for each in gc.get_objects()))

    monkeypatch.setattr(here.retention, "_holdings", counted)
    assert here.retention.due(NOW) == []
    assert len(at_once) == 5
    assert at_once[-1] == at_once[0] > 0
    assert len(here.retention.due(LATER)) == 5


def test_what_still_may_be_arriving_stays_whatever_the_size(shelf: Callable[..., Shelf]) -> None:
    node = shelf(maximum_gb=1e-9)
    node.receive(1)
    node.enter(State.SKIPPED)
    assert node.due(datetime.now(UTC) + timedelta(seconds=50)) == []
    assert node.due(datetime.now(UTC) + timedelta(seconds=70)) == [What.IMAGES]


def test_a_late_image_of_a_deleted_series_is_told_of_and_not_analysed(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    node.receive(1, 2, 3)
    node.enter(State.DONE, Sent.DONE)
    node.retention.clean(LATER)
    node.receive(4)
    node.take()
    assert node.jobs.taken == []
    late, _ = node.ledger.entries(series_instance_uid=UID)
    assert late.state is State.FAILED
    assert "1 late images; 3 images of this series were deleted" in late.detail
    assert late.remedy == "send the whole series again"
    assert late in node.ledger.failed()
    assert node.due() == []  # nobody has looked at it

    node.receive(1, 2)  # the series comes again, with a pause
    node.take()
    assert node.jobs.taken == []
    node.receive(3)
    node.take()
    assert node.jobs.taken == [4]
    node.enter(State.DONE, Sent.DONE)
    assert node.due() == [What.IMAGES, What.RESULTS]
    assert node.ledger.entries(series_instance_uid=UID)[0].version > 1


def test_a_deleted_series_that_comes_again_in_part_is_nothing_new(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    node.receive(1, 2, 3)
    node.enter(State.DONE, Sent.DONE)
    node.retention.clean(LATER)
    node.receive(2)
    node.take()
    assert node.jobs.taken == []
    assert len(node.ledger.entries(series_instance_uid=UID)) == 1
    assert What.IMAGES not in node.due(NOW + timedelta(days=6))
    assert What.IMAGES in node.due(NOW + timedelta(days=8))
    node.receive(1, 3)
    node.take()
    assert node.jobs.taken == [3]  # the same version: the book knows it


@pytest.mark.parametrize("survives", [1, 2, 3])
def test_a_crash_between_two_deletions_leaves_nothing_that_is_analysed(
    shelf: Callable[..., Shelf], survives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = shelf(**BOTH)
    node.receive(1, 2, 3)
    node.enter(State.DONE, Sent.DONE)
    unlink, count = Path.unlink, 0

    def die(path: Path, missing_ok: bool = False) -> None:
        nonlocal count
        count += 1
        if count == survives:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", die)
    with pytest.raises(KeyboardInterrupt):
        node.retention.clean(LATER)
    monkeypatch.undo()
    left = look(node.spool, UID)
    assert left is not None
    assert left.instances == 4 - survives
    node.intake.take(left)
    assert node.jobs.taken == ([3] if survives == 1 else [])  # whole: the version that the book knows
    assert What.IMAGES in [h.what for h in node.retention.clean(LATER)]
    assert look(node.spool, UID) is None


def test_a_crash_within_the_deletion_of_results_is_gone_on_with(
    shelf: Callable[..., Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = shelf(results_days=30)
    node.receive(1)
    node.enter(State.DONE, Sent.DONE)
    (folder,) = (node.settings.folder / "results").glob("*/*")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        node.retention.clean(LATER)
    monkeypatch.undo()
    assert read_result_set(folder) is not None
    (holding,) = node.retention.clean(LATER)
    assert [path.name for path in holding.paths] == ["result.json", "sc.dcm", "seg.dcm", "sr.dcm"]


def test_what_a_later_version_must_know_of_deleted_results_is_kept_without_patient_data(
    shelf: Callable[..., Shelf],
) -> None:
    node = shelf(results_days=30)
    node.receive(1)
    node.enter(State.DONE, Sent.DONE)
    (folder,) = (node.settings.folder / "results").glob("*/*")
    before = read_result_set(folder)
    node.retention.clean(LATER)
    assert read_result_set(folder) is None
    after = read_predecessor(folder)
    assert [(o.kind, o.sop_instance_uid, o.series_instance_uid) for o in after.objects] == [
        (o.kind, o.sop_instance_uid, o.series_instance_uid) for o in before.objects
    ]
    assert after.study_instance_uid == before.study_instance_uid
    for made in after.objects:
        kept = pydicom.dcmread(made.path)
        assert kept.SeriesDate == "20260101"
        assert "PatientName" not in kept
        assert made.path.stat().st_size < 2000


def test_an_image_that_comes_between_finding_and_deleting_is_kept(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    node.receive(1, 2)
    node.enter(State.DONE, Sent.DONE)
    found: list[Holding] = node.retention.due(LATER)
    node.receive(3)
    assert not node.retention._delete(found[0], LATER)
    assert len(node.spool.instances(UID)) == 3


def test_taking_up_a_series_waits_for_its_deletion(shelf: Callable[..., Shelf]) -> None:
    node = shelf(**BOTH)
    node.receive(1, 2)
    series = look(node.spool, UID)
    with node.spool.exclusively():
        taking = threading.Thread(target=node.intake.take, args=(series,))
        taking.start()
        time.sleep(0.3)
        assert node.jobs.taken == []
        node.spool.delete(UID, node.spool.instances(UID))
    taking.join()
    assert node.jobs.taken == []


def test_rules_that_would_forget_a_result_before_its_images_are_refused() -> None:
    with pytest.raises(ValueError, match="results_days must not be less than images_days"):
        Rules(images_days=30, results_days=7)


def test_a_node_deletes_what_was_delivered_and_says_how_much_is_held(
    tmp_path: Path, spot_models: Path, series_of: Callable[..., list[Path]]
) -> None:
    paths, port, folder = series_of(image_spot()), free_port(), tmp_path / "var"

    def send(some: list[Path]) -> None:
        list(send_files(Peer("DICOM_NODE", "127.0.0.1", port, "TEST"), some))

    def say(*arguments: str) -> str:
        told = CliRunner().invoke(app, [*arguments, "--config", str(configuration)])
        assert told.exit_code == 0, told.output
        return told.stdout

    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        configuration = write_configuration(
            tmp_path / "node.toml",
            port=port,
            models=spot_models,
            destinations={"archive": ("ARCHIVE", archive.port)},
        )
        with node_process(configuration, port):
            send(paths[:-1])
            wait_until_ended(folder)
            assert "nothing is ever deleted" in say("clean")
            assert re.search(r"held: images of 1 series \(\S+ MB\), results \(\S+ MB\)", say("status"))
            text = configuration.read_text().replace("quiet_s = 3", "quiet_s = 3\nlongest_s = 4")
            configuration.write_text(f"{text}[retention]\nimages_days = 1e-5\nresults_days = 1e-5\n")
            time.sleep(6)
            dry = say("clean", "--dry-run")
            assert re.search(r"would be deleted: images of \S+: 11 files", dry)
            assert re.search(r"would be deleted: results of \S+: \d+ files", dry)
            assert len(list(folder.glob("spool/series/*/*.dcm"))) == 11
            assert re.search(r"deleted: images of .*\ndeleted: results of ", say("clean"))
            assert "held: images of 0 series (0.0 MB), results (0.0 MB)" in say("status")

            send(paths[-1:])  # late
            late, _ = wait_until_ended(folder, jobs=2)
            assert late.state is State.FAILED
            assert "send the whole series again" in say("status", "--failed")
            send(paths)
            wait_for(lambda: any(e.instances == len(paths) for e in entries_of(folder)))
            whole = next(e for e in wait_until_ended(folder, jobs=3) if e.instances == len(paths))
            assert whole.state is State.DONE
        reports = [d for d in map(pydicom.dcmread, archive.folder.glob("*.dcm")) if d.Modality == "SR"]
    first, second = sorted(reports, key=lambda report: "PredecessorDocumentsSequence" in report)
    (study,) = second.PredecessorDocumentsSequence
    named = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_finished_workflows_are_forgotten_and_others_are_not(tmp_path: Path) -> None:
    engine, ran = DurableEngine(tmp_path / "workflows.sqlite"), []
    run = engine.workflow("note", ran.append)
    queue = engine.queue("notes", at_once=1)
    engine.start()
    try:
        for number in range(3):
            engine.enqueue(queue, f"job-{number}", run, number)
        engine.enqueue_at(1, 3600, queue, "job-later", run, 3)
        wait_for(lambda: engine.under_way() == {"job-later"})
        assert engine.forget_ended(datetime.now(UTC) - timedelta(days=1)) == 0
        assert engine.forget_ended(datetime.now(UTC) + timedelta(seconds=1)) == 3
        assert engine.ended("job-") is None
        assert engine.under_way() == {"job-later"}
    finally:
        engine.stop(0)


def test_housekeeping_goes_on_after_a_failure_and_ends_when_told(shelf: Callable[..., Shelf]) -> None:
    node = shelf(images_days=1e-9)
    node.receive(1)
    node.enter(State.SKIPPED)
    for path in node.spool.instances(UID):
        os.utime(path, (0, 0))

    class Engine:
        asked = 0

        def forget_ended(self, before: datetime) -> int:
            self.asked += 1
            assert datetime.now(UTC) - before >= timedelta(days=30)
            if self.asked == 1:
                raise OSError
            return 0

    engine = Engine()
    housekeeping = Housekeeping(node.settings, node.retention, engine, every_s=0.05)
    housekeeping.start()
    wait_for(lambda: engine.asked >= 2)
    housekeeping.stop()
    assert not node.spool.series()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_deletes_stays_the_nodes_own(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    for path in (folder, folder / "spool", folder / "results"):
        path.mkdir()
        os.chown(path, 65534, 65534)
    node = Shelf(folder, BOTH)
    node.receive(1)
    node.enter(State.DONE, Sent.DONE)
    (made,) = (folder / "results").glob("*/*")
    os.chown(made, 65534, 65534)
    node.retention.clean(LATER)
    node.ledger.close()
    written = [*(folder / "spool/deleted").iterdir(), *made.rglob("*")]
    assert {path.name for path in written} == {".lock", UID, "deleted", "seg.dcm", "sc.dcm", "sr.dcm"}
    assert {path.stat().st_uid for path in [folder / "spool/deleted", *written]} == {65534}
