"""``prepare dicom``: which series, SEG and segments are taken, under which names, and what is left out.

Up to a network that trains on the folder. Not covered: where a mask lies
(``test_prepare_dicom_place.py``) and what becomes of values (``test_prepare_dicom_values.py``).
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from dicom_node.errors import ConfigurationError
from tests.training.labelled import cases_in, scanned, write_scan
from tests.training.segmentations import (
    altered,
    assert_seen,
    node_segmentation,
    own_segmentation,
    prepared,
)
from training.cli import app
from training.run import run_training

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
