"""Sending: what counts as stored, what is tried again and what never will be.

Real failing peers are DCMTK's storescp with its faults switched on; statuses come from a small SCP.
Not covered: retries over time (tests/workflow/test_node.py), storage commitment, TLS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, EnhancedSRStorage, Verification

from dicom_node.deliver.cstore import Peer, echo, send_files
from dicom_node.errors import DeliveryRefused, DestinationUnavailable, NodeError, PermanentError, is_transient
from dicom_node.phantom.mr_series import Storage
from tests.support.running import free_port, need, process, wait_for
from tests.support.spot import Series, affine_of, image_spot

SHAPE = (3, 20, 16)


@pytest.fixture
def paths(series_of: Series) -> list[Path]:
    return series_of(image_spot(affine_of(shape=SHAPE), shape=SHAPE))


@contextmanager
def scp(
    status: int = 0, sop_class: str = MRImageStorage, syntax: str = ExplicitVRLittleEndian
) -> Iterator[tuple[Peer, list[pydicom.Dataset]]]:
    """An SCP that answers every C-STORE with one status, and what it was sent."""
    stored: list[pydicom.Dataset] = []

    def store(event: evt.Event) -> int:
        stored.append(event.dataset)
        return status

    ae = AE("PEER")
    ae.add_supported_context(sop_class, syntax)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield Peer("PEER", "127.0.0.1", server.server_address[1], "NODE", timeout_s=60), stored
    finally:
        server.shutdown()


@contextmanager
def storescp(folder: Path, *faults: str) -> Iterator[Peer]:
    port = free_port()
    folder.mkdir()
    command = (need("storescp"), *faults, "+B", "-aet", "PEER", "-od", folder, port)
    with process(*command, log=folder.with_suffix(".log"), port=port):
        yield Peer("PEER", "127.0.0.1", port, "NODE", timeout_s=60)


@pytest.mark.peer
def test_storescp_gets_the_bytes_of_every_file(paths: list[Path], tmp_path: Path) -> None:
    with storescp(tmp_path / "peer") as peer:
        assert list(send_files(peer, paths)) == paths
    received = {pydicom.dcmread(p).SOPInstanceUID: p for p in (tmp_path / "peer").iterdir()}
    for path in paths:
        sent = pydicom.dcmread(path)
        assert pydicom.dcmread(received[sent.SOPInstanceUID]) == sent


@pytest.mark.peer
@pytest.mark.parametrize("fault", ["--abort-after", "--abort-during"])
def test_an_association_that_breaks_is_tried_again(fault: str, paths: list[Path], tmp_path: Path) -> None:
    with storescp(tmp_path / "peer", fault) as peer, pytest.raises(DestinationUnavailable, match="PEER@"):
        list(send_files(peer, paths))


@pytest.mark.peer
def test_an_association_that_is_refused_is_an_error_that_names_the_peer(
    paths: list[Path], tmp_path: Path
) -> None:
    with storescp(tmp_path / "peer", "--refuse") as peer, pytest.raises(NodeError, match="rejected"):
        list(send_files(peer, paths))


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007, 0x0111])
def test_success_warnings_and_duplicates_are_stored(status: int, paths: list[Path]) -> None:
    with scp(status) as (peer, stored):
        assert list(send_files(peer, paths)) == paths
    assert len(stored) == len(paths)


@pytest.mark.parametrize("status", [0xA700, 0xA701])
def test_out_of_resources_is_tried_again(status: int, paths: list[Path]) -> None:
    with scp(status) as (peer, stored), pytest.raises(DestinationUnavailable, match=f"status {status:04X}H"):
        list(send_files(peer, paths))
    assert len(stored) == 1


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122])
def test_a_refusal_of_the_object_is_final(status: int, paths: list[Path]) -> None:
    with scp(status) as (peer, _), pytest.raises(DeliveryRefused, match=f"status {status:04X}H"):
        list(send_files(peer, paths))


@pytest.mark.parametrize("sop_class", [CTImageStorage, Verification])
def test_a_peer_that_takes_none_of_the_classes_is_told_apart_from_one_that_is_not_there(
    sop_class: str, paths: list[Path]
) -> None:
    told = "takes none of MR Image Storage; allow them for NODE"
    with scp(sop_class=sop_class) as (peer, _), pytest.raises(DeliveryRefused, match=told):
        list(send_files(peer, paths))


def test_a_host_whose_name_does_not_resolve_is_tried_again(paths: list[Path]) -> None:
    peer = Peer("PEER", "no-such-host.invalid", 104, "NODE")
    with pytest.raises(DestinationUnavailable, match="cannot be reached"):
        list(send_files(peer, paths))


def test_an_association_that_did_not_go_well_is_aborted_and_not_released(paths: list[Path]) -> None:
    ends: list[str] = []
    ae = AE("PEER")
    ae.add_supported_context(MRImageStorage, ExplicitVRLittleEndian)
    handlers = [
        (evt.EVT_C_STORE, lambda _: 0xC000),
        (evt.EVT_RELEASED, lambda _: ends.append("released")),
        (evt.EVT_ABORTED, lambda _: ends.append("aborted")),
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        with pytest.raises(DeliveryRefused, match=paths[0].name):
            list(send_files(Peer("PEER", "127.0.0.1", server.server_address[1], "NODE"), paths))
        assert wait_for(lambda: ends) == ["aborted"]
    finally:
        server.shutdown()


def test_a_peer_that_reads_implicit_little_endian_only_gets_it(paths: list[Path]) -> None:
    with scp(syntax=ImplicitVRLittleEndian) as (peer, stored):
        list(send_files(peer, paths))
    assert [d.SOPInstanceUID for d in stored] == [pydicom.dcmread(p).SOPInstanceUID for p in paths]
    assert stored[0].PixelData == pydicom.dcmread(paths[0]).PixelData


def test_a_peer_that_refuses_a_class_gets_the_first_of_the_others_that_it_takes(
    paths: list[Path], tmp_path: Path
) -> None:
    others = []
    for sop_class in (CTImageStorage, EnhancedSRStorage):
        dataset = pydicom.dcmread(paths[0])
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
        others.append(tmp_path / f"{sop_class}.dcm")
        dataset.save_as(others[-1])
    with scp(sop_class=EnhancedSRStorage) as (peer, stored):
        assert list(send_files(peer, paths[:1], {paths[0]: others})) == others[1:]
    assert [d.SOPClassUID for d in stored] == [EnhancedSRStorage]


def test_a_file_that_is_refused_does_not_keep_back_the_others(paths: list[Path], tmp_path: Path) -> None:
    other = pydicom.dcmread(paths[0])
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = CTImageStorage
    other.save_as(tmp_path / "other.dcm")
    with scp() as (peer, stored), pytest.raises(DeliveryRefused, match=r"other\.dcm"):
        list(send_files(peer, [tmp_path / "other.dcm", *paths]))
    assert len(stored) == len(paths)


def test_compressed_files_are_sent_as_they_are(series_of: Series) -> None:
    spot = image_spot(affine_of(shape=SHAPE), shape=SHAPE)
    paths = series_of(spot, storage=Storage(transfer_syntax=JPEG2000Lossless))
    with scp(syntax=JPEG2000Lossless) as (peer, stored):
        list(send_files(peer, paths))
    assert stored[0].PixelData == pydicom.dcmread(paths[0]).PixelData


def test_a_peer_that_answers_an_echo_is_there() -> None:
    with scp(sop_class=Verification, syntax=ImplicitVRLittleEndian) as (peer, _):
        echo(peer)
    with scp() as (peer, _), pytest.raises(DeliveryRefused, match="takes none of Verification"):
        echo(peer)
    with pytest.raises(DestinationUnavailable, match="does not answer"):
        echo(Peer("PEER", "127.0.0.1", free_port(), "NODE"))


def test_nobody_there_is_tried_again(paths: list[Path]) -> None:
    with pytest.raises(DestinationUnavailable, match="does not answer"):
        list(send_files(Peer("PEER", "127.0.0.1", free_port(), "NODE"), paths))


def test_a_file_that_is_no_dicom_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.dcm"
    path.write_text("no DICOM")
    with pytest.raises(PermanentError, match=r"notes\.dcm is no DICOM file"):
        list(send_files(Peer("PEER", "127.0.0.1", 1, "NODE"), [path]))


def test_a_file_that_cannot_be_opened_for_now_is_tried_again_and_one_that_is_gone_is_not(
    paths: list[Path], out_of_descriptors: Callable[[], AbstractContextManager[None]]
) -> None:
    peer = Peer("PEER", "127.0.0.1", 1, "NODE")
    with pytest.raises(OSError, match="Too many open files") as lack, out_of_descriptors():
        list(send_files(peer, paths))
    assert is_transient(lack.value)
    paths[0].unlink()
    with pytest.raises(PermanentError, match="is no DICOM file"):
        list(send_files(peer, paths))
