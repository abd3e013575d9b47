"""A running node, from C-STORE to the archive: once each, through crashes and dead destinations.

The node runs as a process and the archive is the demonstration's; real PACS are in tests/peers.
Not covered: systematic crashes at every point (one at the worst moments only), hostile peers
(tests/receive).
"""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import EnhancedSRStorage, SecondaryCaptureImageStorage, SegmentationStorage
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.deliver.cstore import Peer, send_files
from dicom_node.errors import DeliveryRefused
from dicom_node.trial.archive import Archive
from dicom_node.workflow.ledger import Sent, State
from dicom_node.workflow.worked import Outcome
from tests.support.running import (
    entries_of,
    free_port,
    node_process,
    send,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import Series, image_spot


def configure(tmp_path: Path, port: int, models: Path, quiet_s: float = 10, **archives: int) -> Path:
    destinations = {name: (name.upper(), at) for name, at in archives.items()}
    return write_configuration(
        tmp_path / "node.toml", port=port, models=models, destinations=destinations, quiet_s=quiet_s
    )


def kinds_in(archive: Archive) -> list[str]:
    return sorted(pydicom.dcmread(p).Modality for p in archive.folder.glob("*.dcm"))


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.dcm")}


def test_a_series_sent_twice_gives_one_result_and_a_late_slice_a_second(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    paths = series_of(image_spot())
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        with node_process(configure(tmp_path, port, spot_models, archive=archive.port), port):
            send(paths[:-1], port)
            (first,) = wait_until_ended(tmp_path / "var")
            assert first.state is State.DONE
            assert first.outcome is Outcome.FINDINGS
            assert kinds_in(archive) == ["OT", "SEG", "SR"]
            before = digests(archive.folder)

            send(paths[:-1], port)
            send(paths[-1:], port)
            second, _ = wait_until_ended(tmp_path / "var", jobs=2)
            assert second.instances == len(paths)
        reports = [d for d in map(pydicom.dcmread, archive.folder.glob("*.dcm")) if d.Modality == "SR"]
        earlier, later = sorted(reports, key=lambda report: "PredecessorDocumentsSequence" in report)
        (study,) = later.PredecessorDocumentsSequence
        named = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        assert named.ReferencedSOPInstanceUID == earlier.SOPInstanceUID
        after = digests(archive.folder)
        assert before.items() < after.items()
        assert len(after) == 2 * len(before)


def test_a_skipped_series_says_why_and_nothing_is_sent(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        with node_process(configure(tmp_path, port, spot_models, archive=archive.port), port):
            send(series_of(image_spot(), series_description="survey"), port)
            (entry,) = wait_until_ended(tmp_path / "var")
        assert entry.state is State.SKIPPED
        assert entry.detail == "SeriesDescription says 'survey': a localizer"
        assert not entry.trace[-1].passed
        assert not kinds_in(archive)


def test_a_destination_that_is_down_holds_up_nobody_and_gets_its_result_later(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    later = free_port()
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        configuration = configure(tmp_path, port, spot_models, archive=archive.port, down=later)
        with node_process(configuration, port):
            send(series_of(image_spot()), port)

            def one_sent_one_retrying() -> bool:
                states = {d.destination: d.state for e in entries_of(tmp_path / "var") for d in e.deliveries}
                return states == {"archive": Sent.DONE, "down": Sent.RETRYING}

            wait_for(one_sent_one_retrying)
            send(series_of(image_spot(), "other", series_seed="2"), port)  # still received
            with Archive(tmp_path / "revived", "DOWN", port=later) as revived:
                entries = wait_until_ended(tmp_path / "var", jobs=2)
                assert {e.state for e in entries} == {State.DONE}
                assert digests(revived.folder) == digests(archive.folder)


@pytest.mark.parametrize("moment", ["received", "analysing"])
def test_a_killed_node_goes_on_where_it_was_and_delivers_once(
    moment: str, tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    paths = series_of(image_spot())
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        configuration = configure(tmp_path, port, spot_models, archive=archive.port)
        with node_process(configuration, port) as node:
            send(paths, port)
            if moment == "analysing":

                def under_way() -> bool:
                    return any(e.state is not State.WAITING for e in entries_of(tmp_path / "var"))

                wait_for(under_way)
            node.send_signal(signal.SIGKILL)
            node.wait()
        with node_process(configuration, port):
            (entry,) = wait_until_ended(tmp_path / "var")
        assert entry.state is State.DONE
        assert entry.instances == len(paths)
        assert kinds_in(archive) == ["OT", "SEG", "SR"]
        assert not list((tmp_path / "var").rglob("*.part"))


def test_a_second_node_in_the_same_folder_is_refused(tmp_path: Path, port: int, spot_models: Path) -> None:
    configuration = configure(tmp_path, port, spot_models)
    with node_process(configuration, port):
        command = [sys.executable, "-m", "dicom_node", "serve", "--config", configuration]
        second = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert second.returncode == 2
    assert "in use by another node" in second.stderr


BUILD = """
import sys
from pathlib import Path
from dicom_node.cli import app
from dicom_node.node import Node
from dicom_node.settings import load_settings
Node(load_settings(Path(sys.argv[1])))
print(*{"fastapi", "uvicorn", "jinja2", "joserfc"} & sys.modules.keys())
"""


def test_a_node_without_a_page_loads_no_library_for_it_and_removes_what_one_has_left(
    tmp_path: Path, port: int, spot_models: Path
) -> None:
    configuration = configure(tmp_path, port, spot_models)
    tried = tmp_path / "var" / "trials" / "node" / "1" / "in"
    of_another_node = tmp_path / "var" / "trials" / "other" / "1"  # in a folder that they share
    for folder in (tried, of_another_node):
        folder.mkdir(parents=True)
    command = [sys.executable, "-c", BUILD, configuration]
    built = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (built.stdout.splitlines()[-1:], built.returncode) == ([""], 0), built.stderr
    assert (tmp_path / "var" / "ledger.sqlite").exists()
    assert not tried.parent.parent.exists()
    assert of_another_node.exists()


def test_status_and_explain_tell_of_arriving_done_and_skipped_series(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    configuration = configure(tmp_path, port, spot_models, quiet_s=300)
    done = series_of(image_spot(), "done", series_seed="done")
    skipped = series_of(image_spot(), "skipped", series_seed="skipped", series_description="scout")
    arriving = series_of(image_spot(), "arriving", series_seed="arriving")[:1]
    uids = [str(pydicom.dcmread(paths[0]).SeriesInstanceUID) for paths in (done, skipped, arriving)]

    def say(*arguments: str) -> str:
        told = CliRunner().invoke(app, [*arguments, "--config", str(configuration)])
        assert told.exit_code == 0, told.output
        return told.stdout

    with node_process(configuration, port):
        for paths in (done, skipped, arriving):
            send(paths, port)
        wait_until_ended(tmp_path / "var", jobs=2)
        status = say("status")
        assert f"{uids[2]}  1 images\n  arriving" in status
        assert re.search(rf"{uids[0]}  12 images\n  \S+ \S+Z  done  findings: 1 lesion, 5.6 ml", status)
        assert re.search(rf"{uids[1]}  12 images\n  \S+ \S+Z  skipped  SeriesDescription says", status)
        assert "NO  description names no derived image: SeriesDescription says 'scout'" in say(
            "explain", uids[1]
        )
        assert "Phantom" not in status + configuration.with_suffix(".log").read_text()


def test_a_destination_that_refuses_3d_reports_gets_the_report_in_an_older_class(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    stored: list[pydicom.Dataset] = []

    def store(event: evt.Event) -> int:
        stored.append(event.dataset)
        return 0x0000

    ae = AE("OLD")
    for sop_class in (SegmentationStorage, SecondaryCaptureImageStorage, EnhancedSRStorage):
        ae.add_supported_context(sop_class)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        with node_process(configure(tmp_path, port, spot_models, old=server.server_address[1]), port):
            send(series_of(image_spot()), port)
            (entry,) = wait_until_ended(tmp_path / "var")
    finally:
        server.shutdown()
    assert entry.state is State.DONE
    assert [d.SOPClassUID for d in stored] == [
        SegmentationStorage,
        SecondaryCaptureImageStorage,
        EnhancedSRStorage,
    ]


def test_a_job_that_meets_a_failing_disk_says_so_and_is_done_later(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    configuration = configure(tmp_path, port, spot_models)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "results").write_text("a file where a folder should be")
    with node_process(configuration, port):
        send(series_of(image_spot()), port)

        def told() -> bool:
            return any("tried again later" in entry.detail for entry in entries_of(tmp_path / "var"))

        wait_for(told)
        (tmp_path / "var" / "results").unlink()
        (entry,) = wait_until_ended(tmp_path / "var")
    assert entry.state is State.DONE
    assert entry.outcome is Outcome.FINDINGS


def test_a_delivery_to_a_destination_that_was_removed_ends_with_the_reason(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    with node_process(configure(tmp_path, port, spot_models, gone=free_port()), port):
        send(series_of(image_spot()), port)
        wait_for(lambda: [e for e in entries_of(tmp_path / "var") if e.deliveries])
    with node_process(configure(tmp_path, port, spot_models), port):
        (entry,) = wait_until_ended(tmp_path / "var")
    assert entry.state is State.UNDELIVERED
    (delivery,) = entry.deliveries
    assert delivery.detail == "this destination is no longer configured"
    assert "analyse again" in delivery.remedy


def test_a_series_of_which_an_image_was_refused_waits_for_the_long_quiet_time(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    paths = series_of(image_spot())
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(paths[-1].read_bytes()[:-3000])
    configuration = configure(tmp_path, port, spot_models)
    with node_process(configuration, port):
        start = time.monotonic()
        with pytest.raises(DeliveryRefused, match=r"damaged\.dcm"):
            list(send_files(Peer("DICOM_NODE", "127.0.0.1", port, "TEST"), [*paths[:-1], damaged]))
        wait_for(lambda: entries_of(tmp_path / "var"))
        assert time.monotonic() - start >= 10  # quiet_s, not quiet_after_release_s
