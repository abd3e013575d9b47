"""``prepare dicom``: what the network is shown lies where the SEG says, whatever the series' orientation.

The masks are held against the phantom's lesion, turned to the display from anatomy alone. SEG
come from the node itself, from highdicom on grids of their own, and from dcmqi. Not covered: SEG
of real readers, whose software may write yet other things; encapsulated pixel data of a SEG.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from typer.testing import CliRunner

from dicom_node.errors import ConfigurationError
from dicom_node.phantom.mr_series import Storage
from dicom_node.results.result_set import Kind
from dicom_node.series.normalisation import PercentileRule, normalise
from tests.results.result_cases import TOOLS, findings_of, path_of, run
from tests.results.result_cases import Case as Result
from tests.support.multiframe import enhanced_mr, legacy_converted_mr
from tests.support.spot import Spot
from tests.training.labelled import STORED, Scanned, cases_in, read_png, scanned, volume_of, write_scan
from training.cli import app
from training.prepare.dicom import prepare_dicom
from training.prepare.report import Prepared
from training.prepare.sixteen_bits import to_16_bits
from training.run import run_training

TURNED = np.array([[0.8, 0.6, 0, 0], [-0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
WHOLE = (1.0, 0.0, 0.0)

RECIPE = """
task = "segmenter"
[network]
name = "thesis_unet"
arguments = {base = 4}
[data]
sources = [{ folder = "prepared" }]
size = 32
[fit]
loss = "dice_and_cross_entropy"
epochs = 1
batch = 8
"""


def prepared(folder: Path, out: Path, **arguments: object) -> Prepared:
    return prepare_dicom(folder, out, **{"fractions": WHOLE, "seed": 0, **arguments})


def node_segmentation(scan: Scanned, paths: list[Path], folder: Path) -> Path:
    """The SEG that the node makes of the lesion, beside the images."""
    volume = volume_of(paths)
    lesion = scan.lesion if volume.affine[:3, 2] @ scan.affine[:3, 2] > 0 else scan.lesion[::-1]
    result = run(Result(volume, findings_of(volume, lesion.astype(np.float32))), folder / "made")
    path = shutil.copy(path_of(result, Kind.SEG), folder / "seg.dcm")
    shutil.rmtree(folder / "made")
    return Path(path)


def own_segmentation(
    paths: list[Path],
    masks: np.ndarray,
    path: Path,
    *,
    affine: np.ndarray | None = None,
    kind: str = "BINARY",
    labels: tuple[str, ...] = ("Tumour",),
) -> Path:
    """A SEG by highdicom: of the images' grid, or of its own where an affine is given."""
    sources = [dcmread(p) for p in paths]
    geometry = {}
    if affine is not None:
        row, column = (v / np.linalg.norm(v) for v in (affine[:3, 0], affine[:3, 1]))
        column_mm, row_mm, slice_mm = np.linalg.norm(affine[:3, :3], axis=0)
        geometry = {
            "plane_orientation": hd.PlaneOrientationSequence("PATIENT", [*row, *column]),
            "pixel_measures": hd.PixelMeasuresSequence([row_mm, column_mm], slice_mm, slice_mm),
            "plane_positions": [
                hd.PlanePositionSequence("PATIENT", (affine @ [0, 0, index, 1])[:3])
                for index in range(len(masks))
            ],
        }
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=masks,
        segmentation_type=kind,
        segment_descriptions=[
            hd.seg.SegmentDescription(
                number, label, codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, "MANUAL"
            )
            for number, label in enumerate(labels, 1)
        ],
        series_instance_uid=hd.UID(),
        series_number=9,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        **geometry,
    )
    segmentation.save_as(path)
    return path


def altered(path: Path, change: object) -> None:
    """Change each frame's functional groups in a file."""
    dataset = dcmread(path)
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        change(groups)
    dataset.save_as(path)


def assert_seen(out: Path, scan: Scanned) -> None:
    (case,) = cases_in(out)
    np.testing.assert_array_equal(case.mask, scan.seen_lesion)
    np.testing.assert_array_equal(case.voxels, scan.seen)


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


