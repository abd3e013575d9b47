"""From pixel data to voxels, and to the squares of a network and back.

Covers each way of storing pixels that the phantom's writer knows, damaged pixel data, padding,
normalisation, turning and resizing. Not covered: what networks make of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.errors import SeriesRefused
from dicom_node.phantom.mr_series import Storage, mr_series
from dicom_node.series.geometry import order_stack
from dicom_node.series.normalisation import PercentileRule, SquareGrid, normalise
from dicom_node.series.orientation import nearest_plane, turn_to_display
from dicom_node.series.pixels import read_voxels
from dicom_node.series.volume import Plane
from tests.series.test_geometry import ORIENTATIONS
from tests.support.frames import read_frames
from tests.support.spot import affine_of, image_spot

SHAPE = (4, 20, 16)
SPOT = image_spot(affine_of(shape=SHAPE), shape=SHAPE, centre_mm=(3, 2, 2), radius_mm=6)


def read(paths: list[Path]) -> np.ndarray:
    return read_voxels(order_stack(read_frames(paths)))


@pytest.mark.parametrize(
    "storage",
    [
        Storage(),
        Storage(signed=True),
        Storage(rescale=(2.0, -1000.0)),
        Storage(signed=True, rescale=(0.5, 10.0)),
        Storage(transfer_syntax=ImplicitVRLittleEndian),
        Storage(transfer_syntax=ExplicitVRBigEndian),
        Storage(transfer_syntax=RLELossless),
        Storage(transfer_syntax=JPEGLosslessSV1),
        Storage(transfer_syntax=JPEGLSLossless),
        Storage(transfer_syntax=JPEG2000Lossless),
    ],
    ids=str,
)
def test_voxels_are_the_scanned_values_however_they_are_stored(storage: Storage, series_of: Callable) -> None:
    np.testing.assert_allclose(read(series_of(SPOT, storage=storage)), SPOT.voxels, atol=0.5)


def test_monochrome1_means_the_same_picture(series_of: Callable) -> None:
    np.testing.assert_allclose(read(series_of(SPOT, storage=Storage(inverted=True))), SPOT.voxels)


@pytest.mark.parametrize("inverted", [False, True], ids=["MONOCHROME2", "MONOCHROME1"])
def test_padding_takes_the_lowest_value(inverted: bool, series_of: Callable) -> None:
    padded = image_spot(SPOT.affine, shape=SHAPE)
    padded.voxels[:, :2] = 60000
    storage = Storage(inverted=inverted)
    stored = int(mr_series(padded.voxels, padded.affine, storage=storage)[0].pixel_array[0, 0])
    voxels = read(series_of(padded, storage=storage, attributes={"PixelPaddingValue": stored}))
    assert np.ptp(voxels) == np.ptp(SPOT.voxels)
    assert (voxels[:, :2] == voxels.min()).all()


@pytest.mark.parametrize(("signed", "vr", "padding"), [(True, "US", 32768), (False, "SS", -5536)])
def test_a_padding_value_of_the_other_sign_means_the_same_bits(
    signed: bool, vr: str, padding: int, series_of: Callable
) -> None:
    padded = image_spot(SPOT.affine, shape=SHAPE)
    padded.voxels[:, :2] = -32768 if signed else 60000
    paths = series_of(padded, storage=Storage(signed=signed))
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.add_new("PixelPaddingValue", vr, padding)
        dataset.save_as(path)
    voxels = read(paths)
    assert voxels.max() == SPOT.voxels.max()
    assert (voxels[:, :2] == SPOT.voxels[:, 2:].min()).all()


def test_padding_is_seen_where_only_some_images_state_it(series_of: Callable) -> None:
    padded = image_spot(SPOT.affine, shape=SHAPE)
    padded.voxels[1:, :2] = 60000
    paths = series_of(padded)
    for path in paths[1:]:
        dataset = pydicom.dcmread(path)
        dataset.add_new("PixelPaddingValue", "US", 60000)
        dataset.save_as(path)
    assert read(paths).max() == SPOT.voxels.max()


def test_bits_above_those_stored_are_no_part_of_a_pixel(series_of: Callable) -> None:
    paths = series_of(SPOT)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.BitsStored, dataset.HighBit = 12, 11
        with_overlay = dataset.pixel_array.copy()
        with_overlay[::2] |= 0x9000
        dataset.PixelData = with_overlay.tobytes()
        dataset.save_as(path)
    np.testing.assert_array_equal(read(paths), SPOT.voxels)


@pytest.mark.parametrize("vr", ["DS", "LO"])
@pytest.mark.parametrize("value", ["", "1\\1"], ids=["empty", "two"])
def test_rescale_values_that_are_empty_or_twice_do_no_harm(value: str, vr: str, series_of: Callable) -> None:
    paths = series_of(SPOT)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.add_new("RescaleSlope", vr, value)
        dataset.add_new("RescaleIntercept", vr, "0" if value else "")
        dataset.save_as(path)
    np.testing.assert_array_equal(read(paths), SPOT.voxels)


def test_eight_bit_pixels_are_read(series_of: Callable) -> None:
    small = image_spot(SPOT.affine, shape=SHAPE)
    small.voxels[:] = small.voxels / 4
    np.testing.assert_allclose(read(series_of(small, storage=Storage(bits=8))), small.voxels, atol=0.5)


@pytest.mark.parametrize("syntax", [None, JPEG2000Lossless])
def test_damaged_pixel_data_is_refused_by_file_name_without_patient_data(
    syntax: str | None, series_of: Callable
) -> None:
    paths = series_of(SPOT, storage=Storage(transfer_syntax=syntax) if syntax else Storage())
    dataset = pydicom.dcmread(paths[2])
    dataset.PixelData = dataset.PixelData[:40]
    dataset.save_as(paths[2])
    with pytest.raises(SeriesRefused, match=f"pixel data of {paths[2].name} cannot be decoded") as refusal:
        read(paths)
    assert "Phantom" not in str(refusal.value)


def test_normalisation_does_not_depend_on_the_scale_or_offset_of_a_scanner() -> None:
    rule = PercentileRule()
    expected = normalise(SPOT.voxels, rule)
    assert expected.min() == 0
    assert expected.max() == 1
    np.testing.assert_allclose(normalise(SPOT.voxels * 7.3 + 400, rule), expected, atol=1e-5)


def test_a_constant_volume_normalises_to_nothing() -> None:
    assert not normalise(np.full(SHAPE, 5.0), PercentileRule()).any()


@pytest.mark.parametrize(
    ("rows", "columns", "row_mm", "column_mm"),
    [(256, 256, 1, 1), (512, 384, 0.5, 0.5), (64, 80, 3, 3), (100, 200, 2, 1), (181, 97, 0.7, 1.3)],
)
def test_a_square_and_back_keeps_places(rows: int, columns: int, row_mm: float, column_mm: float) -> None:
    grid = SquareGrid(rows, columns, row_mm, column_mm, 128)
    y, x = np.mgrid[:rows, :columns]
    at = (rows * 0.3, columns * 0.6)
    image = np.exp(-(((y - at[0]) * row_mm) ** 2 + ((x - at[1]) * column_mm) ** 2) / 200).astype(np.float32)
    back = grid.to_source(grid.to_square(image))
    assert back.shape == image.shape
    weight = back / back.sum()
    assert abs((weight * y).sum() - at[0]) < 0.5
    assert abs((weight * x).sum() - at[1]) < 0.5


def test_a_square_keeps_physical_proportions() -> None:
    image = np.zeros((100, 200), np.float32)
    image[40:60, 80:120] = 1  # 40 mm by 40 mm
    square = SquareGrid(100, 200, 2.0, 1.0, 100).to_square(image)
    high, wide = (np.flatnonzero(square.max(axis=axis) > 0.5).size for axis in (1, 0))
    assert high == wide == 20


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_turning_to_the_display_is_undone_exactly(name: str) -> None:
    turn = turn_to_display(affine_of(*ORIENTATIONS[name]))
    voxels = np.random.default_rng(0).random((3, 5, 7), np.float32)
    np.testing.assert_array_equal(turn.undo(turn.apply(voxels)), voxels)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_slices_of_a_plane_run_one_way_in_the_standard_display(name: str) -> None:
    affine = affine_of(*ORIENTATIONS[name])
    towards = affine[:3, 2] * np.sign(affine[np.abs(affine[:3, 2]).argmax(), 2])
    depth_mm = np.array([(affine @ [0, 0, number, 1])[:3] @ towards for number in range(4)], np.float32)
    turn = turn_to_display(affine)
    shown = turn.apply(depth_mm[:, None, None] * np.ones((4, 3, 5), np.float32))
    forward = np.diff(shown[:, 0, 0]) > 0
    plane = nearest_plane(affine[:3, 0], affine[:3, 1])
    assert (forward == (plane is not Plane.SAGITTAL)).all()  # to the head, the back, the patient's right
    np.testing.assert_array_equal(turn.order(turn.order(depth_mm)), depth_mm)
    np.testing.assert_array_equal(turn.order(depth_mm), shown[:, 0, 0])


@pytest.mark.parametrize("name", [n for n in ORIENTATIONS if n.startswith("axial")])
def test_axial_slices_are_shown_with_front_up_and_patients_right_on_the_left(name: str) -> None:
    affine = affine_of(*ORIENTATIONS[name], shape=(1, 96, 96))
    spot = image_spot(affine, shape=(1, 96, 96), centre_mm=(-20, -30, 0))  # right, front
    (shown,) = turn_to_display(affine).apply(spot.mask.astype(np.float32))
    row, column = np.argwhere(shown).mean(axis=0)
    assert row < 40
    assert column < 40
