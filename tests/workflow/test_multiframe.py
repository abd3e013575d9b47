"""Multi-frame sources: an object in, SEG and report that refer to its frames out.

Covers Enhanced MR made by hand, with frames out of order and rescaled differently, as one instance and as
several, with its functional groups in every place where they are found, and Legacy Converted Enhanced MR
made by highdicom. Not covered: files of real scanners with a contrast that a
bundle reads; those that there are are skipped (tests/series/test_selection.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicom_node.workflow.stations import Stations
from tests.support.multiframe import enhanced_mr, in_instances, legacy_converted_mr
from tests.support.spot import image_spot
from tests.workflow.test_bad_input import analyse_one, centroid_of

SPOT = image_spot()
SHUFFLED = [int(k) for k in np.random.default_rng(3).permutation(len(SPOT.voxels))]


@pytest.mark.parametrize(
    "image",
    [enhanced_mr(SPOT), enhanced_mr(SPOT, SHUFFLED), legacy_converted_mr(SPOT)],
    ids=["enhanced", "enhanced, frames shuffled", "legacy converted"],
)
def test_the_seg_of_a_multiframe_image_lies_where_the_spot_is(
    image: Dataset, stations: Stations, tmp_path: Path
) -> None:
    assert_in_place([image], stations, tmp_path)


@pytest.mark.parametrize("frames_each", [1, 5], ids=["single frames", "concatenation"])
def test_an_object_of_several_instances_is_one_volume(
    frames_each: int, stations: Stations, tmp_path: Path
) -> None:
    assert_in_place(in_instances(enhanced_mr(SPOT, SHUFFLED), frames_each), stations, tmp_path)


@pytest.mark.parametrize("frames_each", [1, 5], ids=["single frames", "concatenation"])
def test_two_echoes_in_several_instances_are_two_volumes(
    frames_each: int, stations: Stations, tmp_path: Path
) -> None:
    image = enhanced_mr(SPOT)
    echo = image.SharedFunctionalGroupsSequence[0].pop("MREchoSequence").value
    frames, pixels = [], []
    for item, stored in zip(image.PerFrameFunctionalGroupsSequence, image.pixel_array, strict=True):
        for echo_ms in (120.0, 15.0):
            frames.append(deepcopy(item))
            frames[-1].MREchoSequence = deepcopy(echo)
            frames[-1].MREchoSequence[0].EffectiveEchoTime = echo_ms
            pixels.append(stored)
    image.PerFrameFunctionalGroupsSequence, image.NumberOfFrames = frames, len(frames)
    image.PixelData = np.stack(pixels).tobytes()
    for number, part in enumerate(in_instances(image, frames_each)):
        write(part, tmp_path, number)
    one = analyse_one(stations, tmp_path)
    assert "holds 2 volumes that fit" in one.detail  # and not many, of some slices each


def in_each_frame(image: Dataset) -> None:
    (shared,) = image.SharedFunctionalGroupsSequence
    for item in image.PerFrameFunctionalGroupsSequence:
        item.update(deepcopy(shared))


def without_shared_groups(image: Dataset) -> None:
    in_each_frame(image)
    del image.SharedFunctionalGroupsSequence


def with_empty_shared_groups(image: Dataset) -> None:
    in_each_frame(image)
    image.SharedFunctionalGroupsSequence = []


def with_orientation_at_the_root(image: Dataset) -> None:
    plane = image.SharedFunctionalGroupsSequence[0].pop("PlaneOrientationSequence").value[0]
    image.ImageOrientationPatient = plane.ImageOrientationPatient


def with_a_macro_in_both_places(image: Dataset) -> None:
    thickness = Dataset()
    thickness.SliceThickness = 3
    for item in image.PerFrameFunctionalGroupsSequence:
        item.PixelMeasuresSequence = [thickness]


def with_other_values_in_a_private_sequence(image: Dataset) -> None:
    """Philips repeats attributes of single frames in (2005,xx0F) of each frame."""
    for item in image.PerFrameFunctionalGroupsSequence:
        other = Dataset()
        other.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        other.PixelSpacing = [3, 3]
        item.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x0F, "SQ", [other])


@pytest.mark.parametrize(
    "change",
    [
        without_shared_groups,
        with_empty_shared_groups,
        with_orientation_at_the_root,
        with_a_macro_in_both_places,
        with_other_values_in_a_private_sequence,
    ],
    ids=lambda change: change.__name__.replace("_", " "),
)
def test_functional_groups_are_found_where_they_are(
    change: Callable[[Dataset], None], stations: Stations, tmp_path: Path
) -> None:
    image = enhanced_mr(SPOT)
    change(image)
    assert_in_place([image], stations, tmp_path)


def write(image: Dataset, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "series"
    folder.mkdir(exist_ok=True)
    image.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def assert_in_place(images: Sequence[Dataset], stations: Stations, tmp_path: Path) -> None:
    for number, image in enumerate(images):
        write(image, tmp_path, number)
    one = analyse_one(stations, tmp_path)
    assert not one.failed, one.detail
    assert one.detail == "1 lesion, 5.6 ml"

    seg = pydicom.dcmread(one.folder / "seg.dcm")
    np.testing.assert_allclose(centroid_of(seg), SPOT.centroid_mm, atol=0.75)
    source_frames = {image.SOPInstanceUID: image.PerFrameFunctionalGroupsSequence for image in images}
    for groups in seg.PerFrameFunctionalGroupsSequence:
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        referenced = source_frames[source.ReferencedSOPInstanceUID][int(source.ReferencedFrameNumber) - 1]
        assert (
            referenced.PlanePositionSequence[0].ImagePositionPatient
            == groups.PlanePositionSequence[0].ImagePositionPatient
        )
    evidence = pydicom.dcmread(one.folder / "sr.dcm").CurrentRequestedProcedureEvidenceSequence[0]
    named = {
        i.ReferencedSOPInstanceUID for s in evidence.ReferencedSeriesSequence for i in s.ReferencedSOPSequence
    }
    assert source_frames.keys() | {seg.SOPInstanceUID} == named
