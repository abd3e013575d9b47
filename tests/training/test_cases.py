"""Reading labelled volumes: order, splits, and refusals in plain words.

Not covered: the real data sets, whose figures the evaluation measures.
"""

import cv2
import numpy as np
import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.series.normalisation import PercentileRule
from training.cases import data_folder, read_cases
from training.recipe import PhantomRecipe
from training.slices import phantom_cases, prepare


def test_slices_of_a_patient_come_as_one_volume_in_their_order(small_data):
    (case,) = read_cases(small_data, "val")
    assert case.patient == "p4"
    assert case.voxels.shape == (8, 64, 64)
    marked = np.flatnonzero(case.has_tumour)
    np.testing.assert_array_equal(marked, np.arange(marked[0], marked[-1] + 1))


def test_an_unknown_split_is_refused_with_those_there_are(small_data):
    with pytest.raises(ConfigurationError, match=r"no slices of split 'tests'; it has test, train, val"):
        next(read_cases(small_data, "tests"))


def test_a_missing_index_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(ConfigurationError, match=r"index\.csv is missing; set DICOM_NODE_DATA"):
        next(read_cases(tmp_path, "train"))


def test_a_missing_column_is_named(tmp_path):
    (tmp_path / "index.csv").write_text("image,patient,split\na,c,train\n")
    with pytest.raises(ConfigurationError, match=r"lacks the column\(s\) mask"):
        next(read_cases(tmp_path, "train"))


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "index.csv").write_text("image,mask,patient,slice,split\na.png,a.png,c,1,train\n")
    with pytest.raises(ConfigurationError, match=r"a\.png, which the index names, is missing or is no image"):
        next(read_cases(tmp_path, "train"))


def test_images_of_a_volume_that_differ_in_size_are_refused(tmp_path):
    for name, side in (("a.png", 8), ("b.png", 9)):
        cv2.imwrite(str(tmp_path / name), np.zeros((side, side), np.uint8))
    rows = "image,mask,patient,slice,split\na.png,a.png,c,1,train\nb.png,b.png,c,2,train\n"
    (tmp_path / "index.csv").write_text(rows)
    with pytest.raises(ConfigurationError, match=r"of 'c' differ in size: \[\(8, 8\), \(9, 9\)\]"):
        next(read_cases(tmp_path, "train"))


def test_oblong_pixels_become_physical_squares_as_in_the_node(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 80), 200, np.uint8))
    columns = "image,mask,patient,slice,split,row_mm,column_mm\n"
    (tmp_path / "index.csv").write_text(columns + "a.png,a.png,c,1,train,2.0,1.0\n")
    (case,) = read_cases(tmp_path, "train")
    assert case.pixel_mm == (2.0, 1.0)
    assert prepare([[case]], 40, PercentileRule()).masks.all()


def test_the_data_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DICOM_NODE_DATA", str(tmp_path))
    assert data_folder() == tmp_path


def test_prepared_slices_are_squares_of_the_whole_volumes_scale(small_data):
    slices = prepare([read_cases(small_data, "train")], 32, PercentileRule())
    assert slices.images.shape == slices.masks.shape == (32, 32, 32)
    assert slices.images.min() == 0
    assert slices.images.max() == 1
    assert 0 < slices.tumour.sum() < 32


def test_every_other_phantom_has_no_lesion():
    cases = list(phantom_cases(PhantomRecipe(heads=3, share=0.1)))
    assert [bool(case.mask.any()) for case in cases] == [True, False, True]


def test_phantoms_are_cut_in_the_planes_of_the_recipe():
    recipe = PhantomRecipe(heads=6, share=0.1, contrast="T1CE", planes=("AXIAL", "CORONAL", "SAGITTAL"))
    axial, _, coronal, _, sagittal, _ = phantom_cases(recipe)
    assert axial.voxels.shape[1:] == (256, 256)
    assert coronal.voxels.shape[1:] == sagittal.voxels.shape[1:] == (128, 176)
    assert coronal.mask.any()
    assert sagittal.mask.any()


def test_without_patients_every_slice_is_a_volume_of_its_own(small_data, tmp_path):
    for name in ("p0_4.png", "p0_5.png"):
        for file in (name, f"m{name}"):
            (tmp_path / file).write_bytes((small_data / file).read_bytes())
    rows = "".join(f"{name},m{name},train\n" for name in ("p0_4.png", "p0_5.png"))
    (tmp_path / "index.csv").write_text("image,mask,split\n" + rows)
    assert [case.voxels.shape for case in read_cases(tmp_path, "train")] == [(1, 64, 64)] * 2


def test_a_slice_stands_between_its_neighbours_and_a_volumes_ends_are_repeated(small_data):
    slices = prepare([read_cases(small_data, "train")], 32, PercentileRule())
    first, last = slices.channels(8, 1), slices.channels(15, 1)
    np.testing.assert_array_equal(first, np.stack([slices.images[n] for n in (8, 8, 9)], axis=-1))
    np.testing.assert_array_equal(last, np.stack([slices.images[n] for n in (14, 15, 15)], axis=-1))
