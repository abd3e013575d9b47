"""Several receivers with one spool: whose part files are whose, who takes a name first, whose timer tells.

Spools and timers of one process stand for those of several. Not covered: a network file system; processes
that are killed (tests/workflow/test_scale_out.py).
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node.receive.completion import Completion
from dicom_node.receive.instance import Incoming
from dicom_node.receive.part_file import PartFile
from dicom_node.receive.spool import Spool
from tests.receive.images import SERIES, encode, mr_image
from tests.receive.test_completion import SETTINGS, Bench


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def begin(spool: Spool, number: int = 1, seed: int = 0) -> PartFile:
    part = spool.begin(
        Incoming(MRImageStorage, f"{SERIES}.{number}", ExplicitVRLittleEndian, "NODE", "MR", 1)
    )
    part.write(encode(mr_image(number, seed=seed), ExplicitVRLittleEndian))
    return part


def parts(folder: Path) -> int:
    return sum(path.stat().st_size > 0 for path in (folder / "incoming").rglob("*.part"))


def test_the_start_of_one_leaves_alone_what_another_receives(folder: Path) -> None:
    part = begin(Spool(folder, 0, receiver="one"))
    two = Spool(folder, 0, receiver="two")
    assert two.sweep() == 0
    assert part.commit().is_new
    assert [path.stem for path in two.instances(SERIES)] == [f"{SERIES}.1"]


def test_what_a_dead_one_left_is_taken_in_by_itself_or_by_another(folder: Path) -> None:
    begin(Spool(folder, 0, receiver="one"), 1)
    two = Spool(folder, 0, receiver="two")
    assert two.sweep_after("one") == 1
    begin(two, 2)
    assert Spool(folder, 0, receiver="two").sweep() == 1
    assert [path.stem for path in two.instances(SERIES)] == [f"{SERIES}.{n}" for n in (1, 2)]
    assert parts(folder) == 0


@pytest.mark.parametrize("process", ["one", "one/1"])
def test_one_that_was_taken_for_dead_loses_what_it_was_receiving_and_goes_on(
    process: str, folder: Path
) -> None:
    """As a host that was cut off from the database for some seconds, itself or by processes of its own."""
    one, two = Spool(folder, 0, receiver=process), Spool(folder, 0, receiver="two")
    begin(one, 1).commit()
    part = begin(one, 2)
    assert two.sweep_after("one") == 1
    with pytest.raises(FileNotFoundError):  # not acknowledged: the sender comes again
        part.commit()
    part.discard()
    assert not begin(one, 2).commit().is_new
    assert begin(one, 3).commit().is_new
    assert [path.stem for path in two.instances(SERIES)] == [f"{SERIES}.{n}" for n in (1, 2, 3)]


@pytest.mark.parametrize(("before", "after"), [("", "one"), ("one", "")])
def test_part_files_of_a_node_that_was_alone_or_one_of_several_are_swept_by_its_successor(
    before: str, after: str, folder: Path
) -> None:
    begin(Spool(folder, 0, receiver=before))
    assert Spool(folder, 0, receiver=after).sweep() == 1
    assert parts(folder) == 0


def test_an_instance_that_comes_to_all_at_once_with_other_contents_replaces_nothing(folder: Path) -> None:
    spools = [Spool(folder, 0, receiver=f"r{number}") for number in range(4)]
    for number in range(20):
        made = [begin(spool, number, seed) for seed, spool in enumerate(spools)]
        start = threading.Barrier(4)

        def commit(part: PartFile, start: threading.Barrier = start) -> bool:
            start.wait()
            return part.commit().is_conflict

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(commit, made)) == [False, True, True, True]
    assert len(spools[0].instances(SERIES)) == 20
    assert len(spools[0].conflicts(SERIES)) == 60
    assert parts(folder) == 0


class Receiver(Bench):
    """One of several."""

    def __init__(self, shelf: object = None) -> None:
        super().__init__(shelf)
        clock = self.completion
        self.completion = Completion(SETTINGS, self.shelf, self.told.append, clock._clock, is_shared=True)


def test_the_last_timer_tells_and_no_receiver_tells_a_part(folder: Path) -> None:
    one = Receiver()
    two = Receiver(one.shelf)
    one.receive(0)
    one.wait(15)
    two.receive(1)
    two.receive(2)
    one.wait(15)  # its own images are long past
    assert one.told == []
    one.wait(20)
    two.wait(35)
    assert [series.instances for series in (*one.told, *two.told)] == [3, 3]
    assert one.told == two.told  # the same work, which is done once


def test_a_series_of_a_dead_receiver_is_told_by_another_after_the_quiet_time() -> None:
    dead = Receiver()
    for number in (0, 1):
        dead.receive(number)
    other = Receiver(dead.shelf)
    other.completion.restore()
    other.wait(19)
    assert other.told == []
    other.wait(1)
    assert [series.instances for series in other.told] == [2]


def test_a_series_that_never_is_quiet_anywhere_is_taken_after_the_limit() -> None:
    one = Receiver()
    two = Receiver(one.shelf)
    one.receive(0)
    for number in range(1, 30):
        two.receive(number)
        one.wait(10)
        if one.told:
            break
    assert number == 10
