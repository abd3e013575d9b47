"""What OHIF, the most common free viewer, shows of the results, in a real browser.

Covered: a SEG is drawn where the lesion is, in an axial and in an oblique series; the report opens
with volume and axes at the outline of the lesion, each name once, and with labels that are whole; the
report of a failed analysis says why; the picture and the cards of a negative and of a failed result are
shown as they were made; a Parametric Map is laid over the right slice, in both series; nothing is written
as an error to the browser's console.
Not covered: other viewers, 3D rendering, hydrating a report into editable measurements, and Key Object
Selection, of which OHIF shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dicom_node.phantom.mr_series import mr_series, write_series
from dicom_node.phantom.scan import scan_phantom
from dicom_node.results.result_set import Kind
from dicom_node.settings import Analysis, Match, Pipeline, Settings
from dicom_node.workflow.defaults import default_settings
from dicom_node.workflow.folder import Analysed, analyse_folder
from dicom_node.workflow.stations import Stations
from tests.series.test_geometry import ORIENTATIONS
from tests.support.spot import HEAD, Spot, affine_of, image_spot

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


def doubly_oblique() -> np.ndarray:
    """No cosine is near 0: OHIF lays no map over a series whose cosines it rounds."""
    row, near = np.array([0.92, 0.36, 0.16]), np.array([-0.35, 0.93, 0.2])
    return affine_of(tuple(row), tuple(near - row * (row @ near) / (row @ row)))


def spot_settings(models: Path, folder: Path, outputs: tuple[Kind, ...]) -> Settings:
    match = Match(contrasts=("FLAIR",))
    pipeline = Pipeline(name="flair", bundle="spot", match=match, outputs=outputs)
    return Settings(folder=folder, analysis=Analysis(models=models, device="cpu"), pipelines=(pipeline,))


def numbered(voxels: np.ndarray) -> np.ndarray:
    """Slices with a mark in a corner that tells each from the others."""
    marked = voxels.copy()
    for index, slice_ in enumerate(marked):
        slice_[4 + 7 * index : 9 + 7 * index, 2:8] = HEAD
    return marked


@pytest.fixture(scope="module")
def studies(spot_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Study]:
    """The series and their results below one folder, and what is in them."""
    root = tmp_path_factory.mktemp("studies")
    seer = Stations(spot_settings(spot_models, root / "var", (Kind.SEG, Kind.SC, Kind.SR)))
    mapper = Stations(spot_settings(spot_models, root / "var", (Kind.PM, Kind.SR)))
    spots = {"axial": image_spot(), "oblique": image_spot(oblique())}
    mapped = {"axial map": spots["axial"], "oblique map": image_spot(doubly_oblique())}
    spots |= {name: replace(s, voxels=numbered(s.voxels)) for name, s in mapped.items()}
    series = {name: mr_series(s.voxels, s.affine, seed=name) for name, s in spots.items()}
    series["failed"] = mr_series(spots["axial"].voxels, spots["axial"].affine, seed="failed")
    del series["failed"][5]
    series["negative"] = scan_phantom(lesion=False).datasets
    done = {}
    for name, datasets in series.items():
        write_series(datasets, root / name / "series")
        stations = Stations(default_settings()) if name == "negative" else seer
        if name.endswith("map"):
            stations = mapper
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


@pytest.mark.parametrize("name", ["axial map", "oblique map"])
def test_the_map_is_laid_over_the_slice_that_it_is_of(name: str, hospital: Hospital) -> None:
    study = hospital.open(name)
    assert study.spot is not None
    assert hospital.viewer.modalities() == ["MR", "PMAP", "SR"]
    hospital.viewer.open_series("PMAP")
    hospital.viewer.wait_for_colour()
    for number in (6, 7):
        hospital.viewer.scroll_to_instance(number)
        viewport = hospital.viewer.settled()
        # OHIF 3.13 numbers the slices of a volume from the other end
        slice_ = slice_shown(study.spot, viewport)
        masks = [expected_mask(study.spot, s, viewport) for s in (slice_, 11 - slice_)]
        right, reversed_ = (dice(warm(viewport), mask) for mask in masks)
        assert right > max(0.8, reversed_ + 0.05)


def warm(viewport: Picture) -> np.ndarray:
    """Where the map is red to yellow; OHIF's own signs are blue."""
    return viewport[..., 0].astype(int) - viewport[..., 2] > 40


def slice_shown(spot: Spot, viewport: Picture) -> int:
    """Find the slice by its mark."""
    grey = viewport.mean(axis=2)
    marked = [fitted((v == HEAD).astype(np.float32), viewport) > 0.5 for v in spot.voxels]
    corner = fitted(np.pad(np.ones((96, 8), np.float32), ((0, 0), (0, 72))), viewport) > 0.5
    return int(np.argmax([grey[mark & corner].mean() - grey[~mark & corner].mean() for mark in marked]))


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
