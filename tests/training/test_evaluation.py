"""The tables and pictures: a bundle with random weights through the node's own inference; the baselines.

Not covered: whether the pictures are good to look at, and the figures of the shipped bundles
(``test_frozen_figures.py`` has some).
"""

import csv
import json
import re
import shutil
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from keras import layers
from typer.testing import CliRunner

from converters.bundle import make_bundle
from dicom_node.analysis.manifest import read_manifest
from training.cli import app
from training.contact_sheet import Example, choose
from training.perturbations import PERTURBATIONS

DESCRIPTION = """
name = "random"
version = "0.1.0"
contrasts = ["FLAIR"]
planes = ["AXIAL"]
training_data = "none"
licence = "CC0"
limitations = "Useless."
[input]
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "random"
    folder.mkdir()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 1))
    pixels = layers.Conv2D(1, 1, activation="sigmoid")(inputs)
    whole = layers.Dense(1, activation="sigmoid")(layers.Flatten()(inputs))
    files = []
    for role, outputs in (("detector", whole), ("segmenter", pixels)):
        source = folder.parent / role
        source.mkdir()
        keras.Model(inputs, outputs).save(source / "best.keras")
        (source / "threshold.json").write_text('{"threshold": 0.5, "threshold_rule": "guessed"}')
        files.append(source / "best.keras")
    (folder / "description.toml").write_text(DESCRIPTION)
    make_bundle(folder, *files, commit="none")
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def small_png(path, pixels):
    cv2.imwrite(str(path), pixels.astype(np.uint8))
    return path.name


@pytest.fixture(scope="module")
def single_slices(tmp_path_factory):
    """Slices of unknown patients, all with tumour, of two diseases, in three splits of 12 each."""
    folder = tmp_path_factory.mktemp("single")
    random = np.random.default_rng(0)
    rows = []
    for number in range(36):
        pixels = random.integers(0, 99, (40, 40))
        mask = np.zeros((40, 40))
        mask[number % 20 : number % 20 + 8, 10:20] = 255
        image = small_png(folder / f"{number:04}.png", pixels + mask / 2)
        disease = "meningioma" if number % 12 < 5 else "glioma"
        split = ("train", "val", "test")[number // 12]
        rows.append((image, small_png(folder / f"mask{number:04}.png", mask), disease, split))
    with (folder / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "mask", "class", "split"), *rows])
    return folder


def report_of(folder):
    return (folder / "report.md").read_text()


@pytest.fixture(scope="module")
def evaluated(bundle, small_data, tmp_path_factory):
    """A folder with everything that an evaluation writes, and what it prints as ``printed.txt``."""
    out = tmp_path_factory.mktemp("evaluated")
    before = (bundle / "manifest.toml").read_bytes()
    result = run("evaluate", "--bundle", bundle, "--data", small_data, "--out", out)
    assert result.exit_code == 0, result.output
    assert (bundle / "manifest.toml").read_bytes() == before
    (out / "printed.txt").write_text(result.output)
    return out


def test_an_evaluation_writes_every_figure_with_its_interval(evaluated):
    metrics = json.loads((evaluated / "metrics.json").read_text())
    wanted = {
        "detector": {"accuracy", "precision", "recall", "recall_ends", "specificity", "f1", "auc", "ece"},
        "segmenter": {
            "dice_pooled",
            "dice_patient_mean",
            "dice_patient_median",
            "dice_slice_mean",
            "iou_pooled",
            "recall",
            "precision",
            "pixel_accuracy",
        },
        "series": {"sensitivity", "false_slices_per_series"},
    }
    for part, names in wanted.items():
        for name in names:
            assert {name, f"{name}_ci95"} <= metrics[part].keys()
    assert metrics["detector"]["n"] == metrics["segmenter"]["n_slices"] == metrics["slices"] == 8
    assert metrics["patients"] == 1
    assert sum(metrics["detector"]["confusion"].values()) == 8
    assert sum(metrics["segmenter"]["pixels"].values()) == 8 * 64 * 64
    assert set(metrics["speed"]) == {
        "detector_1_thread",
        "segmenter_1_thread",
        "detector_2_threads",
        "segmenter_2_threads",
    }
    assert min(metrics["speed"].values()) > 0
    printed = (evaluated / "printed.txt").read_text()
    assert "## Detector, by slice" in printed
    assert "with no more than 1 to draw from" in printed


def test_every_picture_of_the_report_is_there(evaluated):
    pictures = re.findall(r"!\[\w+\]\((.+)\)", report_of(evaluated))
    assert pictures == ["roc.png", "calibration.png", "confusion.png", "dice.png", "examples.png"]
    for picture in pictures:
        assert cv2.imread(str(evaluated / picture)).std() > 10, picture


def test_several_data_sets_are_measured_together_and_each(bundle, small_data, single_slices, tmp_path):
    arguments = ("--bundle", bundle, "--data", single_slices, "--data", small_data, "--out", tmp_path)
    result = run("evaluate", *arguments)
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["data"] == list(metrics["by_data"]) == [single_slices.name, small_data.name]
    single, series = metrics["by_data"].values()
    assert (metrics["patients"], metrics["blocks"], metrics["slices"]) == (1, 2, 20)
    assert single["detector"]["auc"] is single["detector"]["specificity"] is None
    assert single["segmenter"]["dice_patient_mean"] is single["series"]["sensitivity"] is None
    assert metrics["detector"]["auc"] == series["detector"]["auc"] is not None
    for name in ("true_positive", "false_negative", "false_positive", "true_negative"):
        parts = [part["detector"]["confusion"][name] for part in (single, series)]
        assert metrics["detector"]["confusion"][name] == sum(parts)
    assert {name: table["n_slices"] for name, table in metrics["by_disease"].items()} == {
        "glioma": 7,
        "meningioma": 5,
    }
    report = report_of(tmp_path)
    assert "block split" in report
    assert "every slice has tumour" in report
    assert re.search(r"\| auc \| [\d.]+ .*\| not defined \| [\d.]+ .*\|", report)
    assert re.search(r"\| meningioma \| [\d.]+", report)
    assert "nan" not in report.lower()
    assert {f"examples-{name}.png" for name in metrics["data"]} <= {path.name for path in tmp_path.iterdir()}


def test_the_origin_works_stand_beside_the_bundle_with_a_caution(evaluated):
    report = report_of(evaluated)
    assert re.search(r"\| CNN .*\| 0.970 \| - \| 0.994 \| - \| 0.967 \|", report)
    assert re.search(r"\| ResNet50 U-Net .*\| 0.794 \| 0.707 \| 0.853 \| 0.786 \| 0.9943 \|", report)
    assert "rank nothing" in report


def test_only_every_nth_patient_is_taken_on_demand(bundle, small_data, tmp_path):
    arguments = ("--bundle", bundle, "--data", small_data, "--split", "train", "--out", tmp_path)
    assert run("evaluate", *arguments, "--every", 3).exit_code == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["patients"], metrics["every"]) == (2, 3)
    assert "Of 3 patients or blocks one was taken" in report_of(tmp_path)


def test_recording_puts_the_headlines_into_the_manifest_and_the_tables_into_the_card(
    bundle, small_data, tmp_path
):
    bundle = Path(shutil.copytree(bundle, tmp_path / bundle.name))
    card = bundle / "CARD.md"
    card.write_text("# A card\n<!-- figures -->\nearlier ones\n<!-- end of figures -->\nits end\n")
    arguments = ("--bundle", bundle, "--data", small_data, "--out", tmp_path, "--record")
    assert run("evaluate", *arguments).exit_code == 0
    text = card.read_text()
    assert text.startswith("# A card\n<!-- figures -->\n")
    assert text.endswith("<!-- end of figures -->\nits end\n")
    assert "### Series" in text
    assert "earlier ones" not in text
    assert "![" not in text
    figures = read_manifest(bundle).figures
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert figures["dice_pooled"] == pytest.approx(metrics["segmenter"]["dice_pooled"], abs=1e-4)


def test_a_card_without_a_place_for_figures_is_named(bundle, small_data, tmp_path):
    bundle = Path(shutil.copytree(bundle, tmp_path / bundle.name))
    (bundle / "CARD.md").write_text("# A card\n")
    result = run("evaluate", "--bundle", bundle, "--data", small_data, "--out", tmp_path, "--record")
    assert result.exit_code == 1
    assert "CARD.md has no lines '<!-- figures -->'" in result.output


def test_other_bundles_on_the_same_data_stand_beside(bundle, small_data, tmp_path):
    arguments = ("--bundle", bundle, "--data", small_data, "--out", tmp_path / "first")
    assert run("evaluate", *arguments).exit_code == 0
    path = tmp_path / "first" / "metrics.json"
    other = json.loads(path.read_text())
    other["bundle"]["name"] = "another"
    path.write_text(json.dumps(other))
    assert run("evaluate", *arguments[:-1], tmp_path, "--beside", path).exit_code == 0
    rows = [line for line in report_of(tmp_path).splitlines() if line.startswith("| another ")]
    assert len(rows) == 3  # slices, pixels, time
    result = run("evaluate", *arguments[:-1], tmp_path, "--split", "train", "--beside", path)
    assert result.exit_code == 1
    assert "measure on these" in result.output


def test_figures_of_a_part_of_the_patients_are_not_recorded(bundle, small_data, tmp_path):
    before = (bundle / "manifest.toml").read_bytes()
    arguments = ("--bundle", bundle, "--data", small_data, "--out", tmp_path, "--record", "--every", 2)
    result = run("evaluate", *arguments)
    assert result.exit_code == 1
    assert "leave out --every" in result.output
    assert (bundle / "manifest.toml").read_bytes() == before


def test_an_evaluation_without_data_ends_with_one_sentence(bundle, tmp_path):
    result = run("evaluate", "--bundle", bundle, "--data", tmp_path, "--out", tmp_path)
    assert result.exit_code == 1
    assert result.output.startswith("error: ")
    assert "index.csv is missing" in result.output


def test_baselines_are_judged_by_the_same_figures_and_stand_beside_the_bundle(bundle, small_data, tmp_path):
    result = run("baselines", "--data", small_data, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "baselines.json").read_text())
    assert len(table["classifiers"]) == 5
    for figures in table["classifiers"].values():
        assert {"auc", "auc_ci95", "f1", "threshold", "confusion"} <= figures.keys()
        assert figures["n"] == 8
    assert "random forest" in result.output
    arguments = ("--bundle", bundle, "--data", small_data, "--out", tmp_path)
    assert run("evaluate", *arguments, "--baselines", tmp_path / "baselines.json").exit_code == 0
    assert "| random forest |" in report_of(tmp_path)


def test_baselines_of_other_data_are_refused(bundle, small_data, tmp_path):
    file = tmp_path / "baselines.json"
    arguments = ("--bundle", bundle, "--data", small_data, "--out", tmp_path, "--baselines", file)
    file.write_text(json.dumps({"data": ["other"], "split": "val", "classifiers": {}}))
    assert "was made on other, split val" in run("evaluate", *arguments).output
    file.write_text("[]")
    assert "is no file that 'baselines' (baselines.json) or" in run("evaluate", *arguments).output


def test_baselines_need_slices_of_both_kinds(single_slices, tmp_path):
    result = run("baselines", "--data", single_slices, "--out", tmp_path)
    assert result.exit_code == 1
    assert "with and without tumour" in result.output


@pytest.mark.slow
def test_robustness_stands_beside_the_unperturbed_figures(bundle, small_data, single_slices, tmp_path):
    arguments = ("--bundle", bundle, "--data", single_slices, "--data", small_data, "--out", tmp_path)
    result = run("robustness", *arguments)
    assert result.exit_code == 0, result.output
    single, series = json.loads((tmp_path / "robustness.json").read_text())["by_data"].values()
    assert set(series) == {"unperturbed", *PERTURBATIONS}
    assert set(single) == set(series) - {"shortened"}
    assert series["rescaled"]["change"]["dice_pooled"] == pytest.approx(0, abs=1e-6)
    assert single["noise_9"]["change"]["recall"] == pytest.approx(
        single["noise_9"]["recall"] - single["unperturbed"]["recall"]
    )
    assert single["mirrored"]["auc"] is None
    report = (tmp_path / "robustness.md").read_text()
    assert report == result.output.removesuffix("\n")
    for perturbation in PERTURBATIONS.values():
        assert f"| {perturbation.text} |" in report
    for picture in re.findall(r"!\[.+\]\((.+)\)", report):
        assert cv2.imread(str(tmp_path / picture)).std() > 10, picture


def examples(*dices):
    blank = np.zeros((4, 4), np.uint8)
    return [Example(f"{dice}", "data", dice, blank, blank > 0, blank > 0) for dice in dices]


@pytest.mark.parametrize(
    ("dices", "rows"),
    [
        ((0.1, 0.9, 0.5, 0.7), {"best": [0.9], "middle": [0.7], "worst": [0.1]}),
        ((0.2, 0.1), {"all": [0.2, 0.1]}),
        ((), {}),
        (
            tuple(np.arange(15) / 100),
            {
                "best": [0.14, 0.13, 0.12, 0.11],
                "middle": [0.09, 0.08, 0.07, 0.06],
                "worst": [0.03, 0.02, 0.01, 0.0],
            },
        ),
    ],
)
def test_the_sheet_shows_the_best_the_middle_and_the_worst(dices, rows):
    chosen = choose(examples(*dices))
    assert {name: [example.dice for example in row] for name, row in chosen.items()} == rows
