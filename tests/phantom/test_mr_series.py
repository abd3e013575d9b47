"""The writer of MR series, on which the phantom and many tests stand.

Covered: conformance by ``dciodvfy``, values after decoding for each way of storing, geometry,
determinism, and the options that make a series awkward.
Not covered: what a scanner would write besides.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.phantom.mr_series import T1CE, Patient, Storage, mr_series, write_series

VOXELS = np.random.default_rng(3).integers(0, 200, (3, 33, 41))
AFFINE = np.array([[0, 0, 5.0, -20], [0.9, 0, 0, -18], [0, -1.1, 0, 7], [0, 0, 0, 1]])
AFFINE[0, 2] = -5.0  # the normal of rows along +y and columns along -z is -x

STORAGES = {
    "16 bit": Storage(),
    "signed": Storage(signed=True, rescale=(1.0, 100.0)),
    "rescaled": Storage(rescale=(0.5, -3.0)),
    "8 bit": Storage(bits=8),
    "implicit": Storage(transfer_syntax=ImplicitVRLittleEndian),
    "big endian": Storage(transfer_syntax=ExplicitVRBigEndian),
    "RLE": Storage(transfer_syntax=RLELossless),
    "JPEG lossless": Storage(transfer_syntax=JPEGLosslessSV1),
    "JPEG-LS": Storage(transfer_syntax=JPEGLSLossless),
    "JPEG 2000": Storage(transfer_syntax=JPEG2000Lossless),
    "JPEG 2000, signed": Storage(transfer_syntax=JPEG2000Lossless, signed=True),
}


def read_back(folder, **options):
    return [dcmread(path) for path in write_series(mr_series(VOXELS, AFFINE, **options), folder)]


@pytest.mark.parametrize("name", STORAGES)
def test_the_values_come_back_from(name, tmp_path):
    for index, dataset in enumerate(read_back(tmp_path, storage=STORAGES[name])):
        assert (apply_modality_lut(dataset.pixel_array, dataset) == VOXELS[index]).all()


def test_monochrome1_mirrors_the_values(tmp_path):
    dataset = read_back(tmp_path, storage=Storage(inverted=True))[0]
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    assert (VOXELS.max() + VOXELS.min() - dataset.pixel_array == VOXELS[0]).all()


@pytest.mark.parametrize("name", [name for name in STORAGES if name != "8 bit"])
def test_dciodvfy_finds_no_error_in(name, tmp_path):
    (path, *_) = write_series(mr_series(VOXELS, AFFINE, storage=STORAGES[name]), tmp_path)
    tool = Path(sys.executable).with_name("dciodvfy")
    done = subprocess.run([tool, path], capture_output=True, text=True, check=False)
    assert "Error" not in done.stdout + done.stderr


def test_positions_follow_the_affine():
    datasets = mr_series(VOXELS, AFFINE)
    for index, dataset in enumerate(datasets):
        assert dataset.ImagePositionPatient == pytest.approx(AFFINE[:3, 3] + index * AFFINE[:3, 2])
    assert datasets[0].ImageOrientationPatient == [0, 1, 0, 0, 0, -1]
    assert datasets[0].PixelSpacing == [1.1, 0.9]
    assert datasets[0].SliceThickness == 5


def test_the_same_arguments_give_the_same_files(tmp_path):
    first, second = (write_series(mr_series(VOXELS, AFFINE), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_two_series_of_one_seed_share_study_and_frame_of_reference_only():
    one, two = (mr_series(VOXELS, AFFINE, series_seed=seed)[0] for seed in "12")
    assert one.StudyInstanceUID == two.StudyInstanceUID
    assert one.FrameOfReferenceUID == two.FrameOfReferenceUID
    assert one.SeriesInstanceUID != two.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_numbers_and_order_can_say_nothing_of_the_position():
    datasets = mr_series(np.zeros((9, 4, 4)), AFFINE, shuffled_numbers=True, reversed_order=True)
    numbers = [dataset.InstanceNumber for dataset in datasets]
    assert sorted(numbers) == list(range(1, 10))
    assert numbers != sorted(numbers)
    assert numbers != sorted(numbers, reverse=True)
    positions = [dataset.ImagePositionPatient[0] for dataset in datasets]
    assert positions == sorted(positions)


def test_attributes_are_set_and_deleted():
    dataset = mr_series(VOXELS, AFFINE, attributes={"StudyID": "77", "AccessionNumber": None})[0]
    assert dataset.StudyID == "77"
    assert "AccessionNumber" not in dataset


def test_altering_one_slice_leaves_the_others():
    datasets = mr_series(VOXELS, AFFINE, patient=Patient(id="A"))
    datasets[0].PatientID = "B"
    assert [dataset.PatientID for dataset in datasets] == ["B", "A", "A"]


def test_a_contrast_series_names_its_agent_and_no_inversion():
    dataset = mr_series(VOXELS, AFFINE, acquisition=T1CE)[0]
    assert dataset.ContrastBolusAgent == "Gadolinium"
    assert "InversionTime" not in dataset


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit 0 to 255"):
        mr_series(VOXELS * 2, AFFINE, storage=Storage(bits=8))


def test_an_affine_with_slanted_slices_is_refused():
    slanted = AFFINE.copy()
    slanted[:3, 2] = [1, 1, 1]
    with pytest.raises(ValueError, match="not that of a stack"):
        mr_series(VOXELS, slanted)


def test_voxels_need_three_axes():
    with pytest.raises(ValueError, match="slices, rows, columns"):
        mr_series(VOXELS[0], AFFINE)


def test_a_transfer_syntax_without_an_encoder_is_refused():
    with pytest.raises(ValueError, match="no encoder"):
        mr_series(VOXELS, AFFINE, storage=Storage(transfer_syntax=JPEGBaseline8Bit))


def test_deflated_data_sets_can_be_written(tmp_path):
    storage = Storage(transfer_syntax=DeflatedExplicitVRLittleEndian)
    assert (read_back(tmp_path, storage=storage)[0].pixel_array == VOXELS[0]).all()