def test_of_two_echoes_in_a_series_the_one_that_was_outlined_is_taken(tmp_path):
    scan, other = scanned(), scanned(seed=901)
    paths = write_scan(scan, tmp_path / "in" / "first", attributes={"EchoTime": "90"})
    series_uid = str(dcmread(paths[0]).SeriesInstanceUID)
    write_scan(
        other,
        tmp_path / "in" / "second",
        series_seed="2",
        attributes={"EchoTime": "120", "SeriesInstanceUID": series_uid},
    )
    path = node_segmentation(scan, paths, tmp_path / "in")
    prepared(tmp_path / "in", tmp_path / "out")
    assert_seen(tmp_path / "out", scan)
    altered(path, lambda groups: groups.pop("DerivationImageSequence"))
    with pytest.raises(ConfigurationError, match="holds several volumes, and the SEG does not say"):
        prepared(tmp_path / "in", tmp_path / "again")


def test_a_file_that_is_there_twice_counts_once(tmp_path):
    scan = scanned()
    node_segmentation(scan, write_scan(scan, tmp_path / "in" / "a"), tmp_path / "in")
    shutil.copytree(tmp_path / "in" / "a", tmp_path / "in" / "b")
    shutil.copy(tmp_path / "in" / "seg.dcm", tmp_path / "in" / "b" / "seg.dcm")
    prepared(tmp_path / "in", tmp_path / "out")
    assert_seen(tmp_path / "out", scan)


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


def test_segments_are_chosen_by_number_or_label(tmp_path):
    scan = scanned()
    paths = write_scan(scan, tmp_path / "in")
    oedema = np.roll(scan.lesion, 5, axis=2) & ~scan.lesion
    both = np.stack([oedema, scan.lesion], axis=-1).astype(np.uint8)
    own_segmentation(paths, both, tmp_path / "in" / "seg.dcm", labels=("Oedema", "Tumour core"))
    for number, (wanted, expected) in enumerate(
        [
            (["2"], scan.lesion),
            (["tumour*"], scan.lesion),
            (["Oedema"], oedema),
            ([], oedema | scan.lesion),
        ]
    ):
        prepared(tmp_path / "in", tmp_path / str(number), segments=wanted)
        (case,) = cases_in(tmp_path / str(number))
        np.testing.assert_array_equal(case.mask, expected)
    with pytest.raises(
        ConfigurationError, match="lacks the segments asked for; it has 1 'Oedema', 2 'Tumour core'"
    ):
        prepared(tmp_path / "in", tmp_path / "absent", segments=["Necrosis"])


def test_several_segmentations_of_a_series_are_united_only_when_told(tmp_path):
    scan = scanned()
    paths = write_scan(scan, tmp_path / "in")
    other = np.roll(scan.lesion, 5, axis=2)
    own_segmentation(paths, scan.lesion.astype(np.uint8), tmp_path / "in" / "a.dcm")
    own_segmentation(paths, other.astype(np.uint8), tmp_path / "in" / "b.dcm")
    with pytest.raises(ConfigurationError, match="it has 2 SEG objects"):
        prepared(tmp_path / "in", tmp_path / "out")
    prepared(tmp_path / "in", tmp_path / "out", join=True)
    (case,) = cases_in(tmp_path / "out")
    np.testing.assert_array_equal(case.mask, scan.lesion | other)


def test_a_series_without_segmentation_is_empty_only_when_told_and_its_study_has_none(tmp_path):
    scan, healthy = scanned(), scanned(seed=901, lesion=False)
    paths = write_scan(scan, tmp_path / "in" / "a")
    node_segmentation(scan, paths, tmp_path / "in")
    write_scan(scan, tmp_path / "in" / "b", series_seed="2")  # of the same study
    write_scan(healthy, tmp_path / "in" / "c", patient="SECRET-2")
    write_scan(
        healthy,
        tmp_path / "in" / "d",
        patient="SECRET-2",
        series_seed="2",
        attributes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    )
    done = prepared(tmp_path / "in", tmp_path / "out")
    assert len(cases_in(tmp_path / "out")) == 1
    assert any(remark.startswith("3 MR series have no SEG") for remark in done.remarks)
    done = prepared(tmp_path / "in", tmp_path / "empty", empty=True)
    assert sorted(bool(case.mask.any()) for case in cases_in(tmp_path / "empty")) == [False, True]
    assert any(remark.startswith("1 MR series have no SEG") for remark in done.remarks)
    ((_, why),) = done.left_out
    assert why == "the node would not analyse it: ImageType says LOCALIZER: a localizer"


