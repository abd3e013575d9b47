"""What OHIF, the most common free viewer, shows of the results, in a real browser.

Covered: a SEG is drawn where the lesion is, in an axial and in an oblique series; the report opens
with volume and axes at the outline of the lesion, each name once, and with labels that are whole; the
report of a failed analysis says why; the picture and the cards of a negative and of a failed result are
shown as they were made; nothing is written as an error to the browser's console.
Not covered: other viewers, 3D rendering, hydrating a report into editable measurements, and the optional
outputs: OHIF shows no Key Object Selection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from dicom_node.phantom.mr_series import mr_series, write_series
from dicom_node.phantom.scan import scan_phantom
from dicom_node.settings import Analysis, Match, Pipeline, Settings
from dicom_node.workflow.defaults import default_settings
from dicom_node.workflow.folder import Analysed, analyse_folder
from dicom_node.workflow.stations import Stations
from tests.series.test_geometry import ORIENTATIONS
from tests.support.spot import Spot, affine_of, image_spot

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
from tests.viewer.browser import Picture, Viewer, chromium, red, viewer
from tests.viewer.ohif import serve_ohif
from tests.viewer.pacs import store, viewing_orthanc

pytestmark = [pytest.mark.viewer, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Study:
    """A study in the PACS; ``spot`` is what was imaged, where that is known."""

    uid: str
    result: Path
    spot: Spot | None = None


@dataclass(frozen=True)
class Hospital:
    """Studies in a PACS, and a viewer for them."""

    studies: dict[str, Study]
    viewer: Viewer

    def open(self, name: str) -> Study:
        self.viewer.open_study(self.studies[name].uid)
        return self.studies[name]


def oblique() -> np.ndarray:
    row, column = (np.array(v, float) for v in ORIENTATIONS["oblique"])
    return affine_of(tuple(row), tuple(column - row * (row @ column) / (row @ row)))


def spot_settings(models: Path, folder: Path) -> Settings:
    pipeline = Pipeline(name="flair", bundle="spot", match=Match(contrasts=("FLAIR",)))
    return Settings(folder=folder, analysis=Analysis(models=models, device="cpu"), pipelines=(pipeline,))


@pytest.fixture(scope="module")
def studies(spot_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Study]:
    """The series and their results below one folder, and what is in them."""
    root = tmp_path_factory.mktemp("studies")
    seer = Stations(spot_settings(spot_models, root / "var"))
    spots = {"axial": image_spot(), "oblique": image_spot(oblique())}
    series = {name: mr_series(s.voxels, s.affine, seed=name) for name, s in spots.items()}
    series["failed"] = mr_series(spots["axial"].voxels, spots["axial"].affine, seed="failed")
    del series["failed"][5]
    series["negative"] = scan_phantom(lesion=False).datasets
    done = {}
    for name, datasets in series.items():
        write_series(datasets, root / name / "series")
        stations = Stations(default_settings()) if name == "negative" else seer
        one: Analysed
        (one,) = analyse_folder(stations, root / name / "series", root / name / "result")
        assert one.worked is not None, one.detail
        done[name] = Study(str(datasets[0].StudyInstanceUID), one.folder, spots.get(name))
    return done


@pytest.fixture(scope="module")
def address(
    studies: dict[str, Study], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[object, str]]:
    with viewing_orthanc(tmp_path_factory.mktemp("pacs") / "orthanc") as pacs:
        for study in studies.values():
            store(pacs, sorted(study.result.parents[1].rglob("*.dcm")))
        with serve_ohif(f"http://127.0.0.1:{pacs.http_port}") as site, chromium() as browser:
            yield browser, site


@pytest.fixture
def hospital(studies: dict[str, Study], address: tuple) -> Iterator[Hospital]:
    with viewer(*address) as tab:
        yield Hospital(studies, tab)
        assert tab.problems == []


def fitted(image: np.ndarray, viewport: Picture) -> np.ndarray:
    """Lay an image with square pixels into a viewport as viewers do: centred, as large as fits."""
    height, width = viewport.shape[:2]
    scale = min(height / image.shape[0], width / image.shape[1])
    # Edges of pixels, not their centres, meet the edges of the viewport.
    left, top = (width - scale * image.shape[1]) / 2, (height - scale * image.shape[0]) / 2
    move = np.array([[scale, 0, left + scale / 2 - 0.5], [0, scale, top + scale / 2 - 0.5]])
    return cv2.warpAffine(image, move, (width, height), flags=cv2.INTER_LINEAR)


def expected_mask(spot: Spot, slice_: int, viewport: Picture) -> np.ndarray:
    return fitted(spot.mask[slice_].astype(np.float32), viewport) > 0.5


def middle_slice(spot: Spot) -> int:
    return int(spot.mask.sum(axis=(1, 2)).argmax())


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.mark.parametrize("name", ["axial", "oblique"])
def test_the_seg_is_drawn_where_the_lesion_is_and_on_no_other_slice(name: str, hospital: Hospital) -> None:
    study = hospital.open(name)
    assert study.spot is not None
    assert hospital.viewer.modalities() == ["MR", "OT", "SEG", "SR"]
    hospital.viewer.open_series("SEG")
    hospital.viewer.wait_for_colour()
    slice_ = middle_slice(study.spot)
    hospital.viewer.scroll_to_instance(slice_ + 1)
    viewport = hospital.viewer.wait_for_colour()
    assert dice(red(viewport), expected_mask(study.spot, slice_, viewport)) > 0.93
    beside = int(np.flatnonzero(study.spot.mask.any(axis=(1, 2)))[0])  # so many images have none
    assert beside > 0
    hospital.viewer.scroll_to_instance(beside)
    assert not red(hospital.viewer.settled()).any()


@pytest.mark.parametrize("name", ["axial", "oblique"])
def test_the_report_opens_with_volume_and_axes_at_the_outline_of_the_lesion(
    name: str, hospital: Hospital
) -> None:
    study = hospital.open(name)
    assert study.spot is not None
    hospital.viewer.open_series("SR")
    hospital.viewer.wait_for_text("Volume")
    viewport = hospital.viewer.settled()
    texts = hospital.viewer.texts()
    for label in hospital.viewer.labels():
        names = [line.partition(":")[0] for line in label]
        assert sorted(names) == sorted(set(names))
    for start in (f"Volume: {study.spot.volume_ml:.2f} cm3", "Long axis: ", "Perpendicular Axis: "):
        assert any(text.startswith(start) for text in texts), texts
    rows, columns = np.nonzero(expected_mask(study.spot, middle_slice(study.spot), viewport))
    lesion = (columns.min(), rows.min(), columns.max(), rows.max())
    pixel = viewport.shape[0] / study.spot.mask.shape[1]
    off = [np.abs(np.subtract(contour, lesion)).max() for contour in hospital.viewer.contours()]
    assert min(off) < 1.5 * pixel, (lesion, hospital.viewer.contours())


@pytest.mark.parametrize("name", ["axial", "negative", "failed"])
def test_the_picture_or_card_is_shown_as_it_was_made(name: str, hospital: Hospital) -> None:
    study = hospital.open(name)
    hospital.viewer.open_series("OT")
    made = cv2.imread(str(study.result / "picture.png"))
    assert made is not None

    def alike() -> bool:
        viewport = hospital.viewer.settled()
        expected = fitted(made[:, :, ::-1].astype(np.float32), viewport)
        # OHIF lays its own small texts over the corners.
        height = viewport.shape[0]
        middle = slice(height // 5, 4 * height // 5)
        return np.corrcoef(viewport[middle].ravel(), expected[middle].ravel())[0, 1] > 0.9

    hospital.viewer.wait_until(alike, "the picture is shown")


@pytest.mark.parametrize("name", ["axial", "negative"])
def test_the_labels_of_a_report_are_not_cut_off(name: str, hospital: Hospital) -> None:
    hospital.open(name)
    hospital.viewer.open_series("SR")
    hospital.viewer.wait_for_text("Certainty of Finding")
    hospital.viewer.settled()
    assert hospital.viewer.labels_beyond_the_edge() == []


def test_the_report_of_a_failed_analysis_says_why_and_the_card_opens_after_it(hospital: Hospital) -> None:
    hospital.open("failed")
    assert hospital.viewer.modalities() == ["MR", "OT", "SR"]
    hospital.viewer.open_series("SR")
    hospital.viewer.wait_until(lambda: "The analysis failed" in hospital.viewer.words(), "the cause is told")
    assert "Something went wrong" not in hospital.viewer.words()
    hospital.viewer.open_series("OT")
    hospital.viewer.wait_until(lambda: bool(hospital.viewer.settled().max() > 100), "the card is shown")
