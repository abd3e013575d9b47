"""Notifications: by rule, signed, without patient data, once, and through a restart.

The receivers are servers of the test on loopback: HTTP in a thread, SMTP by aiosmtpd with STARTTLS. The node
is an engine on its own database, so that it can be stopped and started here.
Not covered: a mail server that wants a password, and TLS from the first byte.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node import events
from dicom_node.errors import ConfigurationError, DeliveryRefused, DestinationUnavailable
from dicom_node.operate import mail, webhook
from dicom_node.operate.notify import Notifications, message_of, prove
from dicom_node.settings import Mail, Notification, Secret, Settings, Webhook
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.ledger import Delivery, Ledger, Sent, State
from dicom_node.workflow.worked import Outcome
from tests.support.certificates import Authority
from tests.support.running import free_port, wait_for

UID = "1.2.826.0.1.3680043.2.1"
JOB = f"{UID}-0123456789abcdef"


@dataclass
class Hook:
    """A receiver of webhooks; ``answers`` are its next statuses, then 204."""

    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@contextmanager
def receiver(port: int | None = None) -> Iterator[Hook]:
    hook = Hook(port=port or free_port())  # nobody else's after this receiver's end

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.got.append((dict(self.headers), body))
            self.send_response(hook.answers.pop(0) if hook.answers else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", hook.port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def notifying(folder: Path, settings: Settings, counted: list[tuple[str, str]]) -> Iterator[tuple]:
    """A started engine with notifications, and the book."""
    ledger = Ledger(folder / "ledger.sqlite")
    engine = DurableEngine(folder / "workflows.sqlite")
    told = Notifications(engine, ledger, settings, lambda to, result: counted.append((to, result)))
    engine.start()
    told.start()
    try:
        yield told, ledger
    finally:
        told.stop()
        engine.stop(5)
        ledger.close()


def a_finding(ledger: Ledger) -> None:
    ledger.open_job(JOB, UID, 12)
    ledger.update(JOB, State.DONE, outcome=Outcome.FINDINGS, detail="2 lesions, 3.1 ml", pipeline="flair")


def rule(hook: Hook, secret: Path | None = None, **changes: object) -> Notification:
    where = Webhook(url=hook.url, secret=Secret(file=secret) if secret else None)
    plain = {
        "name": "ward",
        "on": ("finding",),
        "webhook": where,
        "retry_first_s": 0.2,
        "retry_longest_s": 0.5,
    }
    return Notification(**plain | changes)


def test_a_finding_is_told_once_signed_and_names_no_patient(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a secret of this test\n")
    counted: list[tuple[str, str]] = []
    with receiver() as hook:
        settings = Settings(folder=tmp_path, notifications=(rule(hook, tmp_path / "key"),))
        with notifying(tmp_path, settings, counted) as (told, ledger):
            a_finding(ledger)
            for _ in range(2):
                told.take(events.Worked(JOB, "flair", Outcome.FINDINGS))
            wait_for(lambda: hook.got)
            time.sleep(2.5)
        ((headers, body),) = hook.got
        stamp = headers["X-Dicom-Node-Timestamp"]
        expected = hmac.new(b"a secret of this test", f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        assert headers["X-Dicom-Node-Signature"] == f"sha256={expected}"
        assert abs(int(stamp) - time.time()) < 120
        message = json.loads(body)
        assert (message["occasion"], message["detail"]) == ("finding", "2 lesions, 3.1 ml")
        assert message["patient"] == {}
        assert UID not in body.decode()
        assert counted == [("ward", "sent")]


def test_what_does_not_get_through_is_tried_again_also_after_a_restart(tmp_path: Path) -> None:
    counted: list[tuple[str, str]] = []
    with receiver() as hook:
        port = hook.port
        settings = Settings(folder=tmp_path, notifications=(rule(hook),))
    with notifying(tmp_path, settings, counted) as (told, ledger):  # nobody listens there now
        a_finding(ledger)
        told.take(events.Worked(JOB, "flair", Outcome.FINDINGS))
        wait_for(lambda: ("ward", "postponed") in counted)
    with receiver(port) as hook:
        hook.answers = [503]
        with notifying(tmp_path, settings, counted):
            wait_for(lambda: ("ward", "sent") in counted)
        assert len(hook.got) == 2


def test_what_happened_just_before_a_crash_is_told_after_it(tmp_path: Path) -> None:
    with receiver() as hook:
        settings = Settings(folder=tmp_path, notifications=(rule(hook, on=("dead letter",)),))
        counted: list[tuple[str, str]] = []
        with notifying(tmp_path, settings, counted) as (_, ledger):
            wait_for(lambda: (tmp_path / "notified").exists())
            a_finding(ledger)
            ledger.update(JOB, State.SENDING, parcels={"archive": "{}"})
            ticket = ledger.entry(JOB).deliveries[0].ticket
            failed = Delivery("archive", Sent.FAILED, 9, "no answer", "start it", ticket=ticket)
            ledger.deliver(JOB, failed)  # and the event never came
        assert not hook.got
        with notifying(tmp_path, settings, counted):
            wait_for(lambda: hook.got)
        message = json.loads(hook.got[0][1])
        assert (message["destination"], message["detail"], message["remedy"]) == (
            "archive",
            "no answer",
            "start it",
        )


def test_a_rule_that_comes_while_the_node_runs_is_followed_and_one_that_went_is_not(tmp_path: Path) -> None:
    counted: list[tuple[str, str]] = []
    without = Settings(folder=tmp_path)
    with receiver() as hook, notifying(tmp_path, without, counted) as (told, ledger):
        settings = Settings(folder=tmp_path, notifications=(rule(hook),))
        told.prepare(settings)
        told.use(settings)
        a_finding(ledger)
        told.take(events.Worked(JOB, "flair", Outcome.FINDINGS))
        wait_for(lambda: counted == [("ward", "sent")])
        told.use(without)
        ledger.open_job(f"{UID}.1-a", f"{UID}.1", 12)
        ledger.update(f"{UID}.1-a", State.DONE, outcome=Outcome.FINDINGS)
        told.take(events.Worked(f"{UID}.1-a", "flair", Outcome.FINDINGS))
        time.sleep(2.5)
        assert len(hook.got) == 1


def test_a_refusal_for_good_is_not_repeated(tmp_path: Path) -> None:
    with receiver() as hook:
        hook.answers = [410]
        with pytest.raises(DeliveryRefused, match="status 410"):
            webhook.post(Webhook(url=hook.url), b"{}", 10)
        hook.answers = [429]
        with pytest.raises(DestinationUnavailable, match="status 429"):
            webhook.post(Webhook(url=hook.url), b"{}", 10)


def test_patient_data_are_sent_only_where_the_rule_says_so(tmp_path: Path) -> None:
    report = Dataset()
    report.PatientID, report.AccessionNumber, report.StudyInstanceUID = "ID77", "ACC42", "1.2.3"
    report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.3.9"
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.open_job(JOB, UID, 12)
    ledger.update(JOB, State.DONE, outcome=Outcome.FINDINGS, folder=tmp_path)
    entry = ledger.entry(JOB)
    ledger.close()
    silent = Notification(name="a", on=("finding",), webhook=Webhook(url="https://h.example"))
    assert message_of("x", silent, "finding", entry, "")["patient"] == {}
    speaking = silent.model_copy(update={"patient_data": True})
    assert message_of("x", speaking, "finding", entry, "")["patient"] == {
        "SeriesInstanceUID": UID,
        "PatientID": "ID77",
        "AccessionNumber": "ACC42",
        "StudyInstanceUID": "1.2.3",
    }


class Mailbox:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.got: list[object] = []

    async def handle_DATA(self, _server: object, session: object, envelope: object) -> str:  # noqa: N802
        self.got.append((session.ssl is not None, envelope))
        return "250 OK"


def a_mail(port: int, **changes: object) -> Notification:
    plain = {"host": "localhost", "port": port, "sender": "node@h.example", "to": ("duty@h.example",)}
    to = Mail(**plain | changes.pop("mail", {}))
    return Notification(name="duty", on=("failure",), mail=to, **changes)


FIELDS = {
    "id": "0a1b2c3d",
    "occasion": "failure",
    "at": "2026-01-01T00:00:00+00:00",
    "job": 7,
    "series": "5e6f7081",
    "pipeline": "flair",
    "outcome": "failed",
    "destination": "",
    "detail": "the slices are not parallel",
    "remedy": "correct the series",
    "patient": {},
}


def test_a_mail_comes_encrypted_from_its_template(tmp_path: Path) -> None:
    import ssl

    authority = Authority(tmp_path)
    pair = authority.sign("mail")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    box = Mailbox()
    port = free_port()
    server = Controller(box, hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True)
    server.start()
    try:
        subject = "Series $series\r\nBcc: thief@h.example"
        mail.send(a_mail(port, mail={"ca_file": authority.path}, subject=subject), FIELDS)
        with pytest.raises(DestinationUnavailable, match="SSLCertVerificationError"):
            mail.send(a_mail(port), FIELDS)  # a CA that nobody here knows
    finally:
        server.stop()
    ((is_encrypted, envelope),) = box.got
    assert is_encrypted
    assert envelope.rcpt_tos == ["duty@h.example"]
    got = message_from_bytes(envelope.content)
    assert got["Subject"] == "Series 5e6f7081 Bcc: thief@h.example"
    assert got["Bcc"] is None
    assert "the slices are not parallel" in got.get_payload()
    assert "Research use only" in got.get_payload()


def test_a_template_with_an_unknown_field_and_a_missing_secret_are_refused_at_start(tmp_path: Path) -> None:
    bad = a_mail(25, text="of $name")
    with pytest.raises(ConfigurationError, match=r"duty\.text: 'name' is no field; there are \$id"):
        prove(Settings(notifications=(bad,)))
    hook = Webhook(url="https://h.example", secret=Secret(file=tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="none"):
        prove(Settings(notifications=(Notification(name="a", on=("finding",), webhook=hook),)))


@pytest.mark.parametrize("url", ["http://h.example/x", "https://user:word@h.example", "ftp://h.example"])
def test_an_address_that_is_not_safe_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"https|no user"):
        Webhook(url=url)
