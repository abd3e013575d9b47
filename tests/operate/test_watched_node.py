"""A running node as Prometheus, systemd and an administrator see it.

Covers that each station tells what happens to it, that health and readiness answer for the real parts,
what systemd is told from start to stop, and that SIGHUP changes all or nothing. systemd itself is not
there: its socket is the test's. Not covered: a GPU, and a node of several hosts.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.errors import DeliveryRefused
from dicom_node.trial.archive import Archive
from tests.operate.scrape import get, sampled
from tests.operate.test_audit import messages_of, summary
from tests.support.running import (
    entries_of,
    free_port,
    node_process,
    send,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import Series, image_spot

pytestmark = pytest.mark.slow


class Told:
    """The socket that systemd would name, and what came there."""

    def __init__(self, path: Path) -> None:
        self.path, self.messages = path, []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(None)
        self._socket.bind(str(path))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while message := self._socket.recv(4096).decode():
            self.messages.append(message)

    def times(self, message: str) -> int:
        return sum(message in each.split("\n") for each in list(self.messages))

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ending:
            ending.settimeout(10)
            ending.sendto(b"", str(self.path))


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    told = Told(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(told.path))
    monkeypatch.setenv("WATCHDOG_USEC", "1500000")
    yield told
    told.close()


def lines_of(configuration: Path, event: str) -> list[dict]:
    """Lines of the log with this event; one that is just being written is left out."""
    lines = configuration.with_suffix(".log").read_text().rpartition("\n")[0].splitlines()
    return [
        line for line in map(json.loads, filter(lambda s: s.startswith("{"), lines)) if line["event"] == event
    ]


def configure(tmp_path: Path, port: int, watching: int, models: Path, archive: Archive) -> Path:
    path = write_configuration(
        tmp_path / "node.toml",
        port=port,
        models=models,
        destinations={"archive": (archive.ae_title, archive.port)},
    )
    path.write_text(
        f'{path.read_text()}\n[operate]\nport = {watching}\n[log]\nformat = "json"\n'
        f'[audit]\nfile = "{tmp_path / "audit.xml"}"\n'
    )
    return path


def test_a_node_is_measured_from_the_first_image_to_the_archive(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series
) -> None:
    watching = free_port()
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        configuration = configure(tmp_path, port, watching, spot_models, archive)
        with node_process(configuration, port):
            paths = series_of(image_spot())
            send(paths, port)
            other = series_of(image_spot(), "other", series_seed="2", series_description="survey")
            send(other, port)
            with pytest.raises(DeliveryRefused):
                send(paths[:1], port, called="NOBODY")
            wait_until_ended(tmp_path / "var", jobs=2)

            found = wait_for(lambda: (f := sampled(watching))["dicom_node_series{state=done}"] == 1 and f)
            title = "called_ae_title=DICOM_NODE"
            assert found[f"dicom_node_received_instances_total{{{title},kind=new}}"] == 2 * len(paths)
            size = sum(path.stat().st_size for path in paths)
            assert found[f"dicom_node_received_bytes_total{{{title}}}"] == pytest.approx(2 * size, rel=0.05)
            assert found["dicom_node_series_complete_total"] == 2
            assert found["dicom_node_series{state=skipped}"] == 1
            assert found["dicom_node_analysed_total{outcome=findings,pipeline=spot}"] == 1
            assert found["dicom_node_analysed_total{outcome=skipped,pipeline=}"] == 1
            assert found["dicom_node_delivered_total{destination=archive}"] == 1
            assert found["dicom_node_deliveries{destination=archive,state=sent}"] == 1
            assert found["dicom_node_associations_opened_total{tls=no}"] == 2
            rejected = "dicom_node_associations_rejected_total{reason=called_ae_title_not_recognized}"
            assert found[rejected] == 1
            for station, times in {
                "receive": 2,
                "waiting": 2,
                "analysis": 1,
                "results": 1,
                "delivery": 1,
            }.items():
                assert found[f"dicom_node_station_seconds_count{{station={station}}}"] == times, station
            assert 0.5 <= found["dicom_node_station_seconds_sum{station=receive}"] < 60
            assert found["dicom_node_ready"] == 1
            assert found["dicom_node_dead_letters"] == 0
            assert found["process_resident_memory_bytes"] > 1e7

            assert get(watching, "/health").json() == {
                "ok": True,
                "checks": {"threads": "ok", "upkeep": "ok", "completion": "ok"},
            }
            ready = get(watching, "/ready")
            assert ready.status_code == 200
            assert {"models", "listening", "disk", "database"} < set(ready.json()["checks"])
        kinds = [summary(message)[0] for message in messages_of(tmp_path / "audit.xml")]
        assert (kinds[0], kinds[-1]) == ("110100", "110100")  # start and stop
        assert Counter(kinds) == {"110100": 2, "110102": 1, "110104": 3, "110113": 1}
        # One short name from the first image to the archive
        uids = {line["series"]: line["series_id"] for line in lines_of(configuration, "series_arriving")}
        assert len(set(uids.values())) == 2
        (sent,) = lines_of(configuration, "results_sent")
        (analysed,) = lines_of(configuration, "series_analysed")
        assert sent["series_id"] == analysed["series_id"] == uids[analysed["series"]]


def test_systemd_is_told_and_sighup_changes_all_or_nothing(
    tmp_path: Path, port: int, spot_models: Path, series_of: Series, systemd: Told
) -> None:
    watching = free_port()
    with (
        Archive(tmp_path / "archive", "ARCHIVE") as archive,
        Archive(tmp_path / "second", "SECOND") as second,
    ):
        configuration = configure(tmp_path, port, watching, spot_models, archive)
        good = configuration.read_text()
        with node_process(configuration, port) as node:
            wait_for(lambda: systemd.times("READY=1") == 1)
            wait_for(lambda: systemd.times("WATCHDOG=1") >= 2)

            # A bad file, a bundle that is not loaded, a secret that is not there: nothing changes
            for number, (bad, why) in enumerate(
                [
                    (good + "\n[receive", "is not valid TOML"),
                    (good.replace('bundle = "spot"', 'bundle = "other"'), "'other' is not loaded; restart"),
                    (good.replace("['archive']", '["archive", "nowhere"]'), "'nowhere' is not among"),
                    (
                        good + '[[notifications]]\nname = "a"\non = ["failure"]\nwebhook = '
                        '{ url = "https://h.example", secret = { file = "/nonexistent" } }\n',
                        "/nonexistent",
                    ),
                ],
                start=1,
            ):
                configuration.write_text(bad)
                node.send_signal(signal.SIGHUP)
                wait_for(lambda n=number: len(lines_of(configuration, "configuration_refused")) == n)
                assert why in lines_of(configuration, "configuration_refused")[-1]["reason"]
            assert sampled(watching)["dicom_node_reloads_total{taken=no}"] == 4

            changed = good.replace("\n[web]", "\nmaximum_pdu = 65536\n[web]").replace(
                "[completion]",
                '[[receive.called]]\nae_title = "DICOM_NODE"\n[[receive.called]]\nae_title = "URGENT"\n'
                'calling_ae_titles = ["ER"]\n[completion]',
            )
            changed = changed.replace("['archive']", '["archive", "second"]')
            changed += '[[destinations]]\nname = "second"\nae_title = "SECOND"\nhost = "127.0.0.1"\n'
            changed += f"port = {second.port}\n"
            configuration.write_text(changed)
            node.send_signal(signal.SIGHUP)
            wait_for(lambda: lines_of(configuration, "configuration_waits"))  # which comes last
            (taken,) = lines_of(configuration, "configuration_taken")
            assert taken["changed"] == ["receive.called", "pipelines", "destinations"]
            (waits,) = lines_of(configuration, "configuration_waits")
            assert waits["needs_restart"] == ["receive.maximum_pdu"]
            wait_for(lambda: systemd.times("READY=1") == 6)
            assert systemd.times("RELOADING=1") == 5

            paths = series_of(image_spot())
            with pytest.raises(DeliveryRefused):  # "TEST" is not on the new list
                send(paths[:1], port, called="URGENT")
            send(paths, port)
            (entry,) = wait_until_ended(tmp_path / "var")
            assert sorted(d.destination for d in entry.deliveries) == ["archive", "second"]
            assert len(list(second.folder.glob("*.dcm"))) == len(list(archive.folder.glob("*.dcm"))) == 3

            node.send_signal(signal.SIGHUP)  # of the same file: nothing to change
            wait_for(lambda: len(lines_of(configuration, "configuration_taken")) == 2)
            assert lines_of(configuration, "configuration_taken")[1]["changed"] == []
            node.send_signal(signal.SIGTERM)
            node.send_signal(signal.SIGHUP)  # of a node that stops: not a second signal
            assert node.wait(60) == 0
        assert systemd.times("STOPPING=1") == 1
        assert lines_of(configuration, "node_stopped")
        assert entries_of(tmp_path / "var")
