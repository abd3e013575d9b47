"""The command: options reach the conversion, errors are one sentence."""

import keras
import pytest
from keras import layers
from typer.testing import CliRunner

from converters.cli import app
from dicom_node.analysis.bundle import load_bundle
from tests.converters.networks import small_detector, small_unet, write_onnx


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_network_is_converted_and_the_difference_told(tmp_path):
    small_detector().save(tmp_path / "network.keras")
    out = tmp_path / "network.onnx"
    result = run("network", tmp_path / "network.keras", "--out", out)
    assert result.exit_code == 0, result.output
    assert "detector: read with Keras 3" in result.output
    assert "opset 17, float32; largest difference to the original" in result.output
    assert out.exists()


def test_an_error_is_one_sentence(tmp_path):
    result = run("network", tmp_path / "absent.keras", "--out", tmp_path / "x.onnx")
    assert result.exit_code == 1
    assert result.output.startswith("error: there is no file")


def test_a_bundle_is_made_from_options_alone(tmp_path):
    small_detector().save(tmp_path / "detector.keras")
    segmenter = write_onnx(tmp_path / "unet.onnx", ("n", 1, "h", "w"))
    # fmt: off
    result = run(
        "bundle", tmp_path / "mine", "--detector", tmp_path / "detector.keras", "--segmenter", segmenter,
        "--release", "1.2.3", "--contrast", "FLAIR", "--contrast", "T2", "--plane", "AXIAL",
        "--percentiles", 0.5, 99.5, "--training-data", "none", "--licence", "CC0", "--limitations", "None.",
        "--detector-threshold", 0.3, "--segmenter-threshold", 0.6, "--segmenter-size", 64,
        "--segmenter-precision", "float16", "--commit", "abc",
    )
    # fmt: on
    assert result.exit_code == 0, result.output
    manifest = load_bundle(tmp_path / "mine", "cpu").manifest
    assert (manifest.version, manifest.contrasts, manifest.planes) == ("1.2.3", ("FLAIR", "T2"), ("AXIAL",))
    assert (manifest.input.lower, manifest.input.upper) == (0.5, 99.5)
    assert (manifest.detector.threshold, manifest.segmenter.threshold) == (0.3, 0.6)
    assert manifest.segmenter.size == 64
    assert manifest.origin.commit == "abc"


def test_a_bundle_names_the_option_that_is_missing(tmp_path):
    inputs = keras.Input((None, None, 1))
    small_detector().save(tmp_path / "detector.keras")
    keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(inputs)).save(tmp_path / "unet.keras")
    wanted = ["bundle", tmp_path / "mine", "--detector", tmp_path / "detector.keras"]
    wanted += ["--segmenter", tmp_path / "unet.keras"]
    for missing, given in (
        ("give --release, --contrast, --plane, --percentiles", ["--licence", "0", "--limitations", "None."]),
        ("give --training-data", ["--release", "1.0.0", "--contrast", "FLAIR", "--plane", "AXIAL",
                                  "--percentiles", 1, 99]),
        ("give --detector-threshold", ["--training-data", "none"]),
        ("give --segmenter-threshold", ["--detector-threshold", 0.5]),
        ("with --segmenter-size", ["--segmenter-threshold", 0.5]),
    ):  # fmt: skip
        wanted += given
        result = run(*wanted)
        assert result.exit_code == 1
        assert missing in result.output
    assert run(*wanted, "--segmenter-size", 32).exit_code == 0
    assert not (tmp_path / "mine" / "description.toml").exists()


@pytest.mark.parametrize("command", [[], ["network"], ["bundle"]])
def test_the_help_explains(command):
    assert run(*command, "--help").exit_code == 0


def test_a_segmenter_for_the_detector_is_refused(tmp_path):
    small_unet().save(tmp_path / "unet.keras")
    # fmt: off
    result = run(
        "bundle", tmp_path / "mine",
        "--detector", tmp_path / "unet.keras", "--segmenter", tmp_path / "unet.keras",
        "--release", "1.2.3", "--contrast", "FLAIR", "--plane", "AXIAL", "--percentiles", 1, 99,
        "--training-data", "none", "--licence", "CC0", "--limitations", "None.", "--detector-threshold", 0.3,
    )
    # fmt: on
    assert result.exit_code == 1
    assert "that is a segmenter, no detector" in result.output
