"""Order, affine and refusals of a stack.

Covers all orientations, shuffled files, and each reason why frames are no volume.
Not covered: which series get here (test_selection) and what the models see (analysis).
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.errors import SeriesRefused
from dicom_node.phantom.mr_series import mr_series
from dicom_node.series.geometry import order_stack
from dicom_node.series.headers import frames_of
from tests.support.spot import affine_of, image_spot

ORIENTATIONS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "axial, rows to the right": ((-1, 0, 0), (0, 1, 0)),
    "axial, columns to the front": ((1, 0, 0), (0, -1, 0)),
    "axial, turned by a quarter": ((0, 1, 0), (1, 0, 0)),
    "oblique": ((0.9, 0.3, 0.1), (-0.3, 0.9, 0.0)),
}
SHAPE = (6, 20, 16)


def frames(datasets: list[Dataset]) -> list:
    from pathlib import Path

    return [frame for dataset in datasets for frame in frames_of(Path("x.dcm"), dataset)]


def stack(**changes: object) -> list[Dataset]:
    spot = image_spot(affine_of(shape=SHAPE), shape=SHAPE)
    return mr_series(spot.voxels, spot.affine, **changes)


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("order", ["as they are", "reversed", "shuffled"])
def test_the_affine_is_that_of_the_scanner_whatever_the_order_of_files(name: str, order: str) -> None:
    row, column = (np.array(v, float) for v in ORIENTATIONS[name])
    affine = affine_of(tuple(row), tuple(column - row * (row @ column) / (row @ row)), shape=SHAPE)
    datasets = mr_series(image_spot(affine, shape=SHAPE).voxels, affine, shuffled_numbers=True)
    if order == "reversed":
        datasets = datasets[::-1]
    elif order == "shuffled":
        datasets = [datasets[i] for i in (3, 0, 5, 1, 4, 2)]

    found = order_stack(frames(datasets))

    np.testing.assert_allclose(found.affine, affine, atol=1e-4)
    heights = [f.header.ImagePositionPatient @ np.cross(row, column) for f in found.frames]
    assert heights == sorted(heights)


def test_jitter_of_direction_cosines_is_averaged_and_remarked() -> None:
    datasets = stack()
    datasets[2].ImageOrientationPatient = [1, 0.00005, 0, 0, 1, 0]
    found = order_stack(frames(datasets))
    axes = found.affine[:3, :2] / np.linalg.norm(found.affine[:3, :2], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-12)
    assert "averaged" in found.remarks[0]


def drop_a_slice(datasets: list[Dataset]) -> None:
    del datasets[3]


def repeat_a_position(datasets: list[Dataset]) -> None:
    datasets[3].ImagePositionPatient = datasets[2].ImagePositionPatient


def leave_one(datasets: list[Dataset]) -> None:
    del datasets[1:]


def change(keyword: str, value: object) -> object:
    def apply(datasets: list[Dataset]) -> None:
        setattr(datasets[4], keyword, value)

    return apply


def shear(datasets: list[Dataset]) -> None:
    for k, dataset in enumerate(datasets):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y + 2 * k, z]


def space_wider_in_the_first_half(datasets: list[Dataset]) -> None:
    datasets += [deepcopy(dataset) for dataset in datasets * 5]
    height_mm = 0.0
    for k, dataset in enumerate(datasets):
        dataset.SOPInstanceUID = f"1.2.3.{k}"
        dataset.ImagePositionPatient = [0, 0, round(height_mm, 3)]
        height_mm += 4.1 if k < len(datasets) // 2 else 3.8


def name_two_alike(datasets: list[Dataset]) -> None:
    datasets[3].SOPInstanceUID = datasets[2].SOPInstanceUID


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (drop_a_slice, "8.00 mm apart, others 4.00 mm"),
        (space_wider_in_the_first_half, "2.6. mm from where even spacing would have them"),
        (name_two_alike, "same SOPInstanceUID"),
        (repeat_a_position, "2 images lie at the same position"),
        (leave_one, "single image"),
        (shear, "sheared"),
        (change("Rows", 19), "2 matrix sizes"),
        (change("PixelSpacing", [1.5, 1.4]), "2 pixel spacings"),
        (change("PixelSpacing", [0, 0]), "2 pixel spacings"),
        (change("FrameOfReferenceUID", "1.2.3"), "2 frames of reference"),
        (change("ImageOrientationPatient", [1, 0, 0, 0, 0, -1]), "mixes orientations"),
        (change("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "no pair of perpendicular unit vectors"),
        (change("ImageOrientationPatient", None), "no ImageOrientationPatient"),
        (change("ImagePositionPatient", None), "no ImagePositionPatient"),
    ],
)
def test_frames_that_are_no_volume_are_refused_with_the_cause(spoil: object, cause: str) -> None:
    datasets = stack()
    spoil(datasets)
    with pytest.raises(SeriesRefused, match=cause):
        order_stack(frames(datasets))
