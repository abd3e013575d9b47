"""The node beside a real PACS: Orthanc and DCMTK send series, and SEG and SR come back.

Each test starts the node as a process with the shipped bundles and sends a real patient of the
test split, written as an MR series; without real images, a phantom.
Not covered: other PACS, TLS, storage commitment.
"""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from dicom_node.phantom.mr_series import write_series
from dicom_node.phantom.scan import scan_phantom
from dicom_node.settings import installed_models
from dicom_node.workflow.ledger import State
from dicom_node.workflow.worked import Outcome
from tests.peers.orthanc import Orthanc, orthanc
from tests.support.lgg import lgg_series
from tests.support.running import (
    free_port,
    need,
    node_process,
    wait_until_ended,
    write_configuration,
)

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture(params=["phantom", pytest.param("patient", marks=pytest.mark.data)])
def series(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    if request.param == "phantom":
        return write_series(scan_phantom().datasets, tmp_path / "series")
    patient = lgg_series(request.getfixturevalue("data"), "TCGA_DU_7010")
    return write_series(patient.datasets, tmp_path / "series")


@pytest.fixture
def node_port(tmp_path: Path) -> int:
    return free_port()


def storescu(paths: list[Path], title: str, port: int) -> None:
    command = [need("storescu"), "-R", "-aec", title, "127.0.0.1", str(port), *map(str, paths)]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "TCP_NODELAY": "1"})


@pytest.fixture
def running(tmp_path: Path, node_port: int) -> Iterator[Orthanc]:
    """Orthanc that routes MR series to a node that sends results to it."""
    with orthanc(tmp_path / "orthanc", node_port=node_port, autoroute=True) as pacs:
        configuration = write_configuration(
            tmp_path / "node.toml",
            port=node_port,
            models=installed_models(),
            destinations={"pacs": ("TESTPACS", pacs.dicom_port)},
        )
        with node_process(configuration, node_port):
            yield pacs


def read(pacs: Orthanc, series: str) -> list[Dataset]:
    instances = pacs.get(f"/series/{series}")["Instances"]
    return [pydicom.dcmread(io.BytesIO(pacs.file(instance))) for instance in instances]


def references(dataset: Dataset) -> set[str]:
    """Every ReferencedSOPInstanceUID at any depth."""
    return {str(e.value) for e in dataset.iterall() if e.keyword == "ReferencedSOPInstanceUID"}


def check_results(pacs: Orthanc, sources: list[Dataset]) -> None:
    found = pacs.wait_for_results("SEG", "SR", "OT")
    uids = {str(s.SOPInstanceUID) for s in sources}
    (seg,), (sr,), (capture,) = (read(pacs, found[m][0]) for m in ("SEG", "SR", "OT"))
    for result in (seg, sr, capture):
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "StudyDate"):
            assert result.get(keyword) == sources[0].get(keyword)
        assert "RESEARCH USE ONLY" in result.SeriesDescription
    assert seg.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    assert (seg.Rows, seg.Columns) == (sources[0].Rows, sources[0].Columns)
    assert references(seg) <= uids
    assert references(sr) <= uids | {str(seg.SOPInstanceUID), str(capture.SOPInstanceUID)}
    assert str(seg.SOPInstanceUID) in references(sr)
    assert len(pacs.get("/studies")) == 1
    assert len(pacs.get("/patients")) == 1


def test_orthanc_routes_a_series_to_the_node_and_gets_seg_and_sr_in_the_same_study(
    running: Orthanc, series: list[Path], tmp_path: Path
) -> None:
    storescu(series, "TESTPACS", running.dicom_port)
    check_results(running, [pydicom.dcmread(path) for path in series])
    (entry,) = wait_until_ended(tmp_path / "var")
    assert entry.state is State.DONE
    assert entry.outcome is Outcome.FINDINGS
    assert entry.instances == len(series)


def test_storescu_sends_to_the_node_and_seg_and_sr_are_in_orthanc(
    running: Orthanc, series: list[Path], node_port: int, tmp_path: Path
) -> None:
    storescu(series, "DICOM_NODE", node_port)
    check_results(running, [pydicom.dcmread(path) for path in series])
    storescu(series, "DICOM_NODE", node_port)  # again: nothing new
    (entry,) = wait_until_ended(tmp_path / "var")
    assert entry.state is State.DONE
    assert sorted(map(len, running.modalities().values())) == [1, 1, 1]


def test_echoscu_is_answered(running: Orthanc, node_port: int) -> None:
    echo = [need("echoscu"), "-aec", "DICOM_NODE", "127.0.0.1", str(node_port)]
    subprocess.run(echo, check=True, timeout=30)
