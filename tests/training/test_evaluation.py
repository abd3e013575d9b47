"""The tables: a bundle with random weights through the node's own inference, and the baselines.

Not covered: what the figures of the shipped bundle are; its card says so, and how to measure them.
"""

import json

import keras
import pytest
from keras import layers
from typer.testing import CliRunner

from converters.bundle import make_bundle
from dicom_node.analysis.manifest import read_manifest
from training.cli import app

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


def test_an_evaluation_writes_every_figure_with_its_interval(bundle, small_data, tmp_path):
    before = (bundle / "manifest.toml").read_bytes()
    result = run("evaluate", "--bundle", bundle, "--data", small_data, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    wanted = {
        "detector": {"accuracy", "precision", "recall", "f1", "auc", "ece"},
        "segmenter": {
            "dice_pooled",
            "dice_patient_mean",
            "dice_patient_median",
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
    assert metrics["detector"]["n"] == metrics["segmenter"]["n_slices"] == 8
    assert sum(metrics["detector"]["confusion"].values()) == 8
    assert (tmp_path / "detector.png").stat().st_size > 1000
    assert set(metrics["speed"]) == {
        "detector_1_thread",
        "segmenter_1_thread",
        "detector_2_threads",
        "segmenter_2_threads",
    }
    assert min(metrics["speed"].values()) > 0
    assert "## Detector, by slice" in result.output
    assert (bundle / "manifest.toml").read_bytes() == before


def test_recording_puts_the_headlines_into_the_manifest(bundle, small_data, tmp_path):
    arguments = ("--bundle", bundle, "--data", small_data, "--out", tmp_path, "--record")
    assert run("evaluate", *arguments).exit_code == 0
    figures = read_manifest(bundle).figures
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert figures["dice_pooled"] == pytest.approx(metrics["segmenter"]["dice_pooled"], abs=1e-4)


def test_an_evaluation_without_data_ends_with_one_sentence(bundle, tmp_path):
    result = run("evaluate", "--bundle", bundle, "--data", tmp_path, "--out", tmp_path)
    assert result.exit_code == 1
    assert result.output.startswith("error: ")
    assert "index.csv is missing" in result.output


def test_baselines_are_judged_by_the_same_figures(small_data, tmp_path):
    result = run("baselines", "--data", small_data, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "baselines.json").read_text())
    assert len(table) == 5
    assert all({"auc", "auc_ci95", "f1"} <= figures.keys() for figures in table.values())
    assert "random forest" in result.output
