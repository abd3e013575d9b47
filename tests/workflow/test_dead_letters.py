"""What failed for good: shown with its why, kept, and repeated by one command.

The node runs as a process. Not covered: the policy's figures (test_retry.py), what a repair does
with work that was lost (test_repair.py), whether a real PACS takes a repetition (tests/peers).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import SecondaryCaptureImageStorage

from dicom_node.trial.archive import Archive
from dicom_node.workflow.ledger import Sent, State
from dicom_node.workflow.worked import Outcome
from tests.support.running import (
    entries_of,
    free_port,
    node_process,
    say,
    send,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import Series, image_spot

THREE_TIMES = "retry_first_s = 0.2\nretry_longest_s = 0.4\nretry_attempts = 3\ntimeout_s = 60"


@pytest.fixture
def configure(tmp_path: Path, port: int, spot_models: Path) -> Callable[..., Path]:
    def write(limits: str = THREE_TIMES, **archives: int) -> Path:
        return write_configuration(
            tmp_path / "node.toml",
            port=port,
            models=spot_models,
            destinations={name: (name.upper(), at) for name, at in archives.items()},
            waits=limits,
        )

    return write


def contents(folder: Path) -> list[tuple[str, bytes]]:
    """SOP Instance UID and everything that is said of it, without the file meta information."""
    read = [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
    return sorted((str(ds.SOPInstanceUID), ds.to_json().encode()) for ds in read)


@pytest.mark.parametrize("node_is", ["running", "down"])
def test_a_dead_letter_is_told_and_retried_with_the_same_bytes(
    node_is: str, tmp_path: Path, port: int, configure: Callable[..., Path], series_of: Series
) -> None:
    down = free_port()
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        configuration = configure(archive=archive.port, down=down)
        with node_process(configuration, port):
            paths = series_of(image_spot())
            send(paths, port)
            (entry,) = wait_until_ended(tmp_path / "var")
            assert entry.state is State.UNDELIVERED
            told = say(configuration, "status", "--failed")
            uid = pydicom.dcmread(paths[0]).SeriesInstanceUID
            assert f"[1-down] deliver, to down: series {uid}\n" in told
            assert "  why    DOWN@127.0.0.1" in told
            assert re.search(r"  tried  3 times, since \d{4}-\d\d-\d\d \S+Z\n", told)
            assert "  do     start the destination" in told
            assert "dicom-node retry 1-down" in told
            assert "Phantom" not in told
            folder = Path(entry.folder or "")
            before = {path.name: path.read_bytes() for path in folder.glob("*.dcm")}
            if node_is == "running":
                assert "1-down: to be sent again" in say(configuration, "retry", "1-down")
                wait_for(
                    lambda: [d for e in entries_of(tmp_path / "var") for d in e.deliveries if d.attempts > 1]
                )
                wait_until_ended(tmp_path / "var")  # a dead letter once more
                say(configuration, "retry", "--all")
                with Archive(tmp_path / "revived", "DOWN", port=down) as revived:
                    (entry,) = wait_until_ended(tmp_path / "var")
        if node_is == "down":
            say(configuration, "retry", "--all")
            with (
                Archive(tmp_path / "revived", "DOWN", port=down) as revived,
                node_process(configuration, port),
            ):
                (entry,) = wait_until_ended(tmp_path / "var")
        assert entry.state is State.DONE, entry
        assert contents(revived.folder) == contents(archive.folder)
        assert {path.name: path.read_bytes() for path in folder.glob("*.dcm")} == before
        assert say(configuration, "status", "--failed") == "nothing failed\n"


def test_an_age_limit_ends_a_delivery_too(
    tmp_path: Path, port: int, configure: Callable[..., Path], series_of: Series
) -> None:
    limits = "retry_first_s = 0.2\nretry_longest_s = 0.4\nretry_for_hours = 0.001\ntimeout_s = 60"
    with node_process(configure(limits, down=free_port()), port):
        send(series_of(image_spot()), port)
        (entry,) = wait_until_ended(tmp_path / "var")
    assert entry.state is State.UNDELIVERED
    assert 4 <= entry.deliveries[0].attempts <= 36  # 3.6 s in waits of 0.1 to 0.4 s


def test_a_refused_object_is_a_dead_letter_at_once_and_can_be_retried_once_it_is_allowed(
    tmp_path: Path, port: int, configure: Callable[..., Path], series_of: Series
) -> None:
    takes_nothing_but_pictures = AE("PICKY")
    takes_nothing_but_pictures.add_supported_context(SecondaryCaptureImageStorage)
    handlers = [(evt.EVT_C_STORE, lambda _: 0x0000)]
    at = free_port()  # nobody else's between the two servers
    server = takes_nothing_but_pictures.start_server(("127.0.0.1", at), block=False, evt_handlers=handlers)
    configuration = configure(picky=at)
    try:
        with node_process(configuration, port):
            send(series_of(image_spot()), port)
            (entry,) = wait_until_ended(tmp_path / "var")
            assert entry.deliveries[0].state is Sent.FAILED
            assert entry.deliveries[0].attempts == 1
            told = say(configuration, "status", "--failed")
            assert "does not take" in told
            assert "  tried  once, since" in told
            assert "let the destination take it" in told
            server.shutdown()
            server = None
            with Archive(tmp_path / "archive", "PICKY", port=at) as archive:
                say(configuration, "retry", "1")
                (entry,) = wait_until_ended(tmp_path / "var")
                assert entry.state is State.DONE
                assert len(contents(archive.folder)) == 3
    finally:
        if server is not None:
            server.shutdown()


def test_a_failed_analysis_is_analysed_again_as_a_new_version_that_names_the_first(
    tmp_path: Path, port: int, configure: Callable[..., Path], series_of: Series
) -> None:
    paths = series_of(image_spot())
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        configuration = configure(archive=archive.port)
        with node_process(configuration, port):
            send([*paths[:5], *paths[6:]], port)  # a gap
            (entry,) = wait_until_ended(tmp_path / "var")
            assert entry.outcome is Outcome.FAILED
            told = say(configuration, "status", "--failed")
            assert "[1] analyse, the report says so" in told
            assert "correct the series and send it under new SOP Instance UIDs" in told
            assert say(configuration, "retry", "--all") == "nothing to repeat\n"
            assert "2: series" in say(configuration, "retry", "1")
            second, first = wait_until_ended(tmp_path / "var", jobs=2)
            assert (first.version, second.version) == (1, 2)
            assert "[1]" not in say(configuration, "status", "--failed")
    reports = [d for d in map(pydicom.dcmread, archive.folder.glob("*.dcm")) if d.Modality == "SR"]
    earlier, later = sorted(reports, key=lambda report: report.InstanceNumber)
    assert earlier.SOPInstanceUID != later.SOPInstanceUID
    assert earlier.SeriesInstanceUID == later.SeriesInstanceUID
    (study,) = later.PredecessorDocumentsSequence
    named = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == earlier.SOPInstanceUID


def test_an_image_resent_with_other_content_is_shown_and_not_analysed(
    tmp_path: Path, port: int, configure: Callable[..., Path], series_of: Series
) -> None:
    paths = series_of(image_spot())
    configuration = configure()
    with node_process(configuration, port):
        send(paths, port)
        (first,) = wait_until_ended(tmp_path / "var")
        other = pydicom.dcmread(paths[3])
        other.PixelData = bytes(len(other.PixelData))
        other.save_as(tmp_path / "other.dcm")
        send([tmp_path / "other.dcm"], port)
        assert "1 image came again with other content" in say(configuration, "status")
        assert entries_of(tmp_path / "var") == [first]
