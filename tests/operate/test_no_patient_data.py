"""Nothing that is logged, printed or measured names a patient.

A node runs as a process in each form of its log at its most talkative, and meets a good series, a refused
one, broken headers, values that libraries warn of, a conflict, strangers, a failed handshake and a
destination that is down until its delivery is a dead letter; then everything that it said is searched.
Not covered: the audit trail and notifications with ``patient_data``, which name patients on purpose; a
patient's name in a SeriesDescription, which is shown where it decides.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_node.deliver.cstore import Peer, send_files
from dicom_node.errors import NodeError
from dicom_node.phantom.mr_series import Patient
from dicom_node.trial.archive import Archive
from dicom_node.workflow.ledger import Sent
from tests.operate.scrape import get
from tests.support.certificates import Authority
from tests.support.running import entries_of, free_port, node_process, say, wait_for, write_configuration
from tests.support.spot import Series, image_spot

pytestmark = pytest.mark.slow

NAMED = ("ZEBEDEE", "QUILLIAM", "PATID-93717", "19410203", "ACC8841X")
PATIENT = {
    "PatientName": "ZEBEDEE^QUILLIAM",
    "PatientID": "PATID-93717",
    "PatientBirthDate": "19410203",
    "AccessionNumber": "ACC8841X",
    "OtherPatientIDs": "PATID-93717",
    "PatientComments": "ZEBEDEE lives alone",
    "ReferringPhysicianName": "QUILLIAM^FATHER",
}


def try_to_send(paths: list[Path], port: int, called: str = "DICOM_NODE") -> None:
    """Send as a careless sender does: what is refused is not its trouble."""
    with suppress(NodeError):
        for _ in send_files(Peer(called, "127.0.0.1", port, "TEST"), paths):
            pass


def change(paths: list[Path], **values: object) -> list[Path]:
    for path in paths:
        dataset = dcmread(path)
        for keyword, value in values.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(path)
    return paths


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
@pytest.mark.parametrize("form", ["json", "console"])
def test_a_patient_is_named_nowhere_in_what_is_said(
    form: str, tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    secure, watching = free_port(), free_port()
    authority = Authority(tmp_path / "tls")
    ours = authority.sign("node")

    def a_series(name: str, **attributes: object) -> list[Path]:
        return series_of(image_spot(), name, series_seed=name, attributes=PATIENT | attributes)

    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        configuration = write_configuration(
            tmp_path / "node.toml",
            port=port,
            models=spot_models,
            destinations={"archive": ("ARCHIVE", archive.port), "down": ("DOWN", free_port())},
            waits="retry_first_s = 0.2\nretry_longest_s = 0.5\nretry_attempts = 2\ntimeout_s = 5",
        )
        configuration.write_text(
            f'{configuration.read_text()}\n[log]\nformat = "{form}"\nlevel = "debug"\n'
            f"[operate]\nport = {watching}\n[receive.tls]\nport = {secure}\n"
            f'certificate_file = "{ours.certificate}"\nkey_file = "{ours.key}"\n'
            f'ca_file = "{authority.path}"\n'
        )
        with node_process(configuration, port):
            good = a_series("good")
            try_to_send(good, port)
            (turned, *rest) = a_series("refused")
            try_to_send(change([turned], ImageOrientationPatient=[0, 1, 0, 0, 0, 1]) + rest, port)
            try_to_send(
                change(a_series("odd"), PatientBirthDate="19410203ZEBEDEE", PatientAge="ZEBEDEE"), port
            )
            try_to_send(change(a_series("no slope"), RescaleSlope="0"), port)
            try_to_send(change(a_series("no series"), SeriesInstanceUID=None)[:2], port)
            try_to_send(change(a_series("long")[:2], PatientID="PATID-93717" * 20), port)
            (cut, *_) = a_series("cut")
            cut.write_bytes(cut.read_bytes()[:-3000])
            try_to_send([cut], port)
            try_to_send(change(good[:1], ImageComments="ZEBEDEE"), port)  # the same UID, other content
            try_to_send(good[:1], port, called="ZEBEDEE")
            try_to_send(good[:1], secure)
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                raw.sendall(b"ZEBEDEE^QUILLIAM\0" * 20)
            no_certificate = ssl.create_default_context(cafile=str(authority.path))
            with (  # whether it hears why is the moment's: the log is what counts
                suppress(OSError),
                socket.create_connection(("127.0.0.1", secure), timeout=10) as raw,
                no_certificate.wrap_socket(raw, server_hostname="localhost") as bare,
            ):
                bare.sendall(b"ZEBEDEE")
                bare.recv(1)

            def dead_letter_and_a_failure() -> bool:
                entries = entries_of(tmp_path / "var")
                states = {d.state for e in entries for d in e.deliveries}
                return Sent.FAILED in states and any(e.outcome == "failed" for e in entries)

            wait_for(dead_letter_and_a_failure, 120)
            said = [get(watching, path).text for path in ("/metrics", "/health", "/ready")]
        said += [say(configuration, "status"), say(configuration, "status", "--failed")]
        said += [say(configuration, "explain", e.series_instance_uid) for e in entries_of(tmp_path / "var")]
    said.append(configuration.with_suffix(".log").read_text())
    # The senders' titles are no patient data, and one of them was the name, to see that the search works
    assert "ZEBEDEE" in said[-1]
    everything = "\n".join(said).replace("'ZEBEDEE'", "").replace('"ZEBEDEE"', "").replace("=ZEBEDEE", "")
    for expected in (
        "instance_refused",
        "tls_refused",
        "association_fault",
        "association_rejected",
        "delivery_failed",
        "series_analysed",
    ):
        assert expected in everything, expected
    for name in NAMED:
        found = [line for line in everything.splitlines() if name in line.upper()]
        assert not found, found[:3]


def test_a_crash_of_the_program_names_no_patient(capsys: pytest.CaptureFixture[str]) -> None:
    import structlog

    from dicom_node.log import configure_logging

    configure_logging("json", "debug")
    dataset = Dataset()
    dataset.PatientName = "ZEBEDEE^QUILLIAM"
    try:
        raise ValueError(f"cannot read {dataset}")  # noqa: TRY301
    except ValueError:
        structlog.get_logger().exception("crashed", series="1.2.3")
    said = capsys.readouterr()
    assert "crashed" in said.err
    assert "ZEBEDEE" not in said.err + said.out


def test_the_patient_of_the_phantom_is_not_the_one_that_is_searched_for() -> None:
    assert not any(name in str(Patient()) for name in NAMED)
