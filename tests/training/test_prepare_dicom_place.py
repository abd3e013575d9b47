"""``prepare dicom``: what the network is shown lies where the SEG says, whatever the series' orientation.

The masks are held against the phantom's lesion, turned to the display from anatomy alone. SEG
come from the node itself, from highdicom on grids of their own, and from dcmqi. Not covered: SEG
of real readers, whose software may write yet other things; encapsulated pixel data of a SEG.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.errors import ConfigurationError
from tests.support.multiframe import enhanced_mr, legacy_converted_mr
from tests.support.spot import Spot
from tests.training.labelled import STORED, Scanned, scanned, write_scan
from tests.training.segmentations import (
    altered,
    assert_seen,
    dcmqi_segmentation,
    node_segmentation,
    own_segmentation,
    prepared,
)

TURNED = np.array([[0.8, 0.6, 0, 0], [-0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("name", STORED)
def test_the_lesion_is_where_it_was_whatever_the_orientation(name, tmp_path):
    scan = scanned(name)
    assert all((scan.seen_lesion != np.flip(scan.seen_lesion, axis)).any() for axis in (0, 1, 2))
    paths = write_scan(scan, tmp_path / "in", reversed_order=True, shuffled_numbers=True)
    node_segmentation(scan, paths, tmp_path / "in")
    prepared(tmp_path / "in", tmp_path / "out")
    assert_seen(tmp_path / "out", scan)


def test_an_oblique_series_is_turned_to_the_nearest_plane(tmp_path):
    turn, tilt = np.deg2rad(12), np.deg2rad(20)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    straight = scanned("axial, face down")
    affine = straight.affine.copy()
    affine[:3] = about_x @ about_z @ affine[:3]
    scan = replace(straight, affine=affine)
    node_segmentation(scan, write_scan(scan, tmp_path / "in"), tmp_path / "in")
    prepared(tmp_path / "in", tmp_path / "out")
    assert_seen(tmp_path / "out", scan)


@pytest.mark.parametrize("make", [enhanced_mr, legacy_converted_mr])
@pytest.mark.parametrize("name", ["axial", "sagittal", "coronal, columns along z"])
def test_a_multi_frame_source_is_prepared_the_same(make, name, tmp_path):
    scan = scanned(name)
    slices = len(scan.voxels)
    image = make(Spot(scan.voxels, scan.affine, scan.lesion))
    if make is enhanced_mr:
        image = enhanced_mr(Spot(scan.voxels, scan.affine, scan.lesion), list(range(slices))[::-1])
    (tmp_path / "in" / "deep").mkdir(parents=True)
    image.save_as(tmp_path / "in" / "deep" / "image.dcm", enforce_file_format=True)
    node_segmentation(scan, [tmp_path / "in" / "deep" / "image.dcm"], tmp_path / "in")
    prepared(tmp_path / "in", tmp_path / "out")
    assert_seen(tmp_path / "out", scan)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_every_type_of_segmentation_is_read(kind, tmp_path):
    scan = scanned("coronal")
    paths = write_scan(scan, tmp_path / "in")
    masks = scan.lesion.astype(np.uint8)
    if kind == "FRACTIONAL":
        masks = np.where(scan.lesion, 0.5, 0.49).astype(np.float32)
    own_segmentation(paths, masks, tmp_path / "in" / "seg.dcm", kind=kind)
    prepared(tmp_path / "in", tmp_path / "out")
    assert_seen(tmp_path / "out", scan)


def regrid(scan: Scanned, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The lesion and the affine of the same voxels, (slices, rows, columns) reordered and flipped."""
    masks = scan.lesion.transpose([axis if axis >= 0 else ~axis for axis in axes])
    back = tuple(slice(None, None, 1 if axis >= 0 else -1) for axis in axes)
    affine = np.eye(4)
    corner = np.zeros(3)
    for place, axis in enumerate(axes):
        real, sign = (axis, 1) if axis >= 0 else (~axis, -1)
        affine[:3, 2 - place] = sign * scan.affine[:3, 2 - real]
        corner[2 - real] = 0 if sign > 0 else scan.lesion.shape[real] - 1
    affine[:3, 3] = (scan.affine @ [*corner, 1])[:3]
    return np.ascontiguousarray(masks[back]).astype(np.uint8), affine


@pytest.mark.parametrize("axes", [(0, ~1, 2), (0, 1, ~2), (0, ~1, ~2), (0, 2, 1), (~0, 2, ~1)])
def test_a_flipped_or_turned_segmentation_is_put_right_by_its_geometry(axes, tmp_path):
    scan = scanned("sagittal")
    paths = write_scan(scan, tmp_path / "in")
    masks, affine = regrid(scan, axes)
    own_segmentation(paths, masks, tmp_path / "in" / "seg.dcm", affine=affine)
    prepared(tmp_path / "in", tmp_path / "out")
    assert_seen(tmp_path / "out", scan)


