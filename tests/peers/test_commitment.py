"""Storage commitment with Orthanc, which reports once and on an association of its own.

Archives that report otherwise are in tests/workflow/test_commitment.py. Not covered: other archives.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import MRImageStorage, generate_uid

from dicom_node.deliver.commitment import Report, ask, read_report
from dicom_node.deliver.cstore import Peer, send_files
from dicom_node.receive.event_report import EventReport
from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.settings import Receive
from dicom_node.workflow.ledger import Sent, State
from tests.peers.orthanc import Orthanc, orthanc
from tests.support.relay import Relay
from tests.support.running import (
    entries_of,
    node_process,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import Series, affine_of, image_spot

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture
def pacs(tmp_path: Path, port: int) -> Iterator[Orthanc]:
    with orthanc(tmp_path / "orthanc", node_port=port, autoroute=False, commitment=True) as started:
        yield started


def configure(tmp_path: Path, port: int, models: Path, pacs: Orthanc, timeout_s: float = 60) -> Path:
    lines = (
        f'ae_title = "TESTPACS"\nhost = "127.0.0.1"\nport = {pacs.dicom_port}\n'
        f'commitment = "required"\ncommitment_timeout_s = {timeout_s}'
    )
    destinations = {"pacs": lines}
    return write_configuration(
        tmp_path / "node.toml", port=port, models=models, destinations=destinations, quiet_s=60
    )


def send(paths: list[Path], port: int) -> None:
    assert len(list(send_files(Peer("DICOM_NODE", "127.0.0.1", port, "TEST"), paths))) == len(paths)


def test_orthanc_commits_itself_to_the_results(
    pacs: Orthanc, tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    with node_process(configure(tmp_path, port, spot_models, pacs), port):
        send(series_of(image_spot()), port)
        (entry,) = wait_until_ended(tmp_path / "var")
    assert entry.state is State.DONE
    assert entry.deliveries[0].state is Sent.COMMITTED
    assert len(pacs.files()) == 3


def test_orthanc_names_what_it_lacks(pacs: Orthanc, tmp_path: Path, port: int, series_of: Series) -> None:
    reports: list[Report] = []

    def take(report: EventReport) -> int:
        reports.append(read_report(report))
        return 0x0000

    def ignore(*_: object) -> None:
        pass

    shape = (2, 20, 16)
    paths = series_of(image_spot(affine_of(shape=shape), shape=shape))
    peer = Peer("TESTPACS", "127.0.0.1", pacs.dicom_port, "DICOM_NODE")
    receiver = Receiver(
        Receive(), Spool(tmp_path / "spool", 0, 1), ignore, ignore, on_event_report=take, port=port
    )
    receiver.start()
    try:
        list(send_files(peer, paths))
        uids = [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]
        missing, transaction_uid = generate_uid(), generate_uid()
        objects = [(str(MRImageStorage), uid) for uid in (*uids, missing)]
        ask(peer, lambda: transaction_uid, objects, take, 1)
        wait_for(lambda: reports)
    finally:
        receiver.stop(5)
    assert reports == [Report(transaction_uid, frozenset(uids), {missing: 0x0112})]


def test_a_report_that_is_lost_while_the_node_is_dead_is_asked_for_again(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    with (
        Relay(port) as way_back,
        orthanc(tmp_path / "orthanc", node_port=way_back.port, autoroute=False, commitment=True) as pacs,
    ):
        configuration = configure(tmp_path, port, spot_models, pacs, timeout_s=5)
        way_back.holds.set()  # what Orthanc hears of its report is nothing
        with node_process(configuration, port) as node:
            send(series_of(image_spot()), port)

            def asked() -> bool:
                return "commitment_asked" in configuration.with_suffix(".log").read_text()

            wait_for(asked)
            node.send_signal(signal.SIGKILL)
            node.wait()
        (entry,) = entries_of(tmp_path / "var")
        assert entry.deliveries[0].state is Sent.ASKED
        way_back.holds.clear()
        with node_process(configuration, port):
            (entry,) = wait_until_ended(tmp_path / "var")
        assert len(pacs.files()) == 3
    assert entry.deliveries[0].state is Sent.COMMITTED
