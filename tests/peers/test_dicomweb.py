"""Results by DICOMweb: Orthanc's plugin takes them by STOW-RS, once, through crashes.

TLS ends in a relay before Orthanc, as it does in front of a hospital's web server (Debian's Orthanc
1.10.1 falls over when it speaks TLS itself). What a server may answer is in tests/deliver/test_stow.py.
Not covered: other servers.
"""

from __future__ import annotations

import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.workflow.ledger import Sent, State
from tests.peers.orthanc import Orthanc, orthanc
from tests.support.certificates import Authority
from tests.support.relay import Relay
from tests.support.running import (
    entries_of,
    node_process,
    send,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import Series, image_spot

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture
def pacs(tmp_path: Path, port: int) -> Iterator[Orthanc]:
    with orthanc(tmp_path / "orthanc", node_port=port, autoroute=False, dicomweb=True) as started:
        yield started


def configure(tmp_path: Path, port: int, models: Path, *lines: str) -> Path:
    destinations = {"pacs": "\n".join(lines)}
    return write_configuration(
        tmp_path / "node.toml", port=port, models=models, destinations=destinations, quiet_s=60
    )


def results(folder: Path) -> list[bytes]:
    """The bytes of each result but the reports in older classes, which are made to be in reserve."""
    return sorted(p.read_bytes() for p in folder.rglob("*.dcm") if not p.name.startswith("sr-"))


def check_config(configuration: Path) -> tuple[int, str]:
    told = CliRunner().invoke(app, ["check-config", str(configuration), "--connect"])
    return told.exit_code, told.stdout


def test_results_come_to_orthanc_as_they_are_and_once(
    pacs: Orthanc, tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    url = f"http://127.0.0.1:{pacs.http_port}/dicom-web"
    configuration = configure(tmp_path, port, spot_models, f'url = "{url}"')
    assert check_config(configuration)[0] == 0
    with node_process(configuration, port):
        send(series_of(image_spot()), port)
        (entry,) = wait_until_ended(tmp_path / "var")
    assert entry.state is State.DONE
    assert len(pacs.files()) == 3
    assert sorted(pacs.files().values()) == results(tmp_path / "var" / "results")


def test_a_password_is_shown_and_a_wrong_one_is_an_error_of_the_settings(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    with orthanc(tmp_path / "orthanc", node_port=port, autoroute=False, dicomweb=True, user="node") as pacs:
        secret = tmp_path / "password"
        secret.write_text("wrong")
        lines = f'url = "http://127.0.0.1:{pacs.http_port}/dicom-web"\nuser = "node"'
        configuration = configure(tmp_path, port, spot_models, lines, f'password = {{ file = "{secret}" }}')
        status, told = check_config(configuration)
        assert status == 1
        assert "(NOT ENCRYPTED)" in told
        assert "does not let us in (401)" in told
        secret.write_text(pacs.password)
        assert check_config(configuration)[0] == 0
        with node_process(configuration, port):
            send(series_of(image_spot()), port)
            (entry,) = wait_until_ended(tmp_path / "var")
        assert entry.state is State.DONE
        assert len(pacs.files()) == 3
        written = [p.read_bytes() for p in (tmp_path / "var").rglob("*") if p.is_file()]
        written.append(configuration.with_suffix(".log").read_bytes())
        assert not any(pacs.password.encode() in each for each in written)


def test_a_killed_node_sends_the_same_bytes_again_and_nothing_is_there_twice(
    pacs: Orthanc, tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    with Relay(pacs.http_port) as relay:
        url = f"http://127.0.0.1:{relay.port}/dicom-web"
        configuration = configure(tmp_path, port, spot_models, f'url = "{url}"')
        relay.holds.set()
        with node_process(configuration, port) as node:
            send(series_of(image_spot()), port)
            assert relay.held.wait(60)
            node.send_signal(signal.SIGKILL)
            node.wait()
        assert len(pacs.files()) == 1  # stored, and the node does not know
        relay.holds.clear()
        with node_process(configuration, port):
            (entry,) = wait_until_ended(tmp_path / "var")
    assert entry.state is State.DONE
    made = results(tmp_path / "var" / "results")
    assert sorted(pacs.files().values()) == made
    posted = [bytes(sent) for sent in relay.sent if sent.startswith(b"POST")]
    assert len(posted) == 4
    assert sum(each in sent for sent in posted for each in made) == 4  # each request has one of the files


def test_tls_is_verified_against_the_ca_file(
    pacs: Orthanc, tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "stranger")
    server = authority.sign("pacs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    with Relay(pacs.http_port, context) as relay:
        url = f'url = "https://127.0.0.1:{relay.port}/dicom-web"'
        trusting = configure(tmp_path, port, spot_models, url, f'ca_file = "{stranger.path}"')
        assert "over TLS: its certificate" in check_config(trusting)[1]
        with node_process(trusting, port):
            send(series_of(image_spot()), port)

            def retrying() -> bool:
                return any(
                    d.state is Sent.RETRYING for e in entries_of(tmp_path / "var") for d in e.deliveries
                )

            wait_for(retrying)
        assert not pacs.files()
        configured = configure(tmp_path, port, spot_models, url, f'ca_file = "{authority.path}"')
        with node_process(configured, port):
            (entry,) = wait_until_ended(tmp_path / "var")
    assert entry.state is State.DONE
    assert len(pacs.files()) == 3
