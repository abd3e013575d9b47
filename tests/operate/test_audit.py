"""The audit trail: each message by the schema of PS3.15 A.5.1, in a file and on a syslog server over TLS.

The schema (RelaxNG in the standard) is written in audit_checks; here is what A.5.3 asks of each kind of
message. The server is one of the test, over
TLS, which counts octets as RFC 5425 has it.
"""

from __future__ import annotations

import re
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pydicom import dcmread

from dicom_node import events
from dicom_node.errors import ConfigurationError
from dicom_node.operate.audit import AuditTrail
from dicom_node.operate.audit_sink import File, Server, frame, sinks_of
from dicom_node.settings import Audit, Syslog
from tests.operate.audit_checks import check, codes, messages_of, summary
from tests.support.certificates import Authority
from tests.support.running import free_port, wait_for
from tests.support.spot import Series, image_spot


@pytest.fixture(autouse=True)
def _patient_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trail that is stopped has written all, however slow the machine is."""
    monkeypatch.setattr("dicom_node.operate.audit._END_S", 60.0)


@pytest.fixture
def result(series_of: Series) -> list[Path]:
    paths = series_of(image_spot(), attributes={"AccessionNumber": "ACC8841X", "PatientName": "ZEB&DEE^<Q>"})
    return paths[:3]


def happen(trail: AuditTrail, paths: list[Path]) -> None:
    """Let all happen that is told."""
    trail.start()
    trail.take(events.AssociationOpened(1, "10.0.0.7", "DICOM_NODE", "SCANNER", "none"))
    for path in paths:
        trail.take(events.InstanceStored(1, "1.2", path.stem, "DICOM_NODE", path, 10, True, False))
    trail.take(events.AssociationClosed(1, released=True))
    trail.take(events.AssociationOpened(2, "10.0.0.7", "DICOM_NODE", "SCANNER", "none"))
    trail.take(events.AssociationClosed(2, released=True))  # an echo brings nothing
    trail.take(events.AssociationRejected("10.0.0.8", "NODE", "WHO", "called_ae_title_not_recognized"))
    trail.take(events.TLSRefused("10.0.0.9", 2762, "it shows no certificate"))
    trail.take(events.Sending("1.2-a", "archive", tuple(paths)))
    trail.take(events.Delivered("1.2-a", "archive", tuple(paths), asked=False))
    trail.take(events.UserAuthenticated("someone", "10.0.0.5", succeeded=False))
    trail.take(events.UserAuthenticated("someone", "10.0.0.5", succeeded=True))
    trail.take(events.UserLeft("someone", "10.0.0.5"))
    trail.take(events.SeriesShown("someone", "10.0.0.5", tuple(paths)))
    trail.take(events.FilesTaken("someone", "10.0.0.5", tuple(paths[:1])))
    trail.take(events.Reloaded(taken=True))
    trail.stop()


EXPECTED = [
    ("110100", ["110120"], "E", "0"),
    ("110104", [], "C", "0"),
    ("110113", ["110126"], "E", "4"),
    ("110113", ["110126"], "E", "4"),
    ("110102", [], "E", "0"),
    ("110104", [], "R", "0"),
    ("110114", ["110122"], "E", "4"),
    ("110114", ["110122"], "E", "0"),
    ("110114", ["110123"], "E", "0"),
    ("110103", [], "R", "0"),
    ("110104", [], "R", "0"),
    ("110113", ["110129"], "E", "0"),
    ("110100", ["110121"], "E", "0"),
]


def trail_of(sinks: list, counted: list[str] | None = None) -> AuditTrail:
    return AuditTrail(
        sinks,
        "node-1",
        lambda _: ("DICOM_NODE", "PACS", "pacs.h.example"),
        (counted if counted is not None else []).append,
    )


def test_every_event_makes_its_message_by_the_schema(tmp_path: Path, result: list[Path]) -> None:
    path = tmp_path / "audit.xml"
    happen(trail_of([File(path)]), result)
    messages = messages_of(path)
    assert [summary(message) for message in messages] == EXPECTED
    for message in messages:
        check(message)
        assert message.find("AuditSourceIdentification").get("AuditSourceID") == "node-1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    received, sent = messages[1], messages[5]
    shown, taken = messages[9:11]
    for message in (shown, taken):
        person, program = message.findall("ActiveParticipant")
        assert (person.get("UserID"), person.get("UserIsRequestor")) == ("someone", "true")
        assert person.get("NetworkAccessPointID") == "10.0.0.5"
        assert (program.get("UserID"), program.get("UserIsRequestor")) == ("dicom-node", "false")
    header = dcmread(result[0], stop_before_pixels=True)
    for message in (received, sent, taken):
        assert sorted(codes(message, "ActiveParticipant/RoleIDCode")) == ["110152", "110153"]
    for message in (received, sent, shown):
        study, patient = message.findall("ParticipantObjectIdentification")
        assert study.get("ParticipantObjectID") == header.StudyInstanceUID
        assert patient.get("ParticipantObjectID") == header.PatientID
        assert patient.findtext("ParticipantObjectName") == "ZEB&DEE^<Q>"
        sop_class = study.find("ParticipantObjectDescription/SOPClass")
        assert (sop_class.get("UID"), sop_class.get("NumberOfInstances")) == (header.SOPClassUID, "3")
        assert study.find("ParticipantObjectDescription/Accession").get("Number") == "ACC8841X"
    people = {p.get("UserID"): p for p in received.findall("ActiveParticipant")}
    assert people["SCANNER"].get("NetworkAccessPointID") == "10.0.0.7"
    assert people["SCANNER"].get("UserIsRequestor") == "true"
    assert {p.get("UserID") for p in sent.findall("ActiveParticipant")} == {"DICOM_NODE", "PACS"}


class SyslogServer:
    """Takes connections over TLS and reads messages by their octet counts."""

    def __init__(self, context: ssl.SSLContext, port: int | None = None) -> None:
        self.port = port or free_port()  # nobody else's after this server's end
        self._listener = context.wrap_socket(socket.create_server(("127.0.0.1", self.port)), server_side=True)
        self.messages: list[bytes] = []
        self._connections: list[ssl.SSLSocket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except ssl.SSLError:
                continue
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: ssl.SSLSocket) -> None:
        with connection, connection.makefile("rb") as stream:
            while digits := self._until_space(stream):
                self.messages.append(stream.read(int(digits)))

    @staticmethod
    def _until_space(stream: object) -> bytes:
        read = b""
        while (byte := stream.read(1)) and byte != b" ":
            read += byte
        return read

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    pair = authority.sign("syslog")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


@pytest.fixture
def server(context: ssl.SSLContext) -> Iterator[SyslogServer]:
    server = SyslogServer(context)
    yield server
    server.close()


SYSLOG = re.compile(
    rb"<85>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [!-~]{1,255} dicom-node \d+ "
    rb"DICOM\+RFC3881 - \xef\xbb\xbf(<.*>)",
    re.DOTALL,
)


def test_a_syslog_server_gets_the_same_over_tls(
    server: SyslogServer, authority: Authority, result: list[Path]
) -> None:
    counted: list[str] = []
    to = Syslog(host="localhost", port=server.port, ca_file=authority.path)
    happen(trail_of([Server(to)], counted), result)
    wait_for(lambda: len(server.messages) == len(EXPECTED))
    for message, expected in zip(server.messages, EXPECTED, strict=True):
        root = ET.fromstring(SYSLOG.fullmatch(message)[1])  # noqa: S314 - ours
        check(root)
        assert summary(root) == expected
    assert counted == ["written"] * len(EXPECTED)


def test_a_server_that_is_gone_gets_what_it_missed(
    context: ssl.SSLContext, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.operate.audit.AGAIN_S", 0.2)
    first = SyslogServer(context)
    counted: list[str] = []
    trail = trail_of([Server(Syslog(host="localhost", port=first.port, ca_file=authority.path))], counted)
    trail.start()
    wait_for(lambda: len(first.messages) == 1)
    first.close()

    def a_message_fails() -> bool:
        trail.take(events.TLSRefused("10.0.0.9", 1, "fault"))
        return "failed" in counted

    wait_for(a_message_fails)
    second = SyslogServer(context, first.port)
    wait_for(lambda: b"110126" in b"".join(second.messages))
    trail.stop()
    wait_for(lambda: b"110121" in second.messages[-1])
    second.close()


def test_a_server_that_nobody_vouches_for_is_told_nothing(
    server: SyslogServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Authority(tmp_path / "other", "Another CA")
    sink = Server(Syslog(host="localhost", port=server.port, ca_file=other.path))
    with pytest.raises(ssl.SSLCertVerificationError):
        sink.write("<AuditMessage/>")
    assert not server.messages


def test_a_frame_counts_octets_not_characters() -> None:
    framed = frame("<AuditMessage>é</AuditMessage>")
    length, _, message = framed.partition(b" ")
    assert int(length) == len(message)


def test_what_cannot_be_used_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"audit\.file .*: No such file or directory"):
        sinks_of(Audit(file=tmp_path / "none" / "audit.xml"))
    with pytest.raises(ConfigurationError, match=r"audit\.syslog: .*ca\.pem"):
        sinks_of(Audit(syslog=Syslog(host="h", ca_file=tmp_path / "ca.pem")))
    assert sinks_of(Audit()) == []
