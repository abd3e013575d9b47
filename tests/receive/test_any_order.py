"""Whatever senders and crashes do, in whatever order: spool and timer of series together, as a state machine.

Several series come over several associations, interleaved, out of order, twice, in part, late, with other
content under the same UID; associations end well or badly; the process dies between any two images or
within one. What must hold: what was acknowledged is there with the content that came; each content of a
series is handed on once by a process, and the last one handed on is all that came.

The clock is the test's. Not covered: threads and the network (test_receiver.py, test_crash.py,
tests/torture), what is made of a series that is handed on (tests/workflow/test_versions.py).
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node.receive.completion import CompleteSeries, Completion
from dicom_node.receive.instance import Incoming
from dicom_node.receive.part_file import PartFile
from dicom_node.receive.spool import Spool
from dicom_node.settings import Completion as CompletionSettings
from tests.receive.images import STUDY, data_set_of, encode, mr_image

QUIET = CompletionSettings(quiet_s=20, quiet_after_release_s=3, longest_s=300)

SERIES = st.sampled_from([f"{STUDY}.{number}" for number in (1, 2, 3)])
NUMBERS = st.integers(1, 5)
CONTENTS = st.sampled_from([0, 0, 0, 1, 2])
ASSOCIATIONS = st.integers(1, 3)


@functools.cache
def encoded(series: str, number: int, content: int) -> bytes:
    return encode(mr_image(number, series, size=4, seed=content), ExplicitVRLittleEndian)


def digest_of(uids: set[str]) -> str:
    return hashlib.sha256("\n".join(sorted(uids)).encode()).hexdigest()[:16]


class Receiving(RuleBasedStateMachine):
    """A spool and a timer of series, and what senders know of them."""

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self._temporary.name) / "spool"
        self.now = 0.0
        # By series and UID, the contents in the order of their coming
        self.stored: dict[str, dict[str, list[int]]] = {}
        self.known: set[tuple[str, str]] = set()  # what any process handed on
        self.begin()

    def teardown(self) -> None:
        self._temporary.cleanup()

    def begin(self) -> None:
        """Start a process: mend the spool, and look at every series in it."""
        self.spool = Spool(self.folder, 0, maximum_object_mb=1)
        self.spool.sweep()
        self.told: list[CompleteSeries] = []
        self.completion = Completion(QUIET, self.spool, self.told.append, lambda: self.now)
        self.completion.restore()

    def part(self, series: str, number: int, content: int, association: int) -> PartFile:
        uid = f"{series}.{number}"
        incoming = Incoming(MRImageStorage, uid, ExplicitVRLittleEndian, "DICOM_NODE", "MR1", association)
        return self.spool.begin(incoming)

    def note(self, series: str, number: int, content: int) -> None:
        contents = self.stored.setdefault(series, {}).setdefault(f"{series}.{number}", [])
        if content not in contents:
            contents.append(content)

    @rule(series=SERIES, number=NUMBERS, content=CONTENTS, association=ASSOCIATIONS)
    def an_image_comes(self, series: str, number: int, content: int, association: int) -> None:
        before = self.stored.get(series, {}).get(f"{series}.{number}", [])
        part = self.part(series, number, content, association)
        part.write(encoded(series, number, content))
        instance = part.commit()
        assert instance.is_new == (content not in before)
        assert instance.is_conflict == bool(before and content != before[0])
        self.completion.instance_stored(instance)
        self.note(series, number, content)

    @rule(series=SERIES, association=ASSOCIATIONS, order=st.permutations(range(1, 6)))
    def a_whole_series_comes(self, series: str, association: int, order: list[int]) -> None:
        for number in order:
            self.an_image_comes(series, number, 0, association)
        self.an_association_ends(association, True)

    @rule(series=SERIES, number=NUMBERS, association=ASSOCIATIONS)
    def an_image_breaks_off(self, series: str, number: int, association: int) -> None:
        part = self.part(series, number, 0, association)
        part.write(encoded(series, number, 0)[:-1])
        part.discard()
        self.an_association_ends(association, False)

    @rule(association=ASSOCIATIONS, released=st.booleans())
    def an_association_ends(self, association: int, released: bool) -> None:
        self.completion.association_ended(association, released)

    @rule(seconds=st.sampled_from([1.0, 4.0, 19.0, 21.0, 400.0]))
    def time_goes_by(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.completion.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.completion.tick()
        self.now = end
        self.completion.tick()

    @rule()
    def the_process_dies(self) -> None:
        self.remember()
        self.begin()

    @rule(series=SERIES, number=NUMBERS, content=CONTENTS, whole=st.booleans())
    def the_process_dies_within_an_image(self, series: str, number: int, content: int, whole: bool) -> None:
        """A part file that is whole may be taken in, as nobody knows that it was not acknowledged."""
        data = encoded(series, number, content)
        self.part(series, number, content, 1).write(data if whole else data[: len(data) // 2])
        if whole:
            self.note(series, number, content)
        self.the_process_dies()

    @precondition(lambda self: self.stored)
    @rule()
    def all_falls_quiet(self) -> None:
        """Then the last that was handed on of each series, by whichever process, is all that came of it."""
        self.time_goes_by(QUIET.quiet_s + 1)
        assert self.completion.next_deadline() is None
        self.remember()
        for series, images in self.stored.items():
            assert (series, digest_of(set(images))) in self.known
            told = [each for each in self.told if each.series_instance_uid == series]
            assert all(each.instances < len(images) for each in told[:-1])
            assert [each.instances for each in told[-1:]] in ([], [len(images)])

    def remember(self) -> None:
        self.known |= {(each.series_instance_uid, each.digest) for each in self.told}

    @invariant()
    def what_came_is_there_and_the_first_content_stays_first(self) -> None:
        for series, images in self.stored.items():
            paths = {path.stem: path for path in self.spool.instances(series)}
            assert paths.keys() == images.keys()
            for uid, contents in images.items():
                number = int(uid.rpartition(".")[2])
                assert data_set_of(paths[uid]) == encoded(series, number, contents[0])
            others = {data_set_of(path) for path in self.spool.conflicts(series)}
            assert others == {
                encoded(series, int(uid.rpartition(".")[2]), content)
                for uid, contents in images.items()
                for content in contents[1:]
            }

    @invariant()
    def nothing_is_handed_on_twice(self) -> None:
        contents = [(each.series_instance_uid, each.digest) for each in self.told]
        assert len(set(contents)) == len(contents)

    @invariant()
    def no_part_file_holds_anything(self) -> None:
        assert not [p for p in self.folder.glob("incoming/*") if p.stat().st_size]


TestReceiving = Receiving.TestCase
TestReceiving.settings = settings(
    derandomize=True,
    deadline=None,
    max_examples=15,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow],
)
