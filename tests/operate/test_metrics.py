"""Metrics: what each event counts, and what is read of the moment.

Not covered: that the stations tell each event, which ``test_watched_node.py`` shows on a running node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dicom_node import events
from dicom_node.errors import StorageExhausted
from dicom_node.events import Bulletin
from dicom_node.operate.census import KEPT_S, Census, Kept, count
from dicom_node.operate.metrics import Metrics
from dicom_node.operate.standing import Standing
from dicom_node.workflow.database import Database
from dicom_node.workflow.ledger import Delivery, Ledger, Sent, State

JOB = "1.2.3-0123456789abcdef"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.in_file(tmp_path / "ledger.sqlite")
    yield database
    database.close()


def values(metrics: Metrics) -> dict[str, float]:
    """Each sample by its name and labels, as Prometheus would write them."""
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def stored(**changes: object) -> events.InstanceStored:
    plain = events.InstanceStored(1, "1.2.3", "1.2.3.4", "DICOM_NODE", Path("x"), 1000, True, False)
    return replace(plain, **changes)


def test_images_are_counted_by_what_they_are_and_their_bytes_once() -> None:
    metrics = Metrics(lambda _: None)
    for event in (stored(), stored(), stored(is_new=False), stored(is_conflict=True)):
        metrics.take(event)
    metrics.take(events.InstanceRefused(1, 0xA700))
    found = values(metrics)
    title = "called_ae_title=DICOM_NODE"
    assert found[f"dicom_node_received_instances_total{{{title},kind=new}}"] == 2
    assert found[f"dicom_node_received_instances_total{{{title},kind=again}}"] == 1
    assert found[f"dicom_node_received_instances_total{{{title},kind=conflict}}"] == 1
    assert found[f"dicom_node_received_bytes_total{{{title}}}"] == 2000
    assert found["dicom_node_refused_instances_total{status=A700H}"] == 1


def test_a_series_is_timed_from_its_first_image_to_its_completion_once() -> None:
    now = [100.0]
    metrics = Metrics(lambda _: None, clock=lambda: now[0])
    metrics.take(stored())
    now[0] = 103.0
    metrics.take(stored())
    now[0] = 107.0
    for _ in range(2):
        metrics.take(events.SeriesComplete(JOB, "1.2.3", 2))
    found = values(metrics)
    assert found["dicom_node_station_seconds_sum{station=receive}"] == 7
    assert found["dicom_node_station_seconds_count{station=receive}"] == 1


def test_waiting_and_delivery_are_timed_by_the_book_and_so_through_a_restart(database: Database) -> None:
    ledger = Ledger(database)
    ledger.open_job(JOB, "1.2.3", 12)

    def an_hour_ago(job_id: str) -> object:
        entry = ledger.entry(job_id)
        return entry and replace(entry, updated_at=datetime.now(UTC) - timedelta(hours=1))

    metrics = Metrics(an_hour_ago)
    metrics.take(events.WorkBegun(JOB))
    ledger.update(JOB, State.SENDING, parcels={"archive": "{}"})
    metrics.take(events.WorkBegun(JOB))  # taken up again: it did not wait
    metrics.take(events.Delivered(JOB, "archive", (), asked=False))
    found = values(metrics)
    assert found["dicom_node_station_seconds_sum{station=waiting}"] == pytest.approx(3600, abs=60)
    assert found["dicom_node_station_seconds_count{station=waiting}"] == 1
    assert found["dicom_node_station_seconds_sum{station=delivery}"] == pytest.approx(3600, abs=60)
    assert found["dicom_node_delivered_total{destination=archive}"] == 1


def test_failures_are_counted_by_station_and_class_not_by_their_text() -> None:
    metrics = Metrics(lambda _: None)
    metrics.take(events.Worked(JOB, "flair", "failed", "SeriesRefused", {"series": 0.5}))
    metrics.take(events.DeliveryFailed(JOB, "archive", "DestinationUnavailable", final=False))
    metrics.take(events.DeliveryFailed(JOB, "archive", events.NOT_COMMITTED, final=True))
    found = values(metrics)
    assert found["dicom_node_failed_total{final=yes,reason=SeriesRefused,station=analysis}"] == 1
    assert found["dicom_node_failed_total{final=no,reason=DestinationUnavailable,station=delivery}"] == 1
    assert found["dicom_node_failed_total{final=yes,reason=NotCommitted,station=commitment}"] == 1
    assert found["dicom_node_analysed_total{outcome=failed,pipeline=flair}"] == 1
    assert found["dicom_node_station_seconds_sum{station=series}"] == 0.5


def test_commitment_is_timed_from_the_delivery() -> None:
    now = [0.0]
    metrics = Metrics(lambda _: None, clock=lambda: now[0])
    metrics.take(events.Delivered(JOB, "archive", (), asked=True))
    now[0] = 30.0
    metrics.take(events.Committed(JOB, "archive"))
    found = values(metrics)
    assert found["dicom_node_station_seconds_sum{station=commitment}"] == 30
    assert found["dicom_node_committed_total{destination=archive}"] == 1


def test_associations_rise_and_fall_and_refusals_are_counted() -> None:
    metrics = Metrics(lambda _: None)
    metrics.take(events.AssociationOpened(1, "10.0.0.1", "DICOM_NODE", "MR", "TLSv1.3, client proven"))
    metrics.take(events.AssociationOpened(2, "10.0.0.1", "DICOM_NODE", "MR", "none"))
    metrics.take(events.AssociationClosed(1, released=True))
    metrics.take(events.AssociationRejected("10.0.0.1", "OTHER", "MR", "called_ae_title_not_recognized"))
    metrics.take(events.TLSRefused("10.0.0.1", 2762, "it shows no certificate"))
    metrics.take(events.UserAuthenticated("someone", "10.0.0.1", succeeded=False))
    found = values(metrics)
    assert found["dicom_node_associations"] == 1
    assert found["dicom_node_associations_opened_total{tls=yes}"] == 1
    assert found["dicom_node_associations_rejected_total{reason=called_ae_title_not_recognized}"] == 1
    assert found["dicom_node_tls_refused_total"] == 1
    assert found["dicom_node_logins_total{succeeded=no}"] == 1


def test_the_book_is_counted_by_state_and_destination(database: Database) -> None:
    ledger = Ledger(database)
    for number in range(3):
        ledger.open_job(f"1.2.{number}-a", f"1.2.{number}", 12)
    ledger.update("1.2.0-a", State.SENDING, parcels={"archive": "{}", "down": "{}"})
    ticket = {d.destination: d.ticket for d in ledger.entry("1.2.0-a").deliveries}
    ledger.deliver(
        "1.2.0-a", Delivery("down", Sent.FAILED, 3, "it is down", "start it", ticket=ticket["down"])
    )
    census = count(database, ledger.count_failed)
    assert census.jobs == {State.WAITING: 2, State.SENDING: 1}
    assert census.deliveries == {("archive", Sent.PENDING): 1, ("down", Sent.FAILED): 1}
    assert census.dead_letters == 1
    assert 0 < census.oldest_open_s < 60

    metrics = Metrics(ledger.entry)
    metrics.registry.register(standing(database.engine.url.database, lambda: census))
    found = values(metrics)
    assert found["dicom_node_series{state=waiting}"] == 2
    assert found["dicom_node_series{state=done}"] == 0
    assert found["dicom_node_queue_depth{queue=analysis}"] == 2
    assert found["dicom_node_queue_depth{queue=deliver-archive}"] == 1
    assert found["dicom_node_queue_depth{queue=deliver-new}"] == 0
    assert found["dicom_node_dead_letters"] == 1
    assert found["dicom_node_bundle{bundle=spot,device=cpu,version=1.0}"] == 1
    assert found["dicom_node_disk_free_bytes{folder=node}"] > 0
    assert found["dicom_node_disk_floor_bytes"] == 1 << 30


def test_a_book_that_cannot_be_read_costs_no_other_metric(tmp_path: Path) -> None:
    def unreadable() -> Census:
        raise StorageExhausted("the disk is gone")

    metrics = Metrics(lambda _: None)
    metrics.registry.register(standing(tmp_path, unreadable))
    found = values(metrics)
    assert found["dicom_node_book_readable"] == 0
    assert "dicom_node_disk_floor_bytes" in found


def test_the_book_is_counted_at_most_every_few_seconds() -> None:
    now, counted = [0.0], []
    census = Kept(lambda: counted.append(1) or Census({}, {}, len(counted), 0.0), clock=lambda: now[0])
    assert [census().dead_letters, census().dead_letters] == [1, 1]
    now[0] += KEPT_S
    assert census().dead_letters == 2


def test_a_listener_that_fails_keeps_no_other_from_hearing(capsys: pytest.CaptureFixture[str]) -> None:
    heard = []

    def fail(_: events.Event) -> None:
        raise ValueError("SMITH^JANE")

    bulletin = Bulletin()
    bulletin.listen(fail)
    bulletin.listen(heard.append)
    bulletin.tell(events.Committed(JOB, "archive"))
    assert heard == [events.Committed(JOB, "archive")]


def standing(folder: object, census: object) -> Standing:
    return Standing(
        census,
        folders={"node": Path(str(folder)).parent},
        floor_bytes=1 << 30,
        bundles={"spot": ("1.0", "cpu")},
        destinations=lambda: ["archive", "new"],
        is_ready=lambda: True,
    )
