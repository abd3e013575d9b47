"""Storage commitment as archives do it: soon, on either association, early, twice, late, in part, never.

One node sends one series to many archives at once, each of which behaves in its own way; then it is
killed at the worst moments. Orthanc is in tests/peers/test_commitment.py, the receiving of reports in
tests/receive/test_event_report.py.
Not covered: archives that take days.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.deliver.cstore import Peer, send_files
from dicom_node.phantom.mr_series import mr_series, write_series
from dicom_node.workflow.ledger import Delivery, Entry, Sent, State
from tests.support.committing import Asked, Committing
from tests.support.running import (
    entries_of,
    free_port,
    node_process,
    say,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import image_spot

pytestmark = pytest.mark.slow


def keep(archive: Committing, asked: Asked) -> None:
    archive.report(asked.transaction_uid, asked.uids)


def keep_here(archive: Committing, asked: Asked) -> None:
    archive.report_on(asked.association, asked.transaction_uid, asked.uids)


def keep_twice(archive: Committing, asked: Asked) -> None:
    keep(archive, asked)
    keep(archive, asked)


def lack_the_last_at_first(archive: Committing, asked: Asked) -> None:
    if len(archive.asked) > 1:
        keep(archive, asked)
    else:
        archive.report(asked.transaction_uid, asked.uids[:-1], {asked.uids[-1]: 0x0112})


def lack_all(archive: Committing, asked: Asked) -> None:
    archive.report(asked.transaction_uid, (), dict.fromkeys(asked.uids, 0x0122))


def pass_over_one(archive: Committing, asked: Asked) -> None:
    archive.report(asked.transaction_uid, asked.uids if len(archive.asked) > 1 else asked.uids[1:])


def keep_late(archive: Committing, asked: Asked) -> None:
    """Answer the first request after the second was made."""
    if len(archive.asked) == 2:
        keep(archive, archive.asked[0])


def busy_at_first(archive: Committing, _asked: Asked) -> int | None:
    return 0x0213 if len(archive.asked) == 1 else None


@dataclass
class Run:
    archives: dict[str, Committing]
    entry: Entry
    folder: Path
    status: str
    log: str

    def delivery(self, name: str) -> Delivery:
        return next(d for d in self.entry.deliveries if d.destination == name)


def destination(archive: Committing, commitment: str, timeout_s: float) -> str:
    return "\n".join(
        (
            f'ae_title = "{archive.title}"\nhost = "127.0.0.1"\nport = {archive.port}',
            f'commitment = "{commitment}"\ncommitment_timeout_s = {timeout_s}\ncommitment_attempts = 2',
            f"commitment_hold_s = {30 if archive.after is keep_here else 0.1}",
        )
    )


def new_series(folder: Path) -> list[Path]:
    spot = image_spot()
    return write_series(mr_series(spot.voxels, spot.affine), folder)


def send(paths: list[Path], port: int) -> None:
    assert len(list(send_files(Peer("DICOM_NODE", "127.0.0.1", port, "TEST"), paths))) == len(paths)


def transactions(folder: Path) -> set[str]:
    with closing(sqlite3.connect(f"file:{folder / 'var' / 'commitments.sqlite'}?mode=ro", uri=True)) as book:
        return {uid for (uid,) in book.execute("SELECT transaction_uid FROM transactions")}


def is_waiting(folder: Path) -> bool:
    """Whether the request is done with and its deadline is kept."""
    path = folder / "var" / "workflows.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as workflows:
        query = "SELECT status FROM workflow_status WHERE workflow_uuid LIKE '%/ask-%'"
        return workflows.execute(query).fetchall() == [("SUCCESS",)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, spot_models: Path) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("commitment")
    port = free_port()
    known: list[bool] = []

    def is_known(_archive: Committing, asked: Asked) -> None:
        known.append(asked.transaction_uid in transactions(folder))

    def keep_early(archive: Committing, asked: Asked) -> None:
        keep(archive, asked)

    def is_committed(name: str) -> bool:
        entries = entries_of(folder / "var")
        return any(d.destination == name and d.state is Sent.COMMITTED for e in entries for d in e.deliveries)

    def keep_and_then(status: int) -> Callable[[Committing, Asked], int]:
        """Report, and answer the request when the node has long made the best of it."""

        def answer(archive: Committing, asked: Asked) -> int:
            keep(archive, asked)
            wait_for(lambda: is_committed(archive.title.lower()), timeout_s=30)
            return status

        return answer

    behaviours: dict[str, tuple[str, dict[str, object]]] = {
        "other": ("required", {"during": is_known, "after": keep}),
        "same": ("required", {"after": keep_here}),
        "early": ("required", {"during": keep_early}),
        "eager": ("required", {"during": keep_here}),
        "twice": ("required", {"after": keep_twice}),
        "forgetful": ("required", {"during": keep_and_then(0x0213)}),
        "contrary": ("required", {"during": keep_and_then(0x0124)}),
        "lacking": ("required", {"after": lack_the_last_at_first}),
        "passing": ("required", {"after": pass_over_one}),
        "lackall": ("required", {"after": lack_all}),
        "busy": ("required", {"during": busy_at_first, "after": keep}),
        "late": ("required", {"after": keep_late}),
        "silent": ("wanted", {}),
        "mute": ("required", {}),
        "old": ("wanted", {"offers_commitment": False}),
        "oldest": ("required", {"offers_commitment": False}),
        "refusing": ("required", {"during": lambda *_: 0x0124}),
    }
    with ExitStack() as stack:
        archives = {
            name: stack.enter_context(Committing(name.upper(), port, **how))
            for name, (_, how) in behaviours.items()
        }
        waits_s = {"silent": 2, "mute": 2, "late": 8}  # the last of them is answered in the second
        lines = {
            name: destination(archive, behaviours[name][0], waits_s.get(name, 60))
            for name, archive in archives.items()
        }
        configuration = write_configuration(
            folder / "node.toml", port=port, models=spot_models, destinations=lines, quiet_s=60
        )
        with node_process(configuration, port):
            send(new_series(folder / "series"), port)
            wait_until_ended(folder / "var", timeout_s=240)
            unknown = report_by_hand(port)
            (entry,) = entries_of(folder / "var")
            status = CliRunner().invoke(app, ["status", "--config", str(configuration)]).stdout
            assert known == [True]  # the transaction was durable before the archive heard of it
            assert unknown == {"unknown": 0x0115, "garbage": 0x0110, "event type": 0x0113}
            yield Run(archives, entry, folder, status, configuration.with_suffix(".log").read_text())


def report_by_hand(port: int) -> dict[str, int]:
    """What is answered to reports that nobody asked for."""
    ae = AE("STRANGER")
    ae.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    association = ae.associate("127.0.0.1", port, ae_title="DICOM_NODE", ext_neg=[role])
    known, garbage = pydicom.Dataset(), pydicom.Dataset()
    known.TransactionUID = "1.2.3.4"
    garbage.PatientComments = "no transaction"
    answers = {}
    for name, event_type, information in (
        ("unknown", 1, known),
        ("garbage", 1, garbage),
        ("event type", 7, known),
    ):
        status, _ = association.send_n_event_report(
            information, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        answers[name] = status.Status
    association.release()
    return answers


@pytest.mark.parametrize("name", ["other", "same", "early", "eager", "twice", "forgetful", "contrary"])
def test_an_archive_that_keeps_all_is_asked_once_and_shown_as_committed(name: str, run: Run) -> None:
    archive = run.archives[name]
    assert run.delivery(name).state is Sent.COMMITTED
    assert len(archive.asked) == 1
    assert sorted(archive.asked[0].uids) == sorted(archive.stored)
    assert len(archive.stored) == 3
    assert set(archive.statuses) == {0x0000}
    assert len(archive.statuses) == (2 if name == "twice" else 1)
    assert f"to {name}: committed\n" in run.status


def test_what_is_asked_for_is_what_was_stored(run: Run) -> None:
    made = [p for p in (run.folder / "var" / "results").rglob("*.dcm") if not p.name.startswith("sr-")]
    objects = {(d.SOPClassUID, d.SOPInstanceUID) for d in map(pydicom.dcmread, made)}
    assert set(run.archives["other"].asked[0].objects) == objects


def test_what_an_archive_lacks_is_sent_again_and_asked_about_again(run: Run) -> None:
    archive = run.archives["lacking"]
    first, second = archive.asked
    assert first.transaction_uid != second.transaction_uid
    assert second.uids == first.uids[-1:]
    assert archive.stored == [*archive.stored[:3], first.uids[-1]]
    assert run.delivery("lacking").state is Sent.COMMITTED


def test_an_instance_that_a_report_passes_over_counts_as_lacking(run: Run) -> None:
    first, second = run.archives["passing"].asked
    assert second.uids == first.uids[:1]
    assert run.delivery("passing").state is Sent.COMMITTED


def test_an_archive_that_lacks_all_time_and_again_has_failed(run: Run) -> None:
    archive = run.archives["lackall"]
    assert len(archive.asked) == 2
    assert len(archive.stored) == 6
    delivery = run.delivery("lackall")
    assert delivery.state is Sent.FAILED
    assert "does not answer for 3 objects: SOP class not supported (0122H)" in delivery.detail


def test_an_archive_that_is_busy_is_asked_again(run: Run) -> None:
    assert len(run.archives["busy"].asked) == 2
    assert run.delivery("busy").state is Sent.COMMITTED


def test_a_report_on_an_earlier_request_is_taken(run: Run) -> None:
    archive = run.archives["late"]
    assert len(archive.asked) == 2
    assert archive.asked[0].transaction_uid != archive.asked[1].transaction_uid
    assert archive.statuses == [0x0000]
    assert run.delivery("late").state is Sent.COMMITTED


@pytest.mark.parametrize(("name", "state"), [("silent", Sent.DONE), ("mute", Sent.FAILED)])
def test_an_archive_that_never_reports_is_asked_again_and_then_not_waited_for(
    name: str, state: Sent, run: Run
) -> None:
    archive = run.archives[name]
    assert len({asked.transaction_uid for asked in archive.asked}) == 2
    assert len(archive.stored) == 3  # asked again, not sent again
    delivery = run.delivery(name)
    assert delivery.state is state
    assert delivery.detail == "not committed: no report on request 2 came"
    assert bool(delivery.remedy) == (state is Sent.FAILED)


@pytest.mark.parametrize(
    ("name", "state", "why"),
    [
        ("old", Sent.DONE, "takes none of Storage Commitment Push Model"),
        ("oldest", Sent.FAILED, "takes none of Storage Commitment Push Model"),
        ("refusing", Sent.FAILED, "status 0124H"),
    ],
)
def test_an_archive_without_the_service_is_noted(name: str, state: Sent, why: str, run: Run) -> None:
    delivery = run.delivery(name)
    assert delivery.state is state
    assert delivery.detail.startswith("not committed: ")
    assert why in delivery.detail
    assert len(run.archives[name].stored) == 3


def test_a_job_with_a_required_commitment_that_is_missing_is_undelivered(run: Run) -> None:
    assert run.entry.state is State.UNDELIVERED
    assert "commitment_report_unknown" in run.log


def test_a_report_that_comes_after_all_was_given_up_is_taken_too(run: Run) -> None:
    archive = run.archives["mute"]
    keep(archive, archive.asked[0])
    assert archive.statuses == [0x0000]

    def committed() -> bool:
        (entry,) = entries_of(run.folder / "var")
        return any(d.destination == "mute" and d.state is Sent.COMMITTED for d in entry.deliveries)

    wait_for(committed)


def test_a_cancelled_delivery_is_asked_about_no_more_and_retry_begins_anew(
    tmp_path: Path, spot_models: Path
) -> None:
    port, timeout_s = free_port(), 3.0
    with Committing("ARCHIVE", port) as archive:
        lines = f"{destination(archive, 'required', timeout_s)}".replace("attempts = 2", "attempts = 50")
        configuration = write_configuration(
            tmp_path / "node.toml",
            port=port,
            models=spot_models,
            destinations={"archive": lines},
            quiet_s=60,
        )
        with node_process(configuration, port):
            send(new_series(tmp_path / "series"), port)
            wait_for(lambda: len(archive.asked) > 1)
            assert "sent, commitment asked" in say(configuration, "status")
            assert "1-archive: cancelled" in say(configuration, "cancel", "1-archive")
            (entry,) = entries_of(tmp_path / "var")
            assert (entry.state, entry.deliveries[0].state) == (State.CANCELLED, Sent.CANCELLED)
            time.sleep(1)  # a request may have been under way
            asked = len(archive.asked)
            time.sleep(2 * timeout_s)
            assert len(archive.asked) == asked
            assert len(archive.stored) == 3

            archive.after = keep
            assert "1-archive: to be sent again" in say(configuration, "retry", "1-archive")
            (entry,) = wait_until_ended(tmp_path / "var")
            assert entry.deliveries[0].state is Sent.COMMITTED
    assert len(archive.asked) == asked + 1
    assert len(archive.stored) == 6
    assert set(archive.stored[3:]) == set(archive.stored[:3])


@pytest.mark.parametrize("moment", ["asked", "waiting"])
def test_a_killed_node_goes_on_and_takes_the_report(
    moment: str, tmp_path: Path, spot_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    nodes = []

    def die(_archive: Committing, _asked: Asked) -> None:
        """Before the request is answered: the node cannot know whether it was taken."""
        if moment == "asked" and len(archive.asked) == 1:
            nodes[0].send_signal(signal.SIGKILL)
            nodes[0].wait()

    with Committing("ARCHIVE", port, during=die) as archive:
        lines = {"archive": destination(archive, "required", 60)}
        configuration = write_configuration(
            tmp_path / "node.toml", port=port, models=spot_models, destinations=lines, quiet_s=60
        )
        with node_process(configuration, port) as node:
            nodes.append(node)
            send(new_series(tmp_path / "series"), port)
            wait_for(lambda: archive.asked)
            if moment == "waiting":
                wait_for(lambda: is_waiting(tmp_path))
                node.send_signal(signal.SIGKILL)
            node.wait()
        with node_process(configuration, port):
            if moment == "asked":
                wait_for(lambda: len(archive.asked) > 1)
                assert len({asked.transaction_uid for asked in archive.asked}) == 2
            (entry,) = entries_of(tmp_path / "var")
            assert entry.deliveries[0].state is Sent.ASKED
            keep(archive, archive.asked[0])  # of the life before
            (entry,) = wait_until_ended(tmp_path / "var")
            time.sleep(1)
        assert entry.deliveries[0].state is Sent.COMMITTED
        assert entry.state is State.DONE
        assert len(archive.stored) == 3
        assert len(archive.asked) == (2 if moment == "asked" else 1)
