"""What the node remembers of its destinations: the SOP classes that they refuse, and what they have.

Covered: DCMTK's storescp and a pynetdicom SCP whose classes change; what is proposed after a refusal, after
the time set, after a change of settings, and where a memory that is wrong would leave nothing to take;
refusals by context, by status and over DICOMweb; second versions whose predecessor the archive has in
another form. Not covered: what arrives at an archive without a memory (test_outputs.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa
from pydicom import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import AE, evt

from dicom_node.errors import DeliveryRefused
from dicom_node.results.report_after import Reference
from dicom_node.results.result_set import Kind, ResultSet
from dicom_node.settings import AnyDestination, Destination, WebDestination
from dicom_node.workflow.acceptance import Acceptance
from dicom_node.workflow.database import Database
from dicom_node.workflow.parcel import pack, send
from tests.peers.archives import dangling, deliver
from tests.results.result_cases import Case, make_case, negative, run
from tests.support.postgres import PASSWORD, postgres
from tests.support.running import free_port
from tests.support.web_peer import Request, WebPeer, answer, stored

pytestmark = pytest.mark.peer

USUAL = (Kind.SEG, Kind.SC, Kind.SR)
SEG, SC, SR_3D = SegmentationStorage, SecondaryCaptureImageStorage, Comprehensive3DSRStorage
SR, SR_ENHANCED = ComprehensiveSRStorage, EnhancedSRStorage
A_MOMENT_HOURS = 0.2 / 3600


class Archive:
    """An SCP whose SOP classes change; what it was proposed and what it stored in the last association."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.proposed: set[str] = set()
        self.stored: list[Dataset] = []

    @contextmanager
    def taking(self, classes: Iterable[str], statuses: dict[str, int] | None = None) -> Iterator[None]:
        """Listen.

        Parameters
        ----------
        statuses : of the answer to the C-STORE of a class, where it is not Success
        """
        self.proposed, self.stored = set(), []
        ae = AE("ARCHIVE")
        for uid in classes:
            ae.add_supported_context(uid, ExplicitVRLittleEndian)

        def note(event: evt.Event) -> None:
            contexts = event.assoc.requestor.primitive.presentation_context_definition_list
            self.proposed |= {str(context.abstract_syntax) for context in contexts}

        def store(event: evt.Event) -> int:
            status = (statuses or {}).get(event.request.AffectedSOPClassUID, 0)
            if status == 0:
                self.stored.append(event.dataset)
            return status

        handlers = [(evt.EVT_REQUESTED, note), (evt.EVT_C_STORE, store)]
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        try:
            yield
        finally:
            server.shutdown()

    @property
    def has(self) -> set[str]:
        return {str(made.SOPClassUID) for made in self.stored}


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case("axial")


@pytest.fixture(scope="module")
def result(case: Case, tmp_path_factory: pytest.TempPathFactory) -> ResultSet:
    return run(case, tmp_path_factory.mktemp("result"))


@pytest.fixture
def archive() -> Archive:
    return Archive(free_port())


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def destination(archive: Archive, **settings: object) -> Destination:
    return Destination(
        name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=archive.port, timeout_s=60, **settings
    )


def carry(result: ResultSet, to: AnyDestination, memory: Path) -> list[Path]:
    """Send as a node does that was just started."""
    acceptance = Acceptance(Database.in_file(memory))
    (parcel,) = pack(result.objects, USUAL, [to]).values()
    return list(send(to, json.loads(parcel), acceptance))


def refused(to: AnyDestination, memory: Path) -> Collection[str]:
    return Acceptance(Database.in_file(memory)).refused_by(to)


def test_a_class_that_was_refused_is_not_proposed_again_after_a_restart(
    result: ResultSet, archive: Archive, memory: Path
) -> None:
    to = destination(archive)
    with archive.taking([SC, SR]):
        carry(result, to, memory)
        assert archive.proposed == {SEG, SC, SR_3D, SR, SR_ENHANCED}
        assert archive.has == {SC, SR}
    with archive.taking([SC, SR]):
        carry(result, to, memory)
        assert archive.proposed == {SC, SR, SR_ENHANCED}
        assert archive.has == {SC, SR}


def test_after_a_while_it_is_proposed_again_and_from_then_on_where_it_is_taken(
    result: ResultSet, archive: Archive, memory: Path
) -> None:
    to = destination(archive, ask_again_hours=A_MOMENT_HOURS)
    with archive.taking([SC, SR_3D]):
        carry(result, to, memory)
    time.sleep(A_MOMENT_HOURS * 3600)
    for _ in range(2):
        with archive.taking([SEG, SC, SR_3D]):
            carry(result, to, memory)
            assert archive.has == {SEG, SC, SR_3D}
    assert refused(to, memory) == set()


def test_other_settings_of_a_destination_are_asked_about_at_once(
    result: ResultSet, archive: Archive, memory: Path
) -> None:
    with archive.taking([SC, SR_3D]):
        carry(result, destination(archive), memory)
    assert refused(destination(archive), memory) == {SEG}
    with archive.taking([SEG, SC, SR_3D]):
        carry(result, destination(archive, calling_ae_title="OTHER"), memory)
        assert archive.has == {SEG, SC, SR_3D}


def test_where_nothing_of_the_rest_is_taken_all_is_proposed_again(
    result: ResultSet, archive: Archive, memory: Path
) -> None:
    to = destination(archive)
    with archive.taking([SEG, SC, SR]):
        carry(result, to, memory)
    with archive.taking([SEG, SC, SR_3D]):
        carry(result, to, memory)
        assert archive.has == {SEG, SC, SR_3D}