def test_a_segmentation_of_another_patient_is_not_believed(tmp_path):
    scan = scanned()
    path = node_segmentation(scan, write_scan(scan, tmp_path / "in"), tmp_path / "in")
    dataset = dcmread(path)
    dataset.PatientID = "SECRET-9"
    dataset.save_as(path)
    with pytest.raises(ConfigurationError, match="its SEG is of another patient"):
        prepared(tmp_path / "in", tmp_path / "out", empty=True)
    dataset.PatientID = ""  # one that names nobody is
    dataset.save_as(path)
    prepared(tmp_path / "in", tmp_path / "out")
    assert_seen(tmp_path / "out", scan)


def test_a_contrast_can_be_chosen(tmp_path):
    scan = scanned()
    node_segmentation(scan, write_scan(scan, tmp_path / "in"), tmp_path / "in")
    with pytest.raises(ConfigurationError, match="its contrast is FLAIR"):
        prepared(tmp_path / "in", tmp_path / "out", contrasts=["T1CE"])
    prepared(tmp_path / "in", tmp_path / "out", contrasts=["FLAIR"])
    assert_seen(tmp_path / "out", scan)


@pytest.fixture
def several(tmp_path):
    """Six patients, four with a lesion, one of these with a second exam."""
    folder = tmp_path / "in"
    for number in range(6):
        scan = scanned("axial", 910 + number, lesion=number < 4)
        paths = write_scan(scan, folder / f"{number}", patient=f"SECRET-{number}")
        if number < 4:
            node_segmentation(scan, paths, folder / f"{number}")
    scan = scanned("axial", 920)
    arguments = {"patient": "SECRET-0", "series_seed": "2", "attributes": {"StudyInstanceUID": "2.25.99"}}
    paths = write_scan(scan, folder / "again", **arguments)
    node_segmentation(scan, paths, folder / "again")
    return folder


def test_nothing_of_the_patient_goes_into_the_folder(several, tmp_path):
    prepared(several, tmp_path / "out", empty=True)
    identities = {str(dcmread(path).SeriesInstanceUID).encode() for path in several.rglob("0001.dcm")}
    assert len(identities) == 7
    for path in (tmp_path / "out").rglob("*"):
        assert "SECRET" not in path.name
        if path.is_file():
            content = path.read_bytes()
            assert not any(word in content for word in (b"SECRET", b"Name^", b"19700101", *identities))
    with (tmp_path / "out" / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["patient"] for row in rows} == {f"P000{number}" for number in range(1, 7)}
    exams = {(row["patient"], row["exam"]) for row in rows}
    assert sorted(exam for _, exam in exams) == ["1"] * 6 + ["2"]


def order_of(folder: Path) -> list[str]:
    with (folder / "index.csv").open(newline="") as file:
        return [row["patient"] for row in csv.DictReader(file)]


def test_the_same_salt_numbers_alike_and_the_split_does_not_depend_on_it(several, tmp_path):
    splits = []
    for name, salt in (("a", "one"), ("b", "one"), ("c", "two"), ("d", None)):
        prepared(several, tmp_path / name, empty=True, salt=salt, fractions=(0.5, 0.25, 0.25), seed=4)
        with (tmp_path / name / "index.csv").open(newline="") as file:
            splits.append([row["split"] for row in csv.DictReader(file)])
    assert order_of(tmp_path / "a") == order_of(tmp_path / "b") != order_of(tmp_path / "c")
    assert splits == splits[:1] * 4
    assert set(splits[0]) == {"train", "val", "test"}


@pytest.mark.slow
def test_a_network_trains_on_what_was_prepared(several, tmp_path):
    arguments = ["prepare", "dicom", str(several), "--out", str(tmp_path / "prepared"), "--empty"]
    told = CliRunner().invoke(app, [*arguments, "--split", "0.5", "0.25", "0.25"])
    assert told.exit_code == 0, told.output
    assert "2 volumes without SEG are taken to show no tumour." in told.output
    assert "5 volumes have a segment that an algorithm made (AUTOMATIC)." in told.output
    (tmp_path / "recipe.toml").write_text(RECIPE)
    run_training(tmp_path / "recipe.toml", tmp_path / "run", tmp_path / "prepared")
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert np.isfinite(float(row["loss"]))
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "index.csv exists and is not overwritten" in refused.output


