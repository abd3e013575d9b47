"""Covers: when a series is complete, on a clock that the test turns; once with the real thread.
Properties: neither order nor duplicates nor interleaving changes what is told; nothing is told
early and nothing is forgotten.
Does not cover: confirmation by a query at the sender's archive (there is none).
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.receive.completion import CompleteSeries, Completion, has_no_gap
from dicom_node.receive.instance import StoredInstance
from dicom_node.receive.part10 import AETitles
from dicom_node.settings import Completion as CompletionSettings

SETTINGS = CompletionSettings(quiet_s=20, quiet_after_release_s=3, longest_s=100)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class Shelf:
    """Files by series, as the spool lists them."""

    def __init__(self) -> None:
        self.files: dict[str, set[Path]] = {}

    def series(self) -> list[str]:
        return sorted(self.files)

    def instances(self, series_instance_uid: str) -> list[Path]:
        return sorted(self.files.get(series_instance_uid, ()))

    def titles(self, series_instance_uid: str) -> AETitles:
        return AETitles("DICOM_NODE", "MR1")


class Bench:
    """A Completion, its clock, and what it told."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self.now = 1000.0
        self.told: list[CompleteSeries] = []
        self.shelf = shelf or Shelf()
        self.completion = Completion(SETTINGS, self.shelf, self.told.append, lambda: self.now)

    def receive(self, number: float, series: str = "1.2", association: int = 1) -> None:
        path = Path(f"{series}.{number}.dcm")
        known = self.shelf.files.setdefault(series, set())
        is_new = path not in known
        known.add(path)
        self.completion.instance_stored(
            StoredInstance(
                path.stem,
                series,
                "1",
                (0.0, 0.0, 3.0 * number),
                AXIAL,
                "DICOM_NODE",
                "MR1",
                association,
                path,
                is_new,
            )
        )

    def wait(self, seconds: float) -> None:
        """Turn the clock, and tick at each deadline on the way as the thread would."""
        end = self.now + seconds
        while (deadline := self.completion.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.completion.tick()
        self.now = end
        self.completion.tick()


def test_a_series_is_complete_after_the_quiet_time_and_not_before():
    bench = Bench()
    for number in range(3):
        bench.receive(number)
    bench.wait(19.9)
    assert bench.told == []
    bench.wait(0.2)

    uids = "\n".join(["1.2.0", "1.2.1", "1.2.2"])
    digest = hashlib.sha256(uids.encode()).hexdigest()[:16]
    paths = tuple(Path(f"1.2.{number}.dcm") for number in range(3))
    assert bench.told == [CompleteSeries("1.2", digest, 3, "DICOM_NODE", "MR1", paths)]


def test_every_instance_sets_the_timer_back():
    bench = Bench()
    for number in range(4):
        bench.receive(number)
        bench.wait(15)
    assert bench.told == []
    bench.wait(5)
    assert [series.instances for series in bench.told] == [4]


def test_a_duplicate_sets_the_timer_back_too():
    bench = Bench()
    bench.receive(0)
    bench.wait(15)
    bench.receive(0)
    bench.wait(15)
    assert bench.told == []


def test_a_release_shortens_the_quiet_time_where_no_slice_is_missing():
    bench = Bench()
    for number in range(5):
        bench.receive(number)
    bench.completion.association_ended(1, released=True)
    bench.wait(2.9)
    assert bench.told == []
    bench.wait(0.2)
    assert len(bench.told) == 1


@pytest.mark.parametrize(
    ("numbers", "released"),
    [((0, 1, 3), True), ((0,), True), ((0, 1, 2), False)],
    ids=["gap", "one slice", "abort"],
)
def test_a_gap_a_single_slice_and_an_abort_keep_the_long_quiet_time(numbers, released):
    bench = Bench()
    for number in numbers:
        bench.receive(number)
    bench.completion.association_ended(1, released=released)
    bench.wait(19)
    assert bench.told == []
    bench.wait(2)
    assert len(bench.told) == 1


def test_an_association_that_is_still_open_keeps_the_long_quiet_time():
    bench = Bench()
    bench.receive(0, association=1)
    bench.receive(1, association=2)
    bench.completion.association_ended(1, released=True)
    bench.wait(19)
    assert bench.told == []


def test_one_association_for_each_image_does_not_end_a_series_early():
    bench = Bench()
    for number in range(20):
        bench.receive(number, association=number)
        bench.completion.association_ended(number, released=True)
        bench.wait(2.5)
    assert bench.told == []
    bench.wait(1)
    assert [series.instances for series in bench.told] == [20]


def test_a_series_that_never_falls_quiet_is_taken_as_it_is():
    bench = Bench()
    for number in range(12):
        bench.receive(number)
        bench.wait(10)
    assert [series.instances for series in bench.told] == [10]


def test_a_late_slice_opens_the_series_again_and_makes_another_version():
    bench = Bench()
    bench.receive(0)
    bench.wait(30)
    bench.receive(1)
    bench.wait(30)

    assert [series.instances for series in bench.told] == [1, 2]
    assert bench.told[0].digest != bench.told[1].digest


def test_a_late_slice_on_a_released_association_waits_the_long_quiet_time():
    bench = Bench()
    for number in range(3):
        bench.receive(number)
    bench.wait(30)
    for number in (8, 9):
        bench.receive(number, association=2)
    bench.completion.association_ended(2, released=True)
    bench.wait(19)
    assert len(bench.told) == 1


def test_a_resend_of_a_complete_series_is_nothing_new():
    bench = Bench()
    for _ in range(2):
        for number in range(3):
            bench.receive(number)
        bench.wait(30)
    assert len(bench.told) == 1


def test_a_conflict_is_no_part_of_the_series():
    bench = Bench()
    conflict = StoredInstance("1.2.0", "1.2", "1", None, None, "A", "B", 1, Path("x"), True, is_conflict=True)
    bench.completion.instance_stored(conflict)
    assert bench.completion.next_deadline() is None


def test_after_a_restart_every_series_is_told_again_with_the_same_digest():
    before = Bench()
    for number in range(3):
        before.receive(number)
        before.receive(number, series="1.3")
    before.wait(30)

    after = Bench(before.shelf)
    after.completion.restore()
    after.wait(19)
    assert after.told == []
    after.wait(2)
    assert sorted(after.told, key=lambda s: s.series_instance_uid) == sorted(
        before.told, key=lambda s: s.series_instance_uid
    )


def test_a_series_whose_listener_failed_comes_again():
    bench = Bench()
    told: list[CompleteSeries] = []

    def fail_once(series: CompleteSeries) -> None:
        told.append(series)
        if len(told) == 1:
            raise RuntimeError("database is locked")

    bench.completion = Completion(SETTINGS, bench.shelf, fail_once, lambda: bench.now)
    bench.receive(0)
    with pytest.raises(RuntimeError):
        bench.wait(21)
    bench.wait(21)
    assert told[0] == told[1]


def test_a_series_that_was_removed_meanwhile_is_not_told():
    bench = Bench()
    bench.receive(0)
    bench.shelf.files.clear()
    bench.wait(30)
    assert bench.told == []
    assert bench.completion.next_deadline() is None


@given(
    arrivals=st.lists(
        st.tuples(st.sampled_from(["1.2", "1.3"]), st.integers(0, 8), st.integers(1, 3), st.floats(0, 19)),
        min_size=1,
        max_size=40,
    ),
    released=st.dictionaries(st.integers(1, 3), st.booleans()),
)
def test_whatever_the_order_the_last_version_of_each_series_holds_all_that_came(arrivals, released):
    bench = Bench()
    for series, number, association, pause_s in arrivals:
        bench.receive(number, series, association)
        bench.wait(pause_s)
    for association, was_released in released.items():
        bench.completion.association_ended(association, was_released)
    bench.wait(SETTINGS.quiet_s + 0.1)

    assert bench.completion.next_deadline() is None
    last = {series.series_instance_uid: series for series in bench.told}
    assert set(last) == {series for series, *_ in arrivals}
    for uid, series in last.items():
        names = sorted({f"{uid}.{number}" for each, number, *_ in arrivals if each == uid})
        assert series.digest == hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
        assert series.instances == len(names)


@given(order=st.permutations(range(6)), duplicates=st.lists(st.integers(0, 5)))
def test_a_series_sent_without_a_long_pause_is_told_once_whatever_order_and_duplicates(order, duplicates):
    bench = Bench()
    for number in [*order, *duplicates]:
        bench.receive(number)
        bench.wait(0.5)
    bench.completion.association_ended(1, released=True)
    bench.wait(200)
    assert [series.instances for series in bench.told] == [6]


@pytest.mark.parametrize(
    ("places_mm", "expected"),
    [
        ([0, 3, 6, 9], True),
        ([9, 0, 6, 3], True),
        ([0, 3, 6.25, 9], True),
        ([0, 3, 6.4, 9], False),
        ([0, 3, 9], False),
        ([0, 0, 3, 3, 6, 6], True),
        ([0, 0, 3, 6, 6], False),
        ([5, 5], False),
        ([5], False),
        ([], False),
    ],
)
def test_slices_have_no_gap_if_they_are_evenly_spaced_within_ten_percent(places_mm, expected):
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    assert has_no_gap([((-float(x), 4.0, 5.0), sagittal) for x in places_mm]) is expected


def test_slices_that_are_not_parallel_or_have_no_position_may_have_a_gap():
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    assert not has_no_gap([((0, 0, 0), AXIAL), ((0, 0, 3), sagittal)])
    assert not has_no_gap([((0, 0, 0), AXIAL), (None, AXIAL)])
    assert not has_no_gap([((0, 0, 0), AXIAL), ((0, 0, 3), None)])


def test_the_thread_tells_without_being_asked():
    told = threading.Event()
    shelf = Shelf()
    settings = CompletionSettings(quiet_s=0.05, quiet_after_release_s=0.05, longest_s=1)
    completion = Completion(settings, shelf, lambda _: told.set())
    completion.start()
    try:
        shelf.files["1.2"] = {Path("1.2.0.dcm")}
        completion.restore()
        assert told.wait(20)
    finally:
        completion.stop()
    assert not any(thread.name == "completion" for thread in threading.enumerate())
