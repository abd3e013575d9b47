"""Versions of a series, whatever comes in whatever order: one result for each content, in a chain.

Two series come interleaved over two associations, out of order, with duplicates; then late slices, the
same again, a part of it again, or an image with other content under its UID. The node is in this
process and its work is real: timer of series, workflows, models, objects. Only the clock of the timer is
the test's. Not covered: the network (tests/receive), crashes and deliveries (tests/torture).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.node import Node
from dicom_node.phantom.mr_series import Patient, mr_series
from dicom_node.receive.completion import Completion
from dicom_node.receive.instance import Incoming
from dicom_node.settings import Completion as CompletionSettings
from dicom_node.settings import load_settings
from dicom_node.workflow.intake import Intake
from dicom_node.workflow.ledger import ENDED, State
from tests.receive.images import encode
from tests.support.running import free_port, say, wait_for, write_configuration
from tests.support.spot import image_spot
from tests.torture.audit import Result, results_of

QUIET = CompletionSettings(quiet_s=20, quiet_after_release_s=3, longest_s=300)
LATER = ["late", "same", "part", "other"]
SPOT = image_spot()
_number = itertools.count(1)


@dataclass
class Coming:
    """A series on its way.

    Attributes
    ----------
    slices : all that there are
    came : the SOP Instance UIDs that came so far
    contents : of the series, each time that it fell quiet with something new
    contradicted : an image came with other content
    """

    slices: list[Dataset]
    came: set[str] = field(default_factory=set)
    contents: list[set[str]] = field(default_factory=list)
    contradicted: bool = False

    @property
    def uid(self) -> str:
        return str(self.slices[0].SeriesInstanceUID)

    def next(self, wave: str, late: int) -> list[Dataset]:
        """What comes in a wave."""
        known = [s for s in self.slices if s.SOPInstanceUID in self.came]
        if wave == "first":
            return self.slices[late:] + self.slices[-2:]
        if wave == "late":
            return [s for s in self.slices if s not in known][-1:]  # next to the others: no gap
        if wave == "other":
            self.contradicted = True
            other = pydicom.Dataset(known[0])
            other.PixelData = bytes(len(other.PixelData))
            return [other]
        return known if wave == "same" else known[::3]


class Bench:
    """A node, and a timer of series on a clock of its own."""

    def __init__(self, node: Node, configuration: Path) -> None:
        self.node, self.configuration, self.now = node, configuration, 0.0
        intake = Intake(node.spool, node.ledger, node.jobs)
        self.completion = Completion(QUIET, node.spool, intake.take, lambda: self.now)

    def receive(self, image: Dataset, association: int) -> None:
        """Take in one image, as a C-STORE does."""
        incoming = Incoming(
            image.SOPClassUID,
            image.SOPInstanceUID,
            ExplicitVRLittleEndian,
            "DICOM_NODE",
            "TEST",
            association,
        )
        part = self.node.spool.begin(incoming)
        part.write(encode(image, ExplicitVRLittleEndian))
        self.completion.instance_stored(part.commit())

    def fall_quiet(self) -> None:
        """Let the quiet time pass, and wait for the work that comes of it."""
        self.now += QUIET.quiet_s + 1
        self.completion.tick()
        wait_for(lambda: all(entry.state in ENDED for entry in self.node.ledger.entries()))

    def versions(self, series: Coming) -> list[Result]:
        return [r for r in results_of(self.node.settings.folder) if r.series_uid == series.uid]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, spot_models: Path) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("versions")
    configuration = write_configuration(
        folder / "node.toml", port=free_port(), models=spot_models, destinations={}
    )
    with Node(load_settings(configuration)) as node:
        yield Bench(node, configuration)


def new_series() -> Coming:
    number = next(_number)
    patient = Patient(name=f"Version^{number}", id=str(number))
    return Coming(mr_series(SPOT.voxels, SPOT.affine, patient=patient, seed=f"versions {number}"))


def check(series: Coming, versions: Sequence[Result]) -> None:
    """Each content has its result, in the order of coming, and each names the one before."""
    assert [result.images for result in versions] == series.contents
    assert [result.version for result in versions] == list(range(1, len(versions) + 1))
    reports = [str(result.report.SOPInstanceUID) for result in versions]
    assert [result.predecessors for result in versions] == [[], *([uid] for uid in reports)][: len(reports)]
    objects = [uid for result in versions for uid in result.objects]
    assert len(set(objects)) == len(objects) == 3 * len(versions)
    of_kind: dict[str, set[str]] = {}
    for result in versions:
        for path in result.objects.values():
            found = pydicom.dcmread(path, stop_before_pixels=True)
            of_kind.setdefault(path.name, set()).add(found.SeriesInstanceUID)
            assert found.PatientID == series.slices[0].PatientID
    # A picture has a series of its own, as viewers open a series at its first one
    of_each = {"seg.dcm": 1, "sc.dcm": len(versions), "sr.dcm": 1}
    assert {name: len(uids) for name, uids in of_kind.items()} == of_each


@pytest.mark.slow
# Threads of the engine use Python's random while an example is drawn
@pytest.mark.filterwarnings(
    "ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"
)
@settings(
    derandomize=True,
    deadline=None,
    max_examples=3,
    phases=[Phase.generate],  # an example takes seconds: none is shrunk
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    data=st.data(),
    late=st.integers(1, 2),
    waves=st.lists(st.tuples(*[st.sampled_from(LATER)] * 2), min_size=2, max_size=3),
)
def test_each_content_of_a_series_has_one_result_in_a_chain(
    bench: Bench, data: st.DataObject, late: int, waves: list[tuple[str, str]]
) -> None:
    both = (new_series(), new_series())
    for wave in [("first", "first"), *waves]:
        coming = [image for series, what in zip(both, wave, strict=True) for image in series.next(what, late)]
        for number in data.draw(st.permutations(range(len(coming)))):
            bench.receive(coming[number], association=number % 2)
        for association in range(2):
            bench.completion.association_ended(association, data.draw(st.booleans()))
        for series in both:
            series.came |= {str(i.SOPInstanceUID) for i in coming if i.SeriesInstanceUID == series.uid}
            if series.came not in series.contents:
                series.contents.append(set(series.came))
        bench.fall_quiet()
        for series in both:
            check(series, bench.versions(series))
    for series in both:
        assert len(bench.node.spool.conflicts(series.uid)) == series.contradicted
        entries = bench.node.ledger.entries(series_instance_uid=series.uid)
        assert [entry.state for entry in entries] == [State.DONE] * len(series.contents)
    if any(series.contradicted for series in both):
        assert "conflict-*, not analysed" in say(bench.configuration, "status")
