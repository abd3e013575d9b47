"""Making a bundle: what is written is what the node reads, loads and proves."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from converters.bundle import BundleWishes, Wishes, make_bundle
from converters.errors import ConversionError
from converters.manifest_text import toml_text
from dicom_node.analysis.bundle import load_bundle
from dicom_node.analysis.manifest import read_manifest
from dicom_node.errors import BundleError
from tests.converters.networks import write_onnx

DESCRIPTION = """
name = "small"
version = "0.1.0"
contrasts = ["FLAIR"]
planes = ["AXIAL"]
training_data = "None, the weights are \\"random\\""
licence = "CC0"
limitations = "Useless. Größe: klein."
[input]
rule = "percentile"
"""

GIVEN = {
    "version": "1.0.0",
    "contrasts": ["FLAIR"],
    "planes": ["AXIAL"],
    "input": {"lower": 0.5, "upper": 99.5},
    "training_data": "none",
    "licence": "CC0",
    "limitations": "Useless.",
}


@pytest.fixture
def sources(tmp_path):
    inputs = keras.Input((32, 32, 1))
    pixels = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(inputs)
    whole = layers.Dense(1, activation="sigmoid")(layers.Flatten()(inputs))
    files = {}
    for role, outputs in (("detector", whole), ("segmenter", pixels)):
        (tmp_path / role).mkdir()
        files[role] = tmp_path / role / "best.keras"
        keras.Model(inputs, outputs).save(files[role])
        threshold = {"threshold": 0.4, "threshold_rule": "guessed", "and": "more"}
        (tmp_path / role / "threshold.json").write_text(json.dumps(threshold))
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "description.toml").write_text(DESCRIPTION)
    return folder, files["detector"], files["segmenter"]


def test_a_bundle_loads_and_proves_itself(sources):
    folder, *_ = sources
    manifest = make_bundle(*sources, commit="abc").manifest
    assert read_manifest(folder) == manifest
    assert manifest.limitations == "Useless. Größe: klein."
    assert manifest.origin.commit == "abc"
    assert set(manifest.origin.versions) == {"keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime"}
    bundle = load_bundle(folder, "cpu")
    assert bundle.detector.threshold == bundle.segmenter.threshold == 0.4


def test_a_bundle_can_be_described_by_options_and_made_of_different_kinds(sources, tmp_path):
    _, detector, _ = sources
    segmenter = write_onnx(tmp_path / "other.onnx", ("n", 1, "h", "w"))
    wishes = BundleWishes(
        segmenter=Wishes(size=48, threshold=0.7, precision="float16"),
        description=GIVEN,
    )
    made = make_bundle(tmp_path / "new", detector, segmenter, "abc", wishes)
    assert (made.manifest.name, made.manifest.segmenter.layout) == ("new", "NCHW")
    assert made.manifest.reference.tolerance > 1e-3
    bundle = load_bundle(tmp_path / "new", "cpu")
    assert (bundle.detector.threshold, bundle.segmenter.threshold) == (0.4, 0.7)
    assert bundle.segmenter.probabilities(np.zeros((3, 50, 40), np.float32), 1.0, 1.0).shape == (3, 50, 40)


def test_what_the_description_lacks_is_asked_for_by_option(sources, tmp_path):
    _, detector, segmenter = sources
    with pytest.raises(ConversionError, match=r"version, contrasts, .* give --release, --contrast"):
        make_bundle(tmp_path / "new", detector, segmenter, "abc")


def test_a_bad_version_is_named(sources):
    with pytest.raises(ConversionError, match="version: String should match"):
        make_bundle(*sources, "abc", BundleWishes(description={"version": "one"}))


def test_a_bundle_stays_as_it_was_when_the_new_one_fails(sources, tmp_path):
    folder, detector, _ = sources
    make_bundle(*sources, commit="abc")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ConversionError):
        make_bundle(folder, detector, detector, commit="def")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_altered_file_is_noticed(sources):
    folder, *_ = sources
    make_bundle(*sources, commit="abc")
    with (folder / "segmenter.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"segmenter\.onnx was altered"):
        load_bundle(folder, "cpu")


def test_networks_in_the_wrong_order_are_refused(sources):
    folder, detector, segmenter = sources
    with pytest.raises(ConversionError, match="that is a segmenter, no detector"):
        make_bundle(folder, segmenter, detector, commit="abc")


def test_a_missing_threshold_is_named(sources):
    sources[1].with_name("threshold.json").unlink()
    with pytest.raises(ConversionError, match=r"give --detector-threshold, or .*threshold\.json"):
        make_bundle(*sources, commit="abc")


def test_a_wrong_key_of_the_description_is_named(sources):
    path = sources[0] / "description.toml"
    path.write_text(DESCRIPTION.replace("licence", "license"))
    with pytest.raises(ConversionError, match=r"licence missing: give --licence, .* license: Extra inputs"):
        make_bundle(*sources, commit="abc")


def test_a_description_for_another_folder_is_refused(sources):
    path = sources[0] / "description.toml"
    path.write_text(DESCRIPTION.replace('"small"', '"other"'))
    with pytest.raises(ConversionError, match="folder and name must agree"):
        make_bundle(*sources, commit="abc")


def test_toml_text_nests_tables_and_quotes_text():
    text = toml_text({"a": 'x "y"', "t": {"b": [1, 2.5], "u": {"c": True}}, "z": 1e-05})
    import tomllib

    assert tomllib.loads(text) == {"a": 'x "y"', "t": {"b": [1, 2.5], "u": {"c": True}}, "z": 1e-05}
