"""What an operator orders of waiting and running work: cancel, retry, again, first, other settings.

A node in this process, whose analysis waits until the test lets it go on; where the node has to be
down, it is stopped. Not covered: dead letters (test_dead_letters.py), crashes (test_node.py,
test_repair.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest

from dicom_node.node import Node
from dicom_node.settings import Settings, load_settings
from dicom_node.trial.archive import Archive
from dicom_node.workflow import series_job, stations, upkeep
from dicom_node.workflow.ledger import Entry, Sent, State
from dicom_node.workflow.worked import Outcome
from tests.support.running import (
    entries_of,
    free_port,
    say,
    send,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import Series, affine_of, image_spot

CALLED = '[[receive.called]]\nae_title = "{0}"\npriority = "{1}"\n'


class Gate:
    """Stands before the analysis."""

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.waiting = threading.Event()
        self.analysed: list[int] = []

    def __call__(self, volume: object, *arguments: object, **more: object) -> object:
        self.waiting.set()
        assert self.is_open.wait(60)
        self.analysed.append(len(volume.frames))  # type: ignore[attr-defined]
        return ANALYSE(volume, *arguments, **more)  # type: ignore[arg-type]


ANALYSE = stations.analyse


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(stations, "analyse", gate)
    return gate


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        yield archive


@pytest.fixture
def configuration(tmp_path: Path, spot_models: Path, archive: Archive) -> Path:
    port = free_port()
    path = write_configuration(
        tmp_path / "node.toml",
        port=port,
        models=spot_models,
        destinations={"archive": ("ARCHIVE", archive.port), "down": ("DOWN", free_port())},
    )
    titles = [("DICOM_NODE", "normal"), ("URGENT", "high"), ("NIGHT", "low")]
    path.write_text(path.read_text() + "".join(CALLED.format(*title) for title in titles))
    return path


@contextmanager
def node_of(configuration: Path) -> Iterator[Settings]:
    settings = load_settings(configuration)
    with Node(settings):
        yield settings


def only(configuration: Path) -> Entry:
    (entry,) = entries_of(configuration.parent / "var")
    return entry


def stands(configuration: Path, destination: str, state: Sent) -> bool:
    entries = entries_of(configuration.parent / "var")
    return any(d.destination == destination and d.state is state for e in entries for d in e.deliveries)


def is_sent(configuration: Path) -> bool:
    return stands(configuration, "archive", Sent.DONE)


def wait_for_jobs(configuration: Path, count: int) -> None:
    wait_for(lambda: len(entries_of(configuration.parent / "var")) == count)


def test_urgent_series_overtake_those_that_wait_and_low_ones_come_last(
    configuration: Path, gate: Gate, series_of: Series
) -> None:
    with node_of(configuration) as settings:
        port = settings.receive.port
        paths = series_of(image_spot(), "first")
        send(paths, port)
        assert gate.waiting.wait(60)
        for count, (called, slices) in enumerate(
            [("NIGHT", 11), ("DICOM_NODE", 10), ("URGENT", 12)], start=2
        ):
            send(series_of(image_spot(), called, series_seed=called)[:slices], port, called)
            wait_for_jobs(configuration, count)
        assert "priority high" in say(configuration, "status")
        gate.is_open.set()
        wait_for(lambda: len(gate.analysed) == 4)
    assert gate.analysed == [12, 12, 10, 11]


def test_a_pipeline_has_a_priority_too_and_the_more_urgent_wins(
    configuration: Path, gate: Gate, series_of: Series
) -> None:
    rule = (
        '[[pipelines]]\nname = "{0}"\nbundle = "spot"\npriority = "{0}"\n'
        'match = {{ contrasts = ["FLAIR"], series_description = "{0}" }}\n'
    )
    text = configuration.read_text()
    configuration.write_text(
        text.replace("[[pipelines]]", rule.format("high") + rule.format("low") + "[[pipelines]]", 1).replace(
            'ae_title = "DICOM_NODE"\npriority = "normal"\n', 'ae_title = "DICOM_NODE"\n'
        )
    )
    with node_of(configuration) as settings:
        port = settings.receive.port
        send(series_of(image_spot(), "first"), port)
        assert gate.waiting.wait(60)
        for count, (called, description, slices) in enumerate(
            [
                ("DICOM_NODE", "low", 10),
                ("DICOM_NODE", "AX FLAIR", 11),
                ("NIGHT", "high", 12),
                ("URGENT", "low", 13),
            ],
            start=2,
        ):
            spot = image_spot(affine_of(shape=(13, 64, 64)), shape=(13, 64, 64))
            images = series_of(spot, str(slices), series_seed=str(slices), series_description=description)
            send(images[:slices], port, called)
            wait_for_jobs(configuration, count)
        gate.is_open.set()
        wait_for(lambda: len(gate.analysed) == 5)
    assert gate.analysed == [12, 12, 13, 11, 10]


def test_a_host_that_only_receives_knows_which_pipeline_it_is(settings: Settings, series_of: Series) -> None:
    selected = stations.Stations(settings, with_models=False).select(series_of(image_spot()))
    assert selected.selection.pipeline == settings.pipelines[0]


def test_a_running_job_is_cancelled_for_good_and_undone_by_retry(
    configuration: Path, gate: Gate, archive: Archive, series_of: Series
) -> None:
    results = configuration.parent / "var" / "results"
    with node_of(configuration) as settings:
        send(series_of(image_spot()), settings.receive.port)
        assert gate.waiting.wait(60)
        assert "1: cancelled" in say(configuration, "cancel", "1")
        gate.is_open.set()
        wait_for(lambda: gate.analysed)
        assert "nothing to cancel, it is cancelled" in say(configuration, "cancel", "1", exit_code=2)
    with node_of(configuration):  # it stays so
        assert only(configuration).state is State.CANCELLED
        assert not list(results.rglob("*.dcm"))
        assert "cancelled by an operator" in say(configuration, "status")
        assert len(gate.analysed) == 1
        assert "1: to be analysed again" in say(configuration, "retry", "1")
        wait_for(lambda: is_sent(configuration))
    assert len(list(archive.folder.glob("*.dcm"))) == 3


def test_a_waiting_job_that_is_cancelled_is_never_analysed(
    configuration: Path, gate: Gate, series_of: Series
) -> None:
    with node_of(configuration) as settings:
        send(series_of(image_spot(), "first"), settings.receive.port)
        assert gate.waiting.wait(60)
        waiting = series_of(image_spot(), "second", series_seed="second")
        send(waiting[:11], settings.receive.port)
        wait_for_jobs(configuration, 2)
        say(configuration, "cancel", str(pydicom.dcmread(waiting[0]).SeriesInstanceUID))
        gate.is_open.set()
        wait_for(lambda: any(e.outcome for e in entries_of(configuration.parent / "var")))
    assert gate.analysed == [12]
    states = {e.number: e.state for e in entries_of(configuration.parent / "var")}
    assert states[2] is State.CANCELLED


def test_a_pending_delivery_is_cancelled_alone_and_sent_by_retry_at_the_next_start(
    configuration: Path, gate: Gate, archive: Archive, series_of: Series, tmp_path: Path
) -> None:
    gate.is_open.set()
    with node_of(configuration) as settings:
        send(series_of(image_spot()), settings.receive.port)
        wait_for(lambda: stands(configuration, "down", Sent.RETRYING))
        wait_for(lambda: is_sent(configuration))
        assert "1-down: cancelled" in say(configuration, "cancel", "1-down")
        assert only(configuration).state is State.CANCELLED
        assert "nothing to cancel, it is sent" in say(configuration, "cancel", "1-archive", exit_code=2)
    assert "1-down: to be sent again" in say(configuration, "retry", "1")
    at = next(d.port for d in settings.destinations if d.name == "down")
    with Archive(tmp_path / "revived", "DOWN", port=at) as revived, node_of(configuration):
        (entry,) = wait_until_ended(configuration.parent / "var")
    assert entry.state is State.DONE
    assert len(list(revived.folder.glob("*.dcm"))) == len(list(archive.folder.glob("*.dcm"))) == 3


def test_a_finished_series_is_analysed_again_by_the_models_of_now(
    configuration: Path, gate: Gate, archive: Archive, series_of: Series
) -> None:
    gate.is_open.set()
    with node_of(configuration) as settings:
        send(series_of(image_spot()), settings.receive.port)
        wait_for(lambda: is_sent(configuration))
    say(configuration, "cancel", "1")
    assert "--again" not in say(configuration, "retry", "1-archive", exit_code=2)
    changed = configuration.read_text().replace("match = {", "minimum_lesion_ml = 0.5\nmatch = {")
    configuration.write_text(changed)
    assert "2: series" in say(configuration, "retry", "1", "--again")
    assert "is waiting" in say(configuration, "retry", "1", "--again", exit_code=2)
    with node_of(configuration):
        wait_for(lambda: len(list(archive.folder.glob("*.dcm"))) == 6)
        wait_for(lambda: all(e.outcome for e in entries_of(configuration.parent / "var")))
    first, second = sorted(entries_of(configuration.parent / "var"), key=lambda e: e.version)
    assert (first.version, second.version) == (1, 2)
    reports = [d for d in map(pydicom.dcmread, archive.folder.glob("*.dcm")) if d.Modality == "SR"]
    earlier, later = sorted(reports, key=lambda report: report.InstanceNumber)
    # Another configuration is another series, and the report still names the one before
    assert earlier.SeriesInstanceUID != later.SeriesInstanceUID
    assert "PredecessorDocumentsSequence" in later


def test_wrong_orders_are_refused_in_one_line(configuration: Path, gate: Gate, series_of: Series) -> None:
    gate.is_open.set()
    with node_of(configuration) as settings:
        send(series_of(image_spot()), settings.receive.port)
        wait_for(lambda: is_sent(configuration))
    for arguments, message in [
        (("retry", "7"), "7: no such job"),
        (("retry", "1-nobody"), "job 1 has no delivery to nobody"),
        (("retry", "1-archive"), "nothing to repeat, it is sent"),
        (("retry",), "give either ID"),
        (("retry", "1", "--all"), "give either ID"),
        (("cancel", "1.2.3"), "1.2.3: no such job"),
    ]:
        assert message in say(configuration, *arguments, exit_code=2)


def test_a_destination_that_goes_while_a_series_is_analysed_costs_the_others_nothing(
    configuration: Path, gate: Gate, archive: Archive, series_of: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "REPAIR_EVERY_S", 1)
    with Node(load_settings(configuration), configuration) as node:
        send(series_of(image_spot()), node.settings.receive.port)
        assert gate.waiting.wait(60)
        text = configuration.read_text().replace('"down"', '"elsewhere"').replace("'down'", "'elsewhere'")
        configuration.write_text(text)
        assert set(node.reload().taken) == {"destinations", "pipelines"}
        gate.is_open.set()
        wait_until_ended(configuration.parent / "var")
    entry = only(configuration)
    assert (entry.state, entry.outcome) == (State.UNDELIVERED, Outcome.FINDINGS)
    sent, gone = entry.deliveries
    assert (sent.destination, sent.state) == ("archive", Sent.DONE)
    assert (gone.destination, gone.state) == ("down", Sent.FAILED)
    assert gone.detail == "this destination is not configured"
    assert len(list(archive.folder.glob("*.dcm"))) == 3


def test_a_version_waits_for_the_one_before_that_another_host_analyses_and_names_it(
    configuration: Path, gate: Gate, archive: Archive, series_of: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_job, "AFTER_S", 1.0)
    gate.is_open.set()
    with Node(load_settings(configuration)) as node:
        paths = series_of(image_spot())
        send(paths[:-1], node.settings.receive.port)
        wait_for(lambda: is_sent(configuration))
        first = only(configuration).job_id
        node.ledger.update(first, State.ANALYSING)  # as it stood while another host was at it
        send(paths[-1:], node.settings.receive.port)
        wait_for(lambda: any("after version 1" in e.detail for e in entries_of(configuration.parent / "var")))
        assert len(gate.analysed) == 1
        node.ledger.update(first, State.SENDING)
        wait_for(lambda: len(list(archive.folder.glob("*.dcm"))) == 6)
    reports = [d for d in map(pydicom.dcmread, archive.folder.glob("*.dcm")) if d.Modality == "SR"]
    assert sum("PredecessorDocumentsSequence" in report for report in reports) == 1
