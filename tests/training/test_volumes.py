"""What is a volume, a patient and a block in each kind of index; and the real ones."""

import csv

import cv2
import numpy as np
import pytest

from training.volumes import read_volumes


def index(folder, columns, rows):
    """Write an index and a grey image, whose value is the row's number, for each row."""
    folder.mkdir()
    for number, row in enumerate(rows):
        image = np.full((4, 4), number, np.uint8)
        cv2.imwrite(str(folder / row[0]), image)
        cv2.imwrite(str(folder / "mask.png"), np.zeros((4, 4), np.uint8))
    with (folder / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return folder


@pytest.fixture
def exams(tmp_path):
    """Three patients with two exams of two slices each, the rows in disorder."""
    rows = [
        (f"{patient}{exam}{number}.png", "mask.png", patient, exam, number, "test", f"of {patient}")
        for patient in "bca"
        for number in (2, 1)
        for exam in ("pre", "post")
    ]
    columns = ("image", "mask", "patient", "exam", "slice", "split", "class")
    return index(tmp_path / "exams", columns, rows)


@pytest.fixture
def single(tmp_path):
    rows = [(f"{number:04}.png", "mask.png", "test", f"{number % 3}") for number in range(25)]
    return index(tmp_path / "single", ("image", "mask", "split", "class"), rows)


def test_an_exam_is_a_volume_and_a_patient_is_drawn(exams):
    volumes = list(read_volumes([exams], "test"))
    assert [volume.name for volume in volumes] == ["a post", "a pre", "b post", "b pre", "c post", "c pre"]
    assert [volume.unit for volume in volumes] == ["a", "a", "b", "b", "c", "c"]
    assert {volume.disease for volume in volumes if volume.unit == "b"} == {"of b"}
    assert all(volume.is_series and len(volume.case.voxels) == 2 for volume in volumes)


def test_slices_without_patients_are_drawn_in_blocks_of_ten_neighbours(single):
    volumes = list(read_volumes([single], "test"))
    assert [volume.unit for volume in volumes] == ["block 0"] * 10 + ["block 1"] * 10 + ["block 2"] * 5
    assert [volume.case.voxels[0, 0, 0] for volume in volumes] == list(range(25))
    assert [volume.disease for volume in volumes] == [f"{number % 3}" for number in range(25)]
    assert not any(volume.is_series for volume in volumes)


def test_every_nth_patient_or_block_is_taken_whole(exams, single):
    volumes = list(read_volumes([exams, single], "test", every=2))
    assert [volume.name for volume in volumes[:4]] == ["a post", "a pre", "c post", "c pre"]
    assert [volume.unit for volume in volumes[4:]] == ["block 0"] * 10 + ["block 2"] * 5
    assert [volume.data for volume in volumes] == ["exams"] * 4 + ["single"] * 15


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "volumes", "units", "series"),
    [("lgg_flair", 16, 16, True), ("btp_t1post", 4, 2, True), ("cheng_t1ce", 360, 36, False)],
)
def test_the_real_test_splits_have_the_patients_that_their_description_names(
    data, name, volumes, units, series
):
    read = list(read_volumes([data / name], "test"))
    assert (len(read), len({volume.unit for volume in read})) == (volumes, units)
    assert all(volume.is_series == series for volume in read)
    assert all(volume.disease for volume in read) == (name == "cheng_t1ce")