def test_unreadable_files_are_named_and_damaged_series_left_out(several, tmp_path):
    (several / "notes.txt").write_text("no image")
    (several / "1" / "0003.dcm").write_bytes(b"\0" * 128 + b"DICM\x02\0\x10\0UI\x14\0garbage")
    for number, less in (("2", 400), ("3", 4000)):
        seg = several / number / "seg.dcm"
        seg.write_bytes(seg.read_bytes()[:-less])
    done = prepared(several, tmp_path / "out", empty=True)
    told = dict(done.left_out)
    assert told["notes.txt"] == "no DICOM file"
    assert "1/0003.dcm" in told
    reasons = " ".join(told.values())
    assert "a slice is missing or spacing is uneven" in reasons
    assert reasons.count("seg.dcm is cut short") == 1
    assert reasons.count("seg.dcm is of no known SegmentationType") == 1
    assert len(cases_in(tmp_path / "out")) == 4


def test_values_below_zero_are_raised_and_the_network_sees_the_same(tmp_path):
    scan = scanned()
    shifted = replace(scan, voxels=scan.voxels - 300, seen=scan.seen - 300)
    paths = write_scan(shifted, tmp_path / "in", storage=Storage(signed=True))
    node_segmentation(scan, paths, tmp_path / "in")
    done = prepared(tmp_path / "in", tmp_path / "out")
    assert any("below 0" in remark for remark in done.remarks)
    with (tmp_path / "out" / "index.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    (case,) = cases_in(tmp_path / "out")
    np.testing.assert_array_equal(case.voxels * float(row["scale"]) + float(row["offset"]), shifted.seen)
    np.testing.assert_allclose(
        normalise(case.voxels, PercentileRule()), normalise(shifted.seen, PercentileRule()), atol=1e-6
    )
    image, mask = read_png(tmp_path / "out" / row["image"]), tmp_path / "out" / row["mask"]
    assert image.dtype == np.uint16
    assert mask.read_bytes()[24:26] == b"\x01\x00"  # bit depth 1, grey


@pytest.mark.parametrize(
    ("slope", "low", "exact"), [(1.0, 0, True), (0.37, -12.5, True), (2.0, -8192, True), (7.3, 400.0, True)]
)
def test_what_is_whole_after_the_slope_is_kept_to_the_last_bit(slope, low, exact):
    stored = np.random.default_rng(0).integers(0, 4096, (3, 8, 8))
    voxels = (stored * slope + low).astype(np.float32)
    pixels, scale, offset, told = to_16_bits(voxels, slope)
    assert told is exact
    np.testing.assert_allclose(pixels * scale + offset, voxels, atol=slope * 0.02)


def test_what_is_not_whole_is_rounded_to_a_65535th_and_said(tmp_path):
    voxels = np.random.default_rng(0).normal(0, 1000, (3, 8, 8)).astype(np.float32)
    pixels, scale, offset, exact = to_16_bits(voxels)
    assert not exact
    assert np.abs(pixels * scale + offset - voxels).max() <= np.ptp(voxels) / 65535 / 2 * 1.01


def dcmqi_segmentation(masks: np.ndarray, affine: np.ndarray, images: Path, path: Path) -> None:
    """A SEG by an independent writer, fed with an NRRD."""
    segment = {
        "labelID": 1,
        "SegmentDescription": "Tumour",
        "SegmentLabel": "Tumour",
        "SegmentAlgorithmType": "MANUAL",
        "SegmentedPropertyCategoryCodeSequence": code("49755003", "Abnormal structure"),
        "SegmentedPropertyTypeCodeSequence": code("108369006", "Neoplasm"),
    }
    described = {
        "ContentCreatorName": "Reader",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "9",
        "InstanceNumber": "1",
        "segmentAttributes": [[segment]],
    }
    nrrd, metadata = path.with_suffix(".nrrd"), path.with_suffix(".json")
    write_nrrd(nrrd, masks, affine)
    metadata.write_text(json.dumps(described))
    command = [TOOLS / "itkimage2segimage", "--inputImageList", nrrd, "--inputDICOMDirectory", images]
    command += ["--inputMetadata", metadata, "--outputDICOM", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert path.is_file(), done.stdout + done.stderr


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


def code(value: str, meaning: str) -> dict[str, str]:
    return {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}


def write_nrrd(path: Path, masks: np.ndarray, affine: np.ndarray) -> None:
    directions = " ".join(f"({','.join(f'{v:.9g}' for v in affine[:3, axis])})" for axis in range(3))
    head = (
        "NRRD0004",
        "type: unsigned char",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, masks.shape[::-1]))}",
        f"space directions: {directions}",
        "kinds: domain domain domain",
        "encoding: raw",
        f"space origin: ({','.join(f'{v:.9g}' for v in affine[:3, 3])})",
    )
    path.write_bytes("\n".join(head).encode() + b"\n\n" + masks.tobytes())
