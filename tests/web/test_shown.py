"""What is seen of a series: right is where it must be, and what was found lies where it was found.

Covered: a spot on the patient's left, anterior and superior, in each plane and in each of the eight ways to
store a slice, where it is in the picture, and the letters around it; heatmap, outline and mask over it;
versions of which images are gone; series that are no volume. The SEG is the only source of outlines.
Not covered: the page around the pictures (test_pages_in_browser), how quick they are (benchmarks/web.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from dicom_node.errors import SeriesRefused
from dicom_node.phantom.mr_series import mr_series, write_series
from dicom_node.series.volume import Plane
from dicom_node.settings import Analysis, Match, Pipeline, Settings
from dicom_node.web import pictures
from dicom_node.web.shown import Edges, Shown, Window
from dicom_node.web.stored import read_shown
from dicom_node.workflow.folder import Analysed, analyse_folder
from dicom_node.workflow.stations import Stations
from tests.support.bundles import write_spot_bundle
from tests.support.spot import SPOT, Spot, affine_of, image_spot

LEFT, POSTERIOR, SUPERIOR = np.eye(3)
# Directions of growing column and row index in the standard display
DISPLAY = {
    Plane.AXIAL: (LEFT, POSTERIOR),
    Plane.CORONAL: (LEFT, -SUPERIOR),
    Plane.SAGITTAL: (POSTERIOR, -SUPERIOR),
}
EDGES = {
    Plane.AXIAL: Edges("R", "L", "A", "P"),
    Plane.CORONAL: Edges("R", "L", "H", "F"),
    Plane.SAGITTAL: Edges("A", "P", "H", "F"),
}
WAYS = list(itertools.product((False, True), (1, -1), (1, -1)))
# On the patient's left (x), anterior (-y) and superior (z)
SPOT_MM = (18.0, -14.0, 12.0)


def stored(plane: Plane, way: tuple[bool, int, int]) -> Spot:
    """Image the spot in a plane, with rows and columns stored in one of eight ways."""
    transposed, along_row, along_column = way
    right, down = DISPLAY[plane]
    row, column = (down, right) if transposed else (right, down)
    affine = affine_of(tuple(along_row * row), tuple(along_column * column), shape=(14, 96, 80))
    return image_spot(affine, shape=(14, 96, 80), centre_mm=SPOT_MM)


def middle_of(bright: np.ndarray) -> tuple[float, float]:
    """Where something lies in a picture: 0 is left or top, 1 is right or bottom."""
    rows, columns = np.nonzero(bright)
    return float(columns.mean() / bright.shape[1]), float(rows.mean() / bright.shape[0])


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> Stations:
    """A node whose bundle sees bright spots in each plane."""
    models = tmp_path_factory.mktemp("models")
    write_spot_bundle(models / "spot", planes=tuple(map(str, Plane)))
    pipeline = Pipeline(name="flair", bundle="spot", match=Match(contrasts=("FLAIR",)))
    analysis = Analysis(models=models, device="cpu")
    return Stations(Settings(folder=models / "var", analysis=analysis, pipelines=(pipeline,)))


@dataclass(frozen=True)
class Seen:
    """A spot that was analysed."""

    paths: list[Path]
    result: Path
    shown: Shown


@pytest.fixture
def see(series_of: Callable[..., list[Path]], seer: Stations, tmp_path: Path) -> Callable[..., Seen]:
    def analysed(spot: Spot, **arguments: object) -> Seen:
        paths = series_of(spot, **arguments)
        one: Analysed
        (one,) = analyse_folder(seer, tmp_path / "series", tmp_path / "results")
        assert one.worked is not None, one.detail
        return Seen(paths, one.folder, read_shown(paths, one.folder))

    return analysed


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{'T' if way[0] else ''}{way[1]}{way[2]}")
@pytest.mark.parametrize("plane", list(Plane))
def test_what_is_on_the_patients_left_is_on_the_right_of_the_picture(
    plane: Plane, way: tuple[bool, int, int], series_of: Callable[..., list[Path]]
) -> None:
    spot = stored(plane, way)
    shown = read_shown(series_of(spot), None)
    slice_ = int(spot.mask.sum(axis=(1, 2)).argmax())
    picture = pictures.anatomy(shown, slice_, Window(SPOT * 0.8, SPOT * 0.2))
    across, down = middle_of(picture > 127)
    assert shown.edges == EDGES[plane]
    if plane is Plane.SAGITTAL:
        assert across < 0.45, "anterior is on the left"
    else:
        assert across > 0.55, "the patient's left is on the right"
    assert down < 0.45, "anterior or superior is up"


@pytest.mark.parametrize("way", [WAYS[0], WAYS[5], WAYS[7]], ids=["straight", "crossed", "mirrored"])
@pytest.mark.parametrize("plane", list(Plane))
def test_heatmap_outline_and_mask_lie_over_the_spot(
    plane: Plane, way: tuple[bool, int, int], see: Callable[..., Seen]
) -> None:
    spot = stored(plane, way)
    shown = see(spot).shown
    slice_ = int(spot.mask.sum(axis=(1, 2)).argmax())
    assert shown.key_slice in np.flatnonzero(spot.mask.any(axis=(1, 2)))
    bright = pictures.anatomy(shown, slice_, Window(SPOT * 0.8, SPOT * 0.2)) > 127
    mask = pictures.overlay(shown, slice_, "mask")[:, :, 3] > 0
    heat = pictures.overlay(shown, slice_, "heatmap")[:, :, 3] > 115
    contour = pictures.overlay(shown, slice_, "contour")[:, :, 3] > 0
    assert dice(mask, bright) > 0.9
    assert dice(heat, bright) > 0.85
    assert np.subtract(middle_of(contour), middle_of(bright)) == pytest.approx([0, 0], abs=0.03)
    empty = int(np.flatnonzero(~spot.mask.any(axis=(1, 2)))[0])
    assert not pictures.overlay(shown, empty, "mask").any()
    assert not pictures.overlay(shown, empty, "contour").any()


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


def test_pixels_that_are_not_square_are_made_so(see: Callable[..., Seen]) -> None:
    affine = affine_of(shape=(12, 60, 96), spacing_mm=(4.0, 2.4, 1.5))
    shown = see(image_spot(affine, shape=(12, 60, 96))).shown
    assert shown.pixel_mm == (2.4, 1.5)
    assert pictures.size_of(shown) == (640, 640)
    both = pictures.side_by_side(shown, shown.key_slice)
    assert both.shape == (640, 1280, 3)
    assert (both[:, :640] != both[:, 640:]).any(), "something was found"


def test_the_outline_is_what_was_sent(see: Callable[..., Seen]) -> None:
    seen = see(image_spot())
    assert seen.shown.labels is not None
    (seen.result / "seg.dcm").unlink()
    again = read_shown(seen.paths, seen.result)
    assert again.labels is None
    assert again.probability is not None


def test_an_earlier_version_is_shown_with_the_images_that_it_had(see: Callable[..., Seen]) -> None:
    spot = image_spot()
    seen = see(spot)
    later = write_series(
        mr_series(spot.voxels[:1], shifted(spot.affine, -1), seed="late"), seen.paths[0].parent / "late"
    )
    shown = read_shown([*seen.paths, *later], seen.result)
    assert shown.slices == 12
    assert len(shown.judged) == 12


def shifted(affine: np.ndarray, slices: int) -> np.ndarray:
    moved = affine.copy()
    moved[:3, 3] += slices * affine[:3, 2]
    return moved


def test_without_all_of_its_images_nothing_of_a_result_is_laid_over_the_others(
    see: Callable[..., Seen],
) -> None:
    seen = see(image_spot())
    shown = read_shown(seen.paths[:-1], seen.result)
    assert shown.slices == 11
    assert shown.labels is None
    assert shown.probability is None
    assert shown.judged == ()
    assert "no longer here" in shown.remark


def test_a_series_that_is_no_volume_is_shown_as_far_as_it_goes(
    series_of: Callable[..., list[Path]],
) -> None:
    paths = series_of(image_spot())
    paths[5].unlink()
    (paths[0].parent / "broken.dcm").write_bytes(b"no DICOM")
    shown = read_shown([*paths[:5], *paths[6:], paths[0].parent / "broken.dcm"], None)
    assert shown.slices == 11
    assert "a slice is missing" in shown.remark
    assert "1 of the files cannot be read" in shown.remark
    assert shown.edges == EDGES[Plane.AXIAL]


def test_without_an_orientation_no_side_is_named(series_of: Callable[..., list[Path]]) -> None:
    paths = series_of(image_spot(), attributes={"ImageOrientationPatient": None})
    shown = read_shown(paths, None)
    assert shown.edges is None
    assert shown.pixel_mm is None
    assert shown.slices == 12


def test_a_series_of_which_nothing_can_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"no DICOM")
    with pytest.raises(SeriesRefused, match="none of its images"):
        read_shown([tmp_path / "a.dcm"], None)
    with pytest.raises(SeriesRefused, match="no longer here"):
        read_shown([], None)


def test_what_is_encoded_is_what_was_drawn() -> None:
    drawn = np.zeros((4, 6, 4), np.uint8)
    drawn[1, 2] = (250, 100, 50, 200)
    read = cv2.imdecode(np.frombuffer(pictures.encoded(drawn), np.uint8), cv2.IMREAD_UNCHANGED)
    assert read is not None
    assert (read[:, :, [2, 1, 0, 3]] == drawn).all()
