"""Covers: N-EVENT-REPORT on associations that an archive opens: roles, status, fragments, hostile peers.
Does not cover: what is made of a report (tests/deliver/test_commitment.py, tests/workflow).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_node.receive.event_report import LONGEST_BYTES, EventReport
from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.receive.status import EventStatus
from dicom_node.settings import Receive
from tests.receive.images import SERIES, mr_image
from tests.receive.wire import ABORT, P_DATA, Peer, command, pdu, pdv

REPORT = Dataset()
REPORT.TransactionUID = "1.2.3"
N_EVENT_REPORT_RQ, N_ACTION_RQ = 0x0100, 0x0130


@pytest.fixture
def reports() -> list[EventReport]:
    return []


@pytest.fixture(params=[0, 1], ids=["one process", "another receives"])
def port(request: pytest.FixtureRequest, tmp_path: Path, reports: list[EventReport]) -> Iterator[int]:
    def take(report: EventReport) -> int:
        reports.append(report)
        return EventStatus.SUCCESS if report.event_type == 1 else EventStatus.NO_SUCH_EVENT_TYPE

    def ignore(*_: object) -> None:
        pass

    receiver = Receiver(
        Receive(processes=request.param), Spool(tmp_path, 0, 1), ignore, ignore, on_event_report=take, port=0
    )
    receiver.start()
    yield receiver.port
    receiver.stop(5)


def associate(port: int, scu: bool, scp: bool, syntax: str = ExplicitVRLittleEndian) -> Association:
    ae = AE("ARCHIVE")
    ae.add_requested_context(StorageCommitmentPushModel, syntax)
    ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    roles = [build_role(StorageCommitmentPushModel, scu, scp)] if scu or scp else []
    return ae.associate("127.0.0.1", port, ae_title="DICOM_NODE", ext_neg=roles)


def report(association: Association, event_type: int = 1) -> int:
    instance = StorageCommitmentPushModelInstance
    status, _ = association.send_n_event_report(REPORT, event_type, StorageCommitmentPushModel, instance)
    return status.Status


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("scu", [False, True])
def test_an_archive_that_opens_an_association_as_scp_can_report(
    scu: bool, syntax: str, port: int, reports: list[EventReport]
) -> None:
    association = associate(port, scu, True, syntax)
    context = next(
        c for c in association.accepted_contexts if c.abstract_syntax == StorageCommitmentPushModel
    )
    assert (context.as_scu, context.as_scp) == (False, True)
    assert report(association) == EventStatus.SUCCESS
    assert report(association, event_type=3) == EventStatus.NO_SUCH_EVENT_TYPE
    association.release()
    first, second = reports
    assert (first.event_type, second.event_type) == (1, 3)
    assert first.calling_ae_title == "ARCHIVE"
    assert first.sop_instance_uid == StorageCommitmentPushModelInstance
    assert first.transfer_syntax == syntax
    assert b"1.2.3" in first.data_set


def test_reports_and_images_may_share_an_association(port: int, reports: list[EventReport]) -> None:
    association = associate(port, False, True)
    for number in (1, 2):
        image = mr_image()
        image.file_meta = Dataset()
        image.SOPInstanceUID = f"{SERIES}.{number}"
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        assert association.send_c_store(image).Status == 0x0000
        assert report(association) == EventStatus.SUCCESS
    association.release()
    assert len(reports) == 2


def test_an_archive_that_wants_us_as_scp_alone_is_refused_the_context(port: int) -> None:
    association = associate(port, True, False)
    assert [c.abstract_syntax for c in association.accepted_contexts] == [MRImageStorage]
    association.release()


@pytest.mark.parametrize("pieces", [1, 3])
def test_an_archive_that_says_nothing_of_roles_can_report_too(
    pieces: int, port: int, reports: list[EventReport]
) -> None:
    data = encode(REPORT, is_implicit_vr=False, is_little_endian=True)
    with Peer(port) as peer:
        peer.associate(sop_class=StorageCommitmentPushModel)
        peer.begin("1.2", sop_class=StorageCommitmentPushModel, field=N_EVENT_REPORT_RQ)
        step = -(-len(data) // pieces)
        starts = range(0, len(data), step)
        peer.send(*(peer.fragment(data[s : s + step], is_last=s == starts[-1]) for s in starts))
        assert peer.status() == EventStatus.NO_SUCH_EVENT_TYPE  # the command names none
        peer.release()
    assert reports[0].data_set == data


def test_a_report_without_a_data_set_is_answered(port: int, reports: list[EventReport]) -> None:
    with Peer(port) as peer:
        peer.associate(sop_class=StorageCommitmentPushModel)
        peer.begin("1.2", sop_class=StorageCommitmentPushModel, field=N_EVENT_REPORT_RQ, data_set=0x0101)
        assert peer.status() == EventStatus.NO_SUCH_EVENT_TYPE
    assert reports[0].data_set == b""


def test_a_report_that_does_not_end_is_aborted(port: int, reports: list[EventReport]) -> None:
    with Peer(port) as peer:
        peer.associate(sop_class=StorageCommitmentPushModel)
        peer.begin("1.2", sop_class=StorageCommitmentPushModel, field=N_EVENT_REPORT_RQ)
        piece = peer.fragment(bytes(60_000))
        for _ in range(LONGEST_BYTES // 60_000 + 1):
            peer.send(piece)
        assert peer.read()[0] in (ABORT, 0)
    assert not reports


@pytest.mark.parametrize(
    ("sop_class", "field"), [(MRImageStorage, N_EVENT_REPORT_RQ), (StorageCommitmentPushModel, N_ACTION_RQ)]
)
def test_what_was_not_negotiated_is_aborted(
    sop_class: str, field: int, port: int, reports: list[EventReport]
) -> None:
    with Peer(port) as peer:
        peer.associate(sop_class=sop_class)
        peer.send(pdu(P_DATA, pdv(1, 0x03, command("1.2", sop_class=sop_class, field=field))))
        assert peer.read()[0] == ABORT
    assert not reports


def test_a_receiver_where_nobody_asked_says_so(receiver) -> None:
    association = associate(receiver().port, False, True)
    assert report(association) == EventStatus.INVALID_ARGUMENT_VALUE
    association.release()


def test_an_error_of_ours_is_no_success(tmp_path: Path) -> None:
    def fail(_report: EventReport) -> int:
        raise RuntimeError

    def ignore(*_: object) -> None:
        pass

    receiver = Receiver(Receive(), Spool(tmp_path, 0, 1), ignore, ignore, on_event_report=fail, port=0)
    receiver.start()
    try:
        ae = AE("ARCHIVE")
        ae.add_requested_context(StorageCommitmentPushModel, ExplicitVRLittleEndian)
        ended: list[object] = []
        association = ae.associate(
            "127.0.0.1",
            receiver.port,
            ae_title="DICOM_NODE",
            ext_neg=[build_role(StorageCommitmentPushModel, False, True)],
            evt_handlers=[(evt.EVT_CONN_CLOSE, ended.append)],
        )
        instance = StorageCommitmentPushModelInstance
        status, _ = association.send_n_event_report(REPORT, 1, StorageCommitmentPushModel, instance)
        assert "Status" not in status
    finally:
        receiver.stop(5)
