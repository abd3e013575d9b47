"""Covers: the receiver with real peers (DCMTK, pynetdicom): every transfer syntax byte for byte, echo,
admission with its reasons, several associations at once, small PDUs, stopping.
Does not cover: hostile peers (test_hostile.py), TLS (test_tls.py), a real full disk (test_full_disk.py).
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedMRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE

from dicom_node.receive.admission import Load, Rejection, admit
from dicom_node.receive.contexts import TRANSFER_SYNTAXES
from dicom_node.receive.part10 import AETitles
from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.receive.status import Status
from dicom_node.settings import CalledAE, Receive
from tests.receive.conftest import HERE_AND_ELSEWHERE
from tests.receive.images import SERIES, data_set_of, encode, mr_image, write_images
from tests.receive.wire import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ECHO,
    P_DATA,
    Peer,
    associate_rq,
    command,
    pdu,
    pdv,
)
from tests.support.running import dcmtk, wait_for

UID = f"{SERIES}.1"
IMAGE = encode(mr_image(), ExplicitVRLittleEndian)


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda uid: uid.keyword)
def test_a_data_set_is_kept_byte_for_byte_in_every_transfer_syntax(receiver, syntax):
    running = receiver()
    encoded = encode(mr_image(), syntax)
    with Peer(running.port) as peer:
        assert peer.associate(syntax=syntax).store(UID, encoded, pieces=7) == Status.SUCCESS
        peer.release()

    (stored,) = running.instances
    assert data_set_of(stored.path) == encoded
    assert dcmread(stored.path).file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda uid: uid.keyword)
def test_every_transfer_syntax_that_is_accepted_can_be_decoded(syntax):
    assert get_decoder(syntax).is_available


@pytest.mark.parametrize("sop_class", [EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage])
def test_enhanced_images_are_taken(receiver, sop_class):
    running = receiver()
    image = mr_image()
    image.SOPClassUID = sop_class
    image.NumberOfFrames = 1
    with Peer(running.port) as peer:
        peer.associate(sop_class=sop_class)
        status = peer.store(UID, encode(image, ExplicitVRLittleEndian), sop_class=sop_class)
    assert status == Status.SUCCESS


@pytest.mark.peer
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_storescu_sends_a_series(receiver, tmp_path, syntax):
    running = receiver()
    files = write_images(tmp_path / "out", [mr_image(n) for n in range(1, 6)], syntax)
    propose = {ImplicitVRLittleEndian: "-xi", ExplicitVRLittleEndian: "-xe", ExplicitVRBigEndian: "-xb"}
    sent = dcmtk(
        "storescu", propose[syntax], "-aec", "DICOM_NODE", "-aet", "MR1", "127.0.0.1", running.port, *files
    )

    assert sent.returncode == 0, sent.stderr
    assert [data_set_of(p) for p in running.spool.instances(SERIES)] == [data_set_of(p) for p in files]
    assert running.spool.titles(SERIES) == AETitles("DICOM_NODE", "MR1")
    wait_for(lambda: running.ends, 20)
    assert running.ends == [(running.instances[0].association_id, True)]


@pytest.mark.peer
@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless]
)
def test_dcmsend_sends_compressed_files_as_they_are(receiver, tmp_path, syntax):
    running = receiver()
    files = write_images(tmp_path / "out", [mr_image(n) for n in (1, 2)], syntax)
    sent = dcmtk("dcmsend", "--decompress-never", "-aec", "DICOM_NODE", "127.0.0.1", running.port, *files)

    assert sent.returncode == 0, sent.stderr
    assert [data_set_of(p) for p in running.spool.instances(SERIES)] == [data_set_of(p) for p in files]


@pytest.mark.peer
def test_echoscu_gets_its_echo(receiver):
    running = receiver()
    assert dcmtk("echoscu", "--repeat", 3, "-aec", "DICOM_NODE", "127.0.0.1", running.port).returncode == 0


@pytest.mark.peer
def test_dcmdump_reads_what_was_written(receiver):
    running = receiver()
    with Peer(running.port) as peer:
        peer.associate().store(UID, IMAGE)
    dumped = dcmtk("dcmdump", running.instances[0].path)
    assert dumped.returncode == 0
    assert "ReceivingApplicationEntityTitle" in dumped.stdout
    assert not dumped.stderr


def test_pynetdicom_stores_and_echoes(receiver):
    running = receiver()
    ae = AE("PYNETDICOM")
    ae.add_requested_context(mr_image().SOPClassUID, ExplicitVRLittleEndian)
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", running.port, ae_title="DICOM_NODE")
    assert association.is_established
    image = mr_image()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert association.send_c_echo().Status == 0
    assert association.send_c_store(image).Status == 0
    assert association.send_c_echo().Status == 0
    association.release()
    assert association.is_released
    wait_for(lambda: running.ends, 20)
    assert running.ends[0][1] is True


def test_an_echo_may_come_in_fragments_and_between_images(receiver):
    running = receiver()
    echo = command("", "1.2.840.10008.1.1", field=0x30, data_set=0x0101)
    with Peer(running.port) as peer:
        assert peer.associate().store(UID, IMAGE) == Status.SUCCESS
        peer.send(pdu(P_DATA, pdv(ECHO, 0x01, echo[:20]) + pdv(ECHO, 0x03, echo[20:])))
        assert peer.status() == Status.SUCCESS
        assert peer.store(UID, IMAGE) == Status.SUCCESS
    assert [instance.is_new for instance in running.instances] == [True, False]


def test_a_conflict_is_kept_told_and_answered_with_success(receiver):
    running = receiver()
    other = encode(mr_image(seed=1), ExplicitVRLittleEndian)
    with Peer(running.port) as peer:
        peer.associate().store(UID, IMAGE)
        assert peer.store(UID, other) == Status.SUCCESS
    assert [instance.is_conflict for instance in running.instances] == [False, True]
    assert data_set_of(running.instances[0].path) == IMAGE


def test_a_response_fits_the_peers_smallest_pdu(receiver):
    running = receiver()
    with Peer(running.port) as peer:
        peer.associate(maximum_pdu=64).begin(UID)
        peer.send(peer.fragment(IMAGE, is_last=True))
        message, control = b"", 0
        while not control & 2:
            _, value = peer.read()
            assert len(value) <= 64
            control = value[5]
            message += value[6:]
    assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00" in message


def test_a_secondary_capture_gets_no_presentation_context(receiver):
    ae = AE()
    ae.add_requested_context(SecondaryCaptureImageStorage)
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", receiver().port, ae_title="DICOM_NODE")
    assert [context.abstract_syntax for context in association.rejected_contexts] == [
        SecondaryCaptureImageStorage
    ]
    association.release()


@HERE_AND_ELSEWHERE
def test_several_associations_send_one_series_at_once(receiver):
    running = receiver()

    def send(numbers: range) -> None:
        with Peer(running.port) as peer:
            peer.associate()
            for n in numbers:
                assert peer.store(f"{SERIES}.{n}", encode(mr_image(n), ExplicitVRLittleEndian)) == 0
            peer.release()

    threads = [threading.Thread(target=send, args=(range(start, 20 + start, 2),)) for start in (1, 2, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(running.spool.instances(SERIES)) == 20
    wait_for(lambda: len(running.instances) == 40, 20)
    assert sum(instance.is_new for instance in running.instances) == 20
    assert not running.parts


ALLOWED = CalledAE(ae_title="MRI", calling_ae_titles=("MR1",), addresses=("127.0.0.1/32",))


@pytest.mark.parametrize(
    ("called", "calling", "source", "expected"),
    [
        ("MRI", "MR1", "127.0.0.1", None),
        ("OTHER", "MR1", "127.0.0.1", (1, 1, 7)),
        ("MRI", "MR2", "127.0.0.1", (1, 1, 3)),
        ("MRI", "MR1", "127.0.0.2", (1, 1, 3)),
        ("OPEN", "ANYBODY", "127.0.0.2", None),
    ],
)
def test_who_may_associate_is_set_for_each_called_ae_title(receiver, called, calling, source, expected):
    running = receiver(called=(ALLOWED, CalledAE(ae_title="OPEN")))
    with Peer(running.port, source=source) as peer:
        peer.send(associate_rq(called=called, calling=calling))
        kind, value = peer.read()
        assert (tuple(value[1:4]) if kind == ASSOCIATE_RJ else None) == expected


@pytest.mark.parametrize(
    ("host", "networks", "expected"),
    [
        ("10.1.20.7", ("10.1.0.0/16",), True),
        ("10.2.0.1", ("10.1.0.0/16", "10.2.0.1"), True),
        ("10.2.0.2", ("10.1.0.0/16", "10.2.0.1"), False),
        ("::ffff:10.1.0.9", ("10.1.0.0/16",), True),
        ("fd00::7", ("fd00::/8",), True),
        ("fd00::7", ("10.0.0.0/8",), False),
        ("10.0.0.7", ("fd00::/8",), False),
        ("fe80::1%eth0", ("fe80::/10",), True),
    ],
)
def test_addresses_are_networks_in_cidr_of_either_family(host, networks, expected):
    settings = Receive(called=(CalledAE(ae_title="MRI", addresses=networks),))
    titles = AETitles("MRI", "ANY")
    refused = admit(settings, titles, host, Load(1, 1), has_room=True, is_stopping=False)
    assert refused is (None if expected else Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED)


@HERE_AND_ELSEWHERE
def test_who_is_refused_is_told_with_titles_address_and_reason(receiver, capsys):
    running = receiver(called=(ALLOWED,))
    with Peer(running.port, source="127.0.0.2") as peer:
        peer.send(associate_rq(called="MRI", calling="MR1"))
        assert peer.read()[0] == ASSOCIATE_RJ
    running.receiver.stop(5)  # it is told after it is answered
    line = next(line for line in capsys.readouterr().out.splitlines() if "association_rejected" in line)
    for part in ("MRI", "MR1", "127.0.0.2", "calling_ae_title_not_recognized"):
        assert part in line


def test_a_calling_ae_title_with_letters_that_it_must_not_have_does_no_harm(receiver):
    running = receiver()
    with Peer(running.port) as peer:
        peer.send(associate_rq(calling="MRÉ").replace("MRÉ".encode(), b"MR\xc9 "))
        kind, _ = peer.read()
        assert kind in (ABORT, ASSOCIATE_AC)
        if kind == ASSOCIATE_AC:
            assert peer.store(UID, IMAGE) == Status.SUCCESS
    with Peer(running.port) as peer:
        assert peer.associate().store(UID, IMAGE) == Status.SUCCESS


@HERE_AND_ELSEWHERE
def test_one_association_too_many_is_rejected_for_now(receiver):
    running = receiver(maximum_associations=2)
    with Peer(running.port) as first, Peer(running.port) as second:
        first.associate()
        second.associate()
        with Peer(running.port) as third:
            third.send(associate_rq())
            kind, value = third.read()
            assert (kind, tuple(value[1:4])) == (ASSOCIATE_RJ, (2, 3, 2))
        first.release()
    wait_for(lambda: len(running.ends) == 2, 20)
    with Peer(running.port) as peer:
        peer.associate().release()


@HERE_AND_ELSEWHERE
def test_a_host_has_a_limit_of_its_own(receiver):
    running = receiver(maximum_associations_per_host=1)
    with Peer(running.port, source="127.0.0.2") as first, Peer(running.port, source="127.0.0.2") as second:
        first.associate()
        second.send(associate_rq())
        assert second.read()[0] == ASSOCIATE_RJ
        with Peer(running.port, source="127.0.0.3") as other:
            other.associate()


def test_a_low_disk_rejects_associations_for_now(receiver):
    running = receiver(minimum_free_mb=1 << 40)
    with Peer(running.port) as peer:
        peer.send(associate_rq())
        kind, value = peer.read()
        assert (kind, tuple(value[1:4])) == (ASSOCIATE_RJ, (2, 3, 1))


@HERE_AND_ELSEWHERE
def test_stopping_lets_a_c_store_end_and_refuses_the_next(receiver):
    running = receiver()
    peer, idle = Peer(running.port).associate(), Peer(running.port).associate()
    peer.begin(UID)
    peer.send(peer.fragment(IMAGE[:500]))
    wait_for(lambda: running.parts, 20)
    stopping = threading.Thread(target=running.receiver.stop, args=(30,))
    stopping.start()
    assert idle.read()[0] == ABORT
    with Peer(running.port) as late:
        late.send(associate_rq())
        kind, value = late.read()
        assert (kind, tuple(value[1:4])) == (ASSOCIATE_RJ, (2, 3, 1))

    peer.send(peer.fragment(IMAGE[500:], is_last=True))
    assert peer.status() == Status.SUCCESS
    assert peer.read()[0] == ABORT
    stopping.join(20)
    assert not stopping.is_alive()
    with pytest.raises(OSError, match="refused"):
        Peer(running.port)
    assert not [t for t in threading.enumerate() if t.name.startswith(("association", "receiver"))]
    assert [instance.path.exists() for instance in running.instances] == [True]
    for each in (peer, idle):
        each.socket.close()


@HERE_AND_ELSEWHERE
def test_stopping_cuts_what_does_not_end_in_time(receiver):
    running = receiver()
    with Peer(running.port) as peer:
        peer.associate().begin(UID)
        peer.send(peer.fragment(IMAGE[:500]))
        wait_for(lambda: running.parts, 20)
        started = time.monotonic()
        running.receiver.stop(0.2)
        assert time.monotonic() - started < 60  # else it would wait for the peer for idle_timeout_s, 300 s
        assert peer.read()[0] in (0, ABORT)
    assert not running.parts
    assert running.instances == []


def test_a_receiver_can_be_stopped_twice_and_before_its_start(tmp_path: Path):
    receiver = Receiver(Receive(), Spool(tmp_path, 0), lambda _: None, lambda *_: None, port=0)
    receiver.stop(1)
    receiver.start()
    receiver.stop(1)
    receiver.stop(1)


def test_no_success_is_answered_where_the_node_could_not_take_note(tmp_path: Path):
    def fail(_: object) -> None:
        raise RuntimeError("no")

    receiver = Receiver(Receive(), Spool(tmp_path, 0), fail, lambda *_: None, port=0)
    receiver.start()
    with Peer(receiver.port) as peer:
        assert peer.associate().store(UID, IMAGE) == -1
    receiver.stop(5)


def test_no_line_of_the_log_names_the_patient(receiver, capsys):
    running = receiver()
    with Peer(running.port) as peer:
        peer.associate().store(UID, IMAGE[:-9])
        peer.store(UID, IMAGE)
        peer.store(UID, encode(mr_image(seed=1), ExplicitVRLittleEndian))
        peer.release()
    wait_for(lambda: running.ends, 20)
    logged = capsys.readouterr()
    assert "instance_refused" in logged.out + logged.err
    assert "Nobody" not in logged.out + logged.err
