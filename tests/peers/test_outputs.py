"""What each archive gets of a result: by its ``outputs``, and by what DCMTK's storescp refuses.

Covered: kinds by pipeline and destination; the picture in place of a SEG that is refused or not wanted;
that no instance that an archive got refers to one that it did not get; older classes on top of it;
second versions; the node as a whole beside an archive that refuses SEG.
Not covered: refusals over DICOMweb of each kind (tests/deliver/test_stow.py has those of any file).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from dicom_node.errors import DeliveryRefused
from dicom_node.phantom.mr_series import mr_series, write_series
from dicom_node.results.proof import prove_results
from dicom_node.results.result_set import Kind, ResultSet
from dicom_node.settings import Destination, Outgoing
from dicom_node.workflow.ledger import State
from dicom_node.workflow.parcel import pack
from tests.peers.archives import archive, dangling, deliver
from tests.results.result_cases import Case, dciodvfy, make_case, negative, run
from tests.support.running import (
    free_port,
    node_process,
    say,
    wait_until_ended,
    write_configuration,
)
from tests.support.running import (
    send as send_series,
)
from tests.support.spot import image_spot

pytestmark = pytest.mark.peer

EVERYTHING = tuple(Kind)
USUAL = (Kind.SEG, Kind.SC, Kind.SR)


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case("oblique")


@pytest.fixture(scope="module")
def result(case: Case, tmp_path_factory: pytest.TempPathFactory) -> ResultSet:
    return run(case, tmp_path_factory.mktemp("result"))


@pytest.mark.parametrize(
    ("outputs", "wanted", "refuses", "arrives"),
    [
        (USUAL, None, (), {"SEG", "SC", "3D SR"}),
        (EVERYTHING, None, (), {"SEG", "PM", "SC", "KOS", "3D SR"}),
        (EVERYTHING, USUAL, (), {"SEG", "SC", "3D SR"}),
        ((Kind.SEG, Kind.SR), None, (), {"SEG", "3D SR"}),
        # by configuration: the picture is there though the pipeline does not send it elsewhere
        ((Kind.SEG, Kind.SR), (Kind.SC, Kind.SR), (), {"SC", "3D SR"}),
        (USUAL, (Kind.SR,), (), {"3D SR"}),
        (USUAL, (Kind.SC,), (), {"SC"}),
        (EVERYTHING, (Kind.SEG, Kind.PM), (), {"SEG", "PM"}),
        # by refusal
        (USUAL, None, ("SEG",), {"SC", "3D SR"}),
        ((Kind.SEG, Kind.SR), None, ("SEG",), {"SC", "3D SR"}),
        (USUAL, None, ("SEG", "3D SR"), {"SC", "Comprehensive SR"}),
        (USUAL, None, ("SEG", "3D SR", "Comprehensive SR"), {"SC", "Enhanced SR"}),
        (USUAL, (Kind.SC, Kind.SR), ("3D SR",), {"SC", "Comprehensive SR"}),
        (EVERYTHING, None, ("SEG",), {"PM", "SC", "KOS", "3D SR"}),
    ],
)
def test_an_archive_gets_what_it_wants_and_takes_and_nothing_that_refers_to_more(
    outputs: Sequence[Kind],
    wanted: Sequence[Kind] | None,
    refuses: tuple[str, ...],
    arrives: set[str],
    case: Case,
    result: ResultSet,
    tmp_path: Path,
) -> None:
    arrived = deliver(result, tmp_path / "archive", *refuses, outputs=outputs, wanted=wanted)
    assert arrived.keys() == arrives
    assert dangling(arrived, case) == set()


@pytest.mark.parametrize("refused", ["PM", "KOS", "SC"])
def test_what_has_no_substitute_fails_the_delivery_and_the_rest_arrives(
    refused: str, result: ResultSet, tmp_path: Path
) -> None:
    with pytest.raises(DeliveryRefused, match=rf"does not take .*\({Kind[refused]}\.dcm\)"):
        deliver(result, tmp_path / "archive", refused, outputs=EVERYTHING)
    assert len(list((tmp_path / "archive").iterdir())) == len(Kind) - 1


def test_the_report_without_segments_says_the_same_and_stands_its_proof(
    case: Case, result: ResultSet, tmp_path: Path
) -> None:
    (with_seg,) = (made for made in result.objects if made.kind is Kind.SR)
    before = with_seg.path.read_bytes()
    (parcel,) = pack(
        result.objects, USUAL, [Destination(name="a", ae_title="A", host="h", port=1, outputs=(Kind.SR,))]
    ).values()
    (path,) = map(Path, json.loads(parcel)["paths"])
    prove_results({Kind.SR: path}, case.volume, case.findings)
    assert dciodvfy(path)[0] == []
    assert numbers(pydicom.dcmread(path)) == numbers(pydicom.dcmread(with_seg.path))
    assert with_seg.path.read_bytes() == before


def numbers(report: Dataset) -> list[tuple[str, str, float]]:
    """Lesion, measurement and value of each NUM."""
    (measured,) = (i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    return sorted(
        (
            next(i.TextValue for i in group.ContentSequence if i.ValueType == "TEXT"),
            item.ConceptNameCodeSequence[0].CodeMeaning,
            float(item.MeasuredValueSequence[0].NumericValue),
        )
        for group in measured.ContentSequence
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    )


@pytest.mark.parametrize(
    ("wanted", "refuses"), [(None, ("SEG",)), ((Kind.SC, Kind.SR), ()), (None, ("3D SR",))], ids=str
)
def test_a_second_version_names_the_first_as_this_archive_got_it(
    wanted: Sequence[Kind] | None, refuses: tuple[str, ...], case: Case, result: ResultSet, tmp_path: Path
) -> None:
    second = run(case, tmp_path / "second", configuration_digest="2", predecessor=result, version=2)
    first = deliver(result, tmp_path / "a", *refuses, outputs=USUAL, wanted=wanted)
    arrived = deliver(second, tmp_path / "b", *refuses, outputs=USUAL, wanted=wanted)
    assert dangling(arrived, case, *first.values()) == set()


def test_an_archive_that_is_to_get_no_seg_gets_later_versions_without_one_in_the_same_form(
    case: Case, result: ResultSet, tmp_path: Path
) -> None:
    wanted = (Kind.SC, Kind.SR)
    later = run(negative(case), tmp_path / "later", configuration_digest="2", predecessor=result, version=2)
    first = deliver(result, tmp_path / "a", outputs=USUAL, wanted=wanted)
    arrived = deliver(later, tmp_path / "b", outputs=USUAL, wanted=wanted)
    assert arrived.keys() == {"SC", "3D SR"}
    assert dangling(arrived, case, *first.values()) == set()


def test_nothing_is_delivered_to_an_archive_that_wants_nothing_of_a_result(
    case: Case, tmp_path: Path
) -> None:
    nothing = run(negative(case), tmp_path)
    seg_only = Destination(name="a", ae_title="A", host="h", port=1, outputs=(Kind.SEG,))
    assert pack(nothing.objects, EVERYTHING, [seg_only]) == {}


def test_outputs_of_a_destination_may_not_be_empty() -> None:
    with pytest.raises(ValueError, match="outputs"):
        Outgoing(name="a", outputs=())


@pytest.mark.slow
def test_the_node_beside_an_archive_that_refuses_seg_is_done(spot_models: Path, tmp_path: Path) -> None:
    port = free_port()
    with archive(tmp_path / "archive", "SEG") as archive_port:
        configuration = write_configuration(
            tmp_path / "node.toml",
            port=port,
            models=spot_models,
            destinations={"archive": ("ARCHIVE", archive_port)},
        )
        spot = image_spot()
        with node_process(configuration, port):
            send_series(write_series(mr_series(spot.voxels, spot.affine), tmp_path / "series"), port)
            (entry,) = wait_until_ended(tmp_path / "var", timeout_s=240)
        told = say(configuration, "status")
    assert entry.state is State.DONE
    arrived = {pydicom.dcmread(path).Modality for path in (tmp_path / "archive").iterdir()}
    assert arrived == {"OT", "SR"}
    assert "sent_otherwise" in configuration.with_suffix(".log").read_text()
    assert "archive takes no Segmentation Storage: refused " in told