def test_a_segmentation_of_a_part_of_the_images_is_put_in_its_place(tmp_path):
    scan = scanned()
    paths = write_scan(scan, tmp_path / "in")
    slices, rows, columns = (np.flatnonzero(scan.lesion.any(axis=a)) for a in ((1, 2), (0, 2), (0, 1)))
    part = scan.lesion[slices[0] : slices[-1] + 1, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    affine = scan.affine.copy()
    affine[:3, 3] = (scan.affine @ [columns[0], rows[0], slices[0], 1])[:3]
    own_segmentation(paths, part.astype(np.uint8), tmp_path / "in" / "seg.dcm", affine=affine)
    prepared(tmp_path / "in", tmp_path / "out")
    assert_seen(tmp_path / "out", scan)


def moved(scan: Scanned, voxels: tuple[float, float, float]) -> np.ndarray:
    """The affine shifted by (columns, rows, slices)."""
    affine = scan.affine.copy()
    affine[:3, 3] = (scan.affine @ [*voxels, 1])[:3]
    return affine


@pytest.mark.parametrize(
    ("affine_of", "reason"),
    [
        (lambda scan: scan.affine @ np.diag([2, 2, 1, 1]), "another grid .* .pixels of 11 x 10 mm"),
        (lambda scan: scan.affine @ np.diag([1, 1, 0.5, 1]), r"0\.5 slices off|slices 3\.5 mm apart"),
        (lambda scan: moved(scan, (0.5, 0, 0)), r"0\.5 pixels beside"),
        (lambda scan: moved(scan, (0, 0, 0.4)), r"0\.4 slices off"),
        (lambda scan: moved(scan, (30, 0, 0)), "reaches beyond the images"),
        (lambda scan: scan.affine @ TURNED, "another grid"),
    ],
)
def test_a_segmentation_of_another_grid_is_left_out_with_the_reason(affine_of, reason, tmp_path):
    scan = scanned()
    paths = write_scan(scan, tmp_path / "in")
    own_segmentation(paths, scan.lesion.astype(np.uint8), tmp_path / "in" / "seg.dcm", affine=affine_of(scan))
    with pytest.raises(ConfigurationError, match=reason):
        prepared(tmp_path / "in", tmp_path / "out", empty=True)
    assert not (tmp_path / "out" / "index.csv").exists()


def test_a_frame_that_lies_elsewhere_than_what_it_refers_to_is_not_drawn(tmp_path):
    scan = scanned()
    paths = write_scan(scan, tmp_path / "in")
    path = node_segmentation(scan, paths, tmp_path / "in")

    def refer_to_the_first(groups: Dataset) -> None:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        source.ReferencedSOPInstanceUID = dcmread(paths[0]).SOPInstanceUID

    altered(path, refer_to_the_first)
    with pytest.raises(ConfigurationError, match="refers to slice 1 but lies at slice"):
        prepared(tmp_path / "in", tmp_path / "out")


def test_without_a_place_of_its_own_a_frame_lies_on_what_it_refers_to(tmp_path):
    scan = scanned("coronal")
    paths = write_scan(scan, tmp_path / "in")
    path = node_segmentation(scan, paths, tmp_path / "in")
    altered(path, lambda groups: groups.pop("PlanePositionSequence"))
    prepared(tmp_path / "in", tmp_path / "out")
    assert_seen(tmp_path / "out", scan)

    def moved_by_its_maker(groups: Dataset) -> None:
        groups.DerivationImageSequence[0].SourceImageSequence[0].SpatialLocationsPreserved = "NO"

    altered(path, moved_by_its_maker)
    with pytest.raises(ConfigurationError, match="neither a place in the patient nor one source"):
        prepared(tmp_path / "in", tmp_path / "again")


def without_references(path: Path) -> None:
    dataset = dcmread(path)
    dataset.pop("ReferencedSeriesSequence", None)
    dataset.pop("SourceImageSequence", None)
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        groups.pop("DerivationImageSequence", None)
    dataset.save_as(path)


def test_a_segmentation_that_refers_to_nothing_lies_on_the_one_series_of_its_grid(tmp_path):
    scan = scanned()
    paths = write_scan(scan, tmp_path / "in" / "a")
    without_references(node_segmentation(scan, paths, tmp_path / "in"))
    write_scan(scanned("coronal"), tmp_path / "in" / "b", series_seed="2")
    prepared(tmp_path / "in", tmp_path / "out")
    assert_seen(tmp_path / "out", scan)
    write_scan(scan, tmp_path / "in" / "c", series_seed="3")
    with pytest.raises(ConfigurationError, match="refers to no images, and 2 series have its grid"):
        prepared(tmp_path / "in", tmp_path / "again")


def test_another_frame_of_reference_is_no_place(tmp_path):
    scan = scanned()
    paths = write_scan(scan, tmp_path / "in")
    path = own_segmentation(paths, scan.lesion.astype(np.uint8), tmp_path / "in" / "seg.dcm")
    dataset = dcmread(path)
    dataset.FrameOfReferenceUID = "2.25.1"
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        groups.pop("DerivationImageSequence")
    dataset.save_as(path)
    with pytest.raises(ConfigurationError, match="in another frame of reference"):
        prepared(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, ~1, 2)], ids=["as stored", "upside down"])
def test_a_segmentation_by_dcmqi_lies_right(axes, tmp_path):
    scan = scanned("coronal")
    write_scan(scan, tmp_path / "in")
    dcmqi_segmentation(*regrid(scan, axes), tmp_path / "in", tmp_path / "seg.dcm")
    shutil.move(tmp_path / "seg.dcm", tmp_path / "in" / "seg.dcm")
    prepared(tmp_path / "in", tmp_path / "out")
    assert_seen(tmp_path / "out", scan)


def test_a_segmentation_of_every_other_slice_is_left_out(tmp_path):
    scan = scanned()
    write_scan(scan, tmp_path / "in")
    masks, affine = scan.lesion[::2].astype(np.uint8), scan.affine @ np.diag([1, 1, 2, 1])
    dcmqi_segmentation(masks, affine, tmp_path / "in", tmp_path / "seg.dcm")
    shutil.move(tmp_path / "seg.dcm", tmp_path / "in" / "seg.dcm")
    with pytest.raises(ConfigurationError, match=r"slices 14 mm apart, theirs 7 mm"):
        prepared(tmp_path / "in", tmp_path / "out")
