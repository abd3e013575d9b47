"""What the page says of states, hours, progress and settings, without a running node.

Covered: the word and the tone of each state; progress of an analysis, and who waits for whom; the sums of
the last day; which settings are masked; durations and sizes in words. Not covered: the pages themselves.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.analysis import progress as told
from dicom_node.settings import Secret, Settings, WebDestination
from dicom_node.web.configuration import MASKED, lines_of
from dicom_node.web.load import HOURS, last_day
from dicom_node.web.status import Tone, status_of
from dicom_node.web.words import duration, size
from dicom_node.workflow.entry import Delivery, Entry, Ran, Sent, State
from dicom_node.workflow.progress import Progress, Stage
from dicom_node.workflow.worked import Outcome

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def entry(state: State, *sent: Sent, outcome: Outcome | None = Outcome.FINDINGS) -> Entry:
    return Entry(
        job_id="1.2-a",
        number=1,
        version=1,
        series_instance_uid="1.2",
        instances=24,
        priority=2,
        state=state,
        outcome=outcome,
        detail="",
        remedy="",
        attempts=1,
        since=None,
        ticket="",
        ordered=False,
        pipeline="flair",
        bundle=None,
        folder=None,
        created_at=NOW,
        updated_at=NOW,
        trace=(),
        deliveries=tuple(Delivery(str(k), each, 1, "") for k, each in enumerate(sent)),
    )


@pytest.mark.parametrize(
    ("one", "word", "tone"),
    [
        (entry(State.WAITING), "waiting", Tone.QUIET),
        (entry(State.SENDING, Sent.PENDING), "sending", Tone.ACTIVE),
        (entry(State.SENDING, Sent.ASKED, Sent.DONE), "commitment asked", Tone.ACTIVE),
        (entry(State.DONE, Sent.COMMITTED, Sent.COMMITTED), "committed", Tone.GOOD),
        (entry(State.DONE, Sent.COMMITTED, Sent.DONE), "sent", Tone.GOOD),
        (entry(State.DONE), "done", Tone.GOOD),
        (entry(State.DONE, Sent.DONE, outcome=Outcome.FAILED), "failed, reported", Tone.BAD),
        (entry(State.UNDELIVERED, Sent.FAILED), "not delivered", Tone.BAD),
        (entry(State.SKIPPED, outcome=None), "skipped", Tone.QUIET),
    ],
)
def test_each_state_has_its_word(one: Entry, word: str, tone: Tone) -> None:
    status = status_of(one)
    assert (status.word, status.tone) == (word, tone)


def test_an_analysis_tells_how_far_it_is() -> None:
    progress = Progress()
    assert progress.of("a") is None
    with progress.following("a"):
        assert progress.of("a") == Stage("reading")
        told.tell(4, 24)
        assert progress.of("a") == Stage("detecting", 4, 24)
        told.tell(24, 24)
        told.tell(4, 7)
        assert progress.of("a") == Stage("outlining", 4, 7)
        status = status_of(entry(State.ANALYSING), progress.of("a"))
        assert (status.word, status.done, status.total) == ("outlining", 4, 7)
    assert progress.of("a") is None
    told.tell(1, 2)  # nobody follows


def test_what_is_tried_out_waits_for_series_that_were_received_but_not_for_ever() -> None:
    progress = Progress()
    assert progress.wait_until_idle(0)
    begun, may_end = threading.Event(), threading.Event()

    def analyse() -> None:
        with progress.following("a"):
            begun.set()
            may_end.wait(60)

    thread = threading.Thread(target=analyse)
    thread.start()
    assert begun.wait(60)
    assert not progress.wait_until_idle(0.05)
    threading.Timer(0.2, may_end.set).start()
    start = time.monotonic()
    assert progress.wait_until_idle(60)
    assert time.monotonic() - start < 50
    thread.join()


def ran(ended: datetime, seconds: float, state: State = State.DONE) -> Ran:
    return Ran(ended - timedelta(seconds=seconds), ended, state, Outcome.FINDINGS)


def test_the_last_day_is_summed_up_by_the_hour() -> None:
    hours = last_day(
        [
            ran(NOW, 10),
            ran(NOW - timedelta(minutes=10), 30),
            ran(NOW - timedelta(minutes=20), 50, State.UNDELIVERED),
            ran(NOW - timedelta(minutes=30), 20),  # the hour itself
            ran(NOW - timedelta(minutes=31), 7),
            ran(NOW, 0, State.SKIPPED),
            ran(NOW, 0, State.SENDING),
            ran(NOW - timedelta(hours=30), 1),
        ],
        NOW,
    )
    assert len(hours) == HOURS
    assert (hours[-1].done, hours[-1].failed, hours[-1].latency_s) == (3, 1, 25)
    assert (hours[-2].done, hours[-2].latency_s) == (1, 7)
    assert sum(hour.done for hour in hours) == 4
    assert hours[0].latency_s is None


def test_what_is_secret_is_masked_and_all_else_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open-sesame")
    destination = WebDestination(
        name="pacs", url="https://pacs.example", token=Secret(file=tmp_path / "token")
    )
    settings = Settings(folder=tmp_path, destinations=(destination,), site={"uid_salt": "grain"})
    lines = dict(lines_of(settings))
    assert lines["site.uid_salt"] == MASKED
    assert lines["destinations[pacs].token"] == MASKED
    assert lines["destinations[pacs].url"] == "https://pacs.example"
    assert lines["receive.port"] == "11112"
    assert lines["pipelines"] == "(none)"
    assert not any("grain" in value or "sesame" in value for value in lines.values())


def test_durations_and_sizes_in_words() -> None:
    told_ = [duration(s) for s in (0.0014, 0.5, 3.21, 75, 3900, 200_000)]
    assert told_ == ["1 ms", "500 ms", "3.2 s", "1 min 15 s", "1 h 5 min", "2 d 7 h"]
    assert [size(b) for b in (12, 4100, 5_200_000, 271_000_000_000, 3e12)] == [
        "12 bytes",
        "4.1 kB",
        "5.2 MB",
        "271 GB",
        "3.0 TB",
    ]
