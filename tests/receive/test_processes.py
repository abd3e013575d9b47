"""Covers: processes that receive for the node: how many, what is limited over all of them, killed within and
between C-STOREs, the end of the node, faults of the node, settings that change.
Does not cover: what peers can do to them (test_hostile.py, test_receiver.py, test_tls.py do, in some tests
both ways); how fast they are (`make bench-receive`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node.receive.completion import CompleteSeries, Completion
from dicom_node.receive.instance import Incoming, StoredInstance
from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.receive.status import Status
from dicom_node.settings import CalledAE, Receive
from dicom_node.settings import Completion as CompletionSettings
from tests.receive.conftest import Running
from tests.receive.images import SERIES, encode, mr_image
from tests.receive.test_crash import SERVE
from tests.receive.wire import ASSOCIATE_RJ, Peer, associate_rq
from tests.support.running import wait_for

pytestmark = pytest.mark.parametrize("receiver", [2], indirect=True, ids=[""])
Start = Callable[..., Running]


def image(number: int = 1) -> bytes:
    return encode(mr_image(number), ExplicitVRLittleEndian)


def store(peer: Peer, number: int = 1) -> int:
    return peer.store(f"{SERIES}.{number}", image(number), pieces=3)


def made_by(pid: int) -> list[int]:
    """The processes that a process made."""
    try:
        children = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has just ended
        return []
    return [int(child) for each in children for child in each]


def maker() -> int:
    """The process that makes those that receive."""
    (pid,) = (pid for pid in made_by(os.getpid()) if b"receive.process" in command_of(pid))
    return pid


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def is_gone(peer: Peer) -> bool:
    return peer.read() == (0, b"")


def serves(running: Running, number: int = 9) -> bool:
    with Peer(running.port) as peer:
        return store(peer.associate(), number) == Status.SUCCESS


def test_processes_are_made_as_associations_come_at_the_same_time_up_to_the_number(receiver: Start) -> None:
    running = receiver()
    assert made_by(maker()) == []
    for number in (1, 2):
        with Peer(running.port) as peer:
            store(peer.associate(), number)
            peer.release()
        wait_for(lambda number=number: len(running.ends) == number and not running.receiver._census.present())
    assert len(made_by(maker())) == 1
    peers = [Peer(running.port).associate() for _ in range(4)]
    assert len(made_by(maker())) == 2
    for number, peer in enumerate(peers):
        assert store(peer, number) == Status.SUCCESS
        peer.socket.close()


def test_one_that_is_killed_within_a_c_store_cuts_its_association_only(receiver: Start) -> None:
    running = receiver(maximum_associations=2)
    with Peer(running.port) as first:
        store(first.associate(), 1)
        (process,) = made_by(maker())
        second = Peer(running.port).associate()
        store(second, 2)
        first.begin(f"{SERIES}.3")
        first.send(first.fragment(image(3)[:1000]))
        wait_for(lambda: running.parts, 20)
        os.kill(process, signal.SIGKILL)
        assert is_gone(first)
        wait_for(lambda: running.losses, 20)
        assert running.ends == [(running.instances[0].association_id, False)]
        assert not running.parts
        assert store(second, 4) == Status.SUCCESS
        assert serves(running, 5), "the place of the association that was cut is not free"
        second.socket.close()
    assert {path.stem for path in running.spool.instances(SERIES)} == {f"{SERIES}.{n}" for n in (1, 2, 4, 5)}


def test_one_that_is_killed_between_c_stores_loses_nothing_and_gets_a_successor(receiver: Start) -> None:
    running = receiver()
    for round_ in range(2):
        with Peer(running.port) as peer:
            peer.associate()
            for number in range(3):
                assert store(peer, 10 * round_ + number) == Status.SUCCESS
            (process,) = made_by(maker())
            os.kill(process, signal.SIGKILL)
            assert is_gone(peer)
        wait_for(lambda round_=round_: running.losses == round_ + 1, 20)
    assert len(running.spool.instances(SERIES)) == len(running.instances) == 6
    assert [released for _, released in running.ends] == [False, False]


def test_an_image_that_was_placed_and_not_told_completes_its_series(tmp_path: Path, receiver: Start) -> None:
    told: list[CompleteSeries] = []
    spool = Spool(tmp_path, 0)
    completion = Completion(CompletionSettings(quiet_s=0.5, quiet_after_release_s=0.5), spool, told.append)
    completion.start()
    node = Receiver(
        Receive(processes=1),
        spool,
        completion.instance_stored,
        completion.association_ended,
        on_loss=completion.restore,
        port=0,
    )
    node.start()
    try:
        with Peer(node.port) as peer:
            peer.associate()
            for series, place in ((SERIES, "placed"), (f"{SERIES}.77", "whole, not placed")):
                beside = Spool(*spool.of_process(1))
                part = beside.begin(
                    Incoming(MRImageStorage, f"{series}.1", ExplicitVRLittleEndian, "NODE", "MR", 0)
                )
                dataset = mr_image(1)
                dataset.SeriesInstanceUID, dataset.SOPInstanceUID = series, f"{series}.1"
                part.write(encode(dataset, ExplicitVRLittleEndian))
                if place == "placed":
                    part.commit()
            os.kill(made_by(maker())[0], signal.SIGKILL)
            wait_for(lambda: len(told) == 2, 20)
    finally:
        node.stop(5)
        completion.stop()
    assert {each.series_instance_uid for each in told} == {SERIES, f"{SERIES}.77"}
    assert not list((tmp_path / "incoming").iterdir())


def test_the_one_that_makes_the_others_may_die(receiver: Start) -> None:
    running = receiver()
    with Peer(running.port) as first:
        store(first.associate(), 1)
        before = maker()
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: not made_by(before), 20)
        assert serves(running, 2)  # by another
        assert maker() != before
        assert store(first, 3) == Status.SUCCESS
        first.release()
    wait_for(lambda: len(running.ends) == 2, 20)
    assert running.losses == 0


def test_they_leave_signals_to_the_node(receiver: Start) -> None:
    running = receiver()
    with Peer(running.port) as peer:
        store(peer.associate(), 1)
        for process in (maker(), *made_by(maker())):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # as to all of a group
                os.kill(process, number)
        assert store(peer, 2) == Status.SUCCESS
        assert serves(running)


def test_none_outlives_a_node_that_is_killed(tmp_path: Path, receiver: Start) -> None:
    node = subprocess.Popen([sys.executable, "-c", SERVE, tmp_path], stderr=subprocess.PIPE)
    assert node.stderr is not None
    with Peer(int(node.stderr.readline())) as peer:
        store(peer.associate(), 1)
        peer.begin(f"{SERIES}.2")
        peer.send(peer.fragment(image(2)[:1000]))
        (first,) = made_by(node.pid)
        processes = [first, *made_by(first)]
        assert len(processes) == 2
        node.kill()
        node.wait()
        node.stderr.close()
        assert is_gone(peer)
    wait_for(lambda: not any(map(command_of, processes)), 20)


def test_a_receiver_that_was_stopped_leaves_no_process(receiver: Start) -> None:
    running = receiver()
    assert serves(running)
    processes = [maker(), *made_by(maker())]
    running.receiver.stop(5)
    assert not any(map(command_of, processes))


@pytest.mark.parametrize("at", [1, 2])
def test_an_image_that_the_node_could_not_take_note_of_ends_its_association(
    at: int, tmp_path: Path, receiver: Start
) -> None:
    seen: list[StoredInstance] = []
    ended = threading.Event()

    def take(instance: StoredInstance) -> None:
        seen.append(instance)
        if len(seen) == at:
            raise OSError("a listing failed")

    node = Receiver(Receive(processes=1), Spool(tmp_path, 0), take, lambda *_: ended.set(), port=0)
    node.start()
    try:
        with Peer(node.port) as peer:
            peer.associate()
            answers = [store(peer, number) for number in range(at)]
            # Of the first of a series it is known before it is answered
            assert answers[0] == (-1 if at == 1 else Status.SUCCESS)
            assert ended.wait(20)
        with Peer(node.port) as peer:
            assert store(peer.associate(), 9) == Status.SUCCESS
    finally:
        node.stop(5)


def test_a_low_disk_is_said_once_however_many_find_it(
    receiver: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    running = receiver(minimum_free_mb=1 << 40)
    with Peer(running.port) as first, Peer(running.port) as second:
        wait_for(lambda: len(made_by(maker())) == 2, 20)
        for peer in (first, second):
            peer.send(associate_rq())
            assert peer.read()[0] == ASSOCIATE_RJ
    running.receiver.stop(5)  # and has taken note of all that they told
    assert capsys.readouterr().out.count("disk_low") == 1


def test_settings_that_change_reach_those_that_are_there_and_those_that_come(receiver: Start) -> None:
    running = receiver()
    with Peer(running.port) as first:
        first.associate()
        running.receiver.use(Receive(called=(CalledAE(ae_title="OTHER"),)))
        with Peer(running.port) as second:  # in a process that was made since
            second.associate(called="OTHER")
            for _ in range(2):  # in either
                with Peer(running.port) as stranger:
                    stranger.send(associate_rq())
                    assert stranger.read()[0] == ASSOCIATE_RJ
        assert store(first, 1) == Status.SUCCESS, "an association that was there goes on"