def test_a_class_that_has_no_substitute_is_proposed_each_time(
    result: ResultSet, archive: Archive, memory: Path
) -> None:
    to = destination(archive)
    with archive.taking([SEG, SR_3D]), pytest.raises(DeliveryRefused, match="Secondary Capture"):
        carry(result, to, memory)
    with archive.taking([SEG, SC, SR_3D]):
        carry(result, to, memory)
        assert archive.has == {SEG, SC, SR_3D}


@pytest.mark.parametrize(("status", "remembered"), [(0x0122, {SEG}), (0xA900, set()), (0xC000, set())])
def test_a_status_is_remembered_if_it_is_about_the_class_and_not_the_object(
    status: int, remembered: set[str], result: ResultSet, archive: Archive, memory: Path
) -> None:
    to = destination(archive)
    with archive.taking([SEG, SC, SR_3D], {SEG: status}):
        carry(result, to, memory)
        assert archive.has == {SC, SR_3D}
    assert refused(to, memory) == remembered


def test_a_refusal_over_dicomweb_is_remembered(result: ResultSet, memory: Path) -> None:
    seg = next(made.sop_instance_uid for made in result.objects if made.kind is Kind.SEG)

    def respond(request: Request) -> bytes:
        if request.method == "GET":
            return answer(204)
        uid = str(pydicom.dcmread(BytesIO(request.dicom())).SOPInstanceUID)
        return answer(409, stored(failed={uid: 0x0122})) if uid == seg else answer(200, stored(uid))

    with WebPeer(respond) as server:
        to = WebDestination(name="web", url=server.url)
        for posts in (3, 2):  # the SEG is offered once
            server.requests.clear()
            assert len(carry(result, to, memory)) == 2
            assert sum(request.method == "POST" for request in server.requests) == posts
    assert refused(to, memory) == {SEG}


@pytest.mark.parametrize("refuses", [("SEG",), ("SEG", "3D SR"), ()], ids=str)
@pytest.mark.parametrize("found", [(True, False), (False, True), (True, False, True)], ids=str)
def test_each_version_names_the_one_before_as_the_archive_has_it(
    found: tuple[bool, ...], refuses: tuple[str, ...], case: Case, tmp_path: Path
) -> None:
    """A SEG that is refused in one version and is not made in the other, in DCMTK's storescp."""
    acceptance = Acceptance(Database.in_file(tmp_path / "ledger.sqlite"))
    before: ResultSet | None = None
    there: dict[str, Dataset] = {}
    for version, has_lesion in enumerate(found, start=1):
        made = run(
            case if has_lesion else negative(case),
            tmp_path / str(version),
            configuration_digest=str(version),
            predecessor=before,
            version=version,
        )
        folder = tmp_path / f"archive {version}"
        arrived = deliver(made, folder, *refuses, outputs=USUAL, acceptance=acceptance)
        (report,) = (each for each in arrived.values() if each.Modality == "SR")
        assert dangling(arrived, case, *there.values()) == set()
        if version > 1:
            (study,) = report.PredecessorDocumentsSequence
            (reference,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
            named = there[reference.ReferencedSOPInstanceUID]
            assert named.SOPClassUID == reference.ReferencedSOPClassUID
            assert named.InstanceNumber == version - 1
        there[report.SOPInstanceUID] = report
        before = made


def test_a_repetition_sends_the_same_report_whatever_became_of_its_predecessor_meanwhile(
    case: Case, archive: Archive, memory: Path, tmp_path: Path
) -> None:
    to = destination(archive)
    first = run(case, tmp_path / "first")
    second = run(negative(case), tmp_path / "second", configuration_digest="2", predecessor=first, version=2)
    with archive.taking([SC, SR_3D]):
        sent = carry(second, to, memory)
        before = [path.read_bytes() for path in sent]
        carry(first, to, memory)
        again = carry(second, to, memory)
    assert again == sent
    assert [path.read_bytes() for path in again] == before


def test_a_form_that_was_written_for_an_archive_stays_as_it_is(
    case: Case, archive: Archive, memory: Path, tmp_path: Path
) -> None:
    to = destination(archive)
    first = run(case, tmp_path / "first")
    second = run(negative(case), tmp_path / "second", configuration_digest="2", predecessor=first, version=2)
    with archive.taking([SC, SR_3D]):
        carry(first, to, memory)
        sent = carry(second, to, memory)[-1]
        assert "-after-" in sent.name
        written = sent.stat().st_mtime_ns
        assert carry(second, to, memory)[-1] == sent
    assert sent.stat().st_mtime_ns == written


@pytest.mark.slow
def test_several_nodes_remember_together_in_postgresql() -> None:
    to = Destination(name="a", ae_title="A", host="h", port=1)
    with postgres() as server:
        url = sa.make_url(server.url).set(drivername="postgresql+psycopg", password=PASSWORD)
        databases = [Database.on_server(url) for _ in range(2)]
        one, other = map(Acceptance, databases)
        for _ in range(2):
            one.note_refusal(to, SEG)
        assert other.refused_by(to) == {SEG}
        other.forget_refusals(to)
        assert one.refused_by(to) == set()
        one.note_stored("a", "1.2.1", Reference(SR, "1.2.1.1"))
        assert other.predecessor_of("a", "1.2.2", "1.2.1") == Reference(SR, "1.2.1.1")
        one.note_stored("a", "1.2.1", Reference(SR, "1.2.1.2"))  # what is decided stays
        assert one.predecessor_of("a", "1.2.2", "1.2.1") == Reference(SR, "1.2.1.1")
        assert one.predecessor_of("a", "1.2.3", "1.2.0") is None
        for each in databases:
            each.close()
