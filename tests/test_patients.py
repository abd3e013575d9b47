"""Patients of the test split, written as MR series, through the shipped bundle to the SEG.

Covers that the way around the models keeps real anatomy in place, however a scanner stores it: the
same patient stored mirrored, turned, tilted, reversed and shuffled gets the same lesions at the same
place. How good the models are is measured by ``python -m training evaluate``; the bound here is low.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_node.phantom.mr_series import write_series
from dicom_node.workflow.defaults import default_settings
from dicom_node.workflow.stations import Stations
from dicom_node.workflow.worked import Worked
from tests.support.lgg import Case, lgg_series
from tests.workflow.test_bad_input import analyse_one, centroid_of

pytestmark = [pytest.mark.data, pytest.mark.slow]

PATIENT = "TCGA_DU_7010"


@pytest.fixture(scope="module")
def stations() -> Stations:
    return Stations(default_settings())


@pytest.fixture
def analyse(stations: Stations, tmp_path: Path) -> Callable[[Case], Worked]:
    def run(case: Case) -> Worked:
        write_series(case.datasets, tmp_path / "series")
        one = analyse_one(stations, tmp_path)
        assert one.worked is not None, one.detail
        assert not one.failed, one.detail
        return one.worked

    return run


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.mark.parametrize("patient", [PATIENT, "TCGA_HT_7690", "TCGA_CS_6186"])
def test_the_tumour_of_a_patient_is_outlined_where_experts_outlined_it(
    patient: str, data: Path, analyse: Callable[[Case], Worked]
) -> None:
    case = lgg_series(data, patient)
    worked = analyse(case)
    assert dice(worked.findings.labels > 0, case.mask) > 0.7
    (seg,) = (o.path for o in worked.results[0].objects if o.kind == "seg")
    slice_, row, column = np.argwhere(case.mask).mean(axis=0)
    expected = (case.affine @ [column, row, slice_, 1])[:3]
    assert np.linalg.norm(centroid_of(pydicom.dcmread(seg)) - expected) < 6


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ((-1, 0, 0), (0, 1, 0)),
        ((1, 0, 0), (0, -1, 0)),
        ((-1, 0, 0), (0, -1, 0)),
        ((1, 0, 0), (0, np.cos(0.35), np.sin(0.35))),
        ((np.cos(0.2), np.sin(0.2), 0), (-np.sin(0.2), np.cos(0.2), 0)),
    ],
    ids=[
        "mirrored left-right",
        "mirrored front-back",
        "turned by half",
        "tilted 20 degrees",
        "turned 11 degrees",
    ],
)
def test_the_way_that_slices_are_stored_changes_neither_lesions_nor_their_place(
    row: tuple, column: tuple, data: Path, analyse: Callable[[Case], Worked], tmp_path: Path
) -> None:
    plain = lgg_series(data, PATIENT)
    expected = analyse(plain).findings
    shutil.rmtree(tmp_path / "series")
    turned = lgg_series(data, PATIENT, row=row, column=column, shuffled_numbers=True, reversed_order=True)
    found = analyse(turned).findings
    assert dice(found.labels > 0, turned.mask) == pytest.approx(
        dice(expected.labels > 0, plain.mask), abs=1e-3
    )
    assert [lesion.volume_ml for lesion in found.lesions] == pytest.approx(
        [lesion.volume_ml for lesion in expected.lesions], rel=1e-3
    )
    if np.count_nonzero(turned.affine[:3, :3]) == 3:  # mirrored: the head itself lies as before
        for a, b in zip(found.lesions, expected.lesions, strict=True):
            np.testing.assert_allclose(a.centroid_mm, b.centroid_mm, atol=0.01)
