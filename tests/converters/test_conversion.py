"""Keras files to ONNX: the same answers, and refusals that say what is wrong.

Not covered: files of tf.keras 2 and SavedModel folders, which are refused like any other file
that Keras 3 cannot load.
"""

import keras
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from keras import layers
from typer.testing import CliRunner

from converters.cli import app
from converters.errors import ConversionError
from converters.keras_file import load_network
from converters.onnx_export import export


def small_unet():
    inputs = keras.Input((32, 32, 1))
    x = skip = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D()(layers.BatchNormalization()(x))
    x = layers.Conv2DTranspose(4, 2, strides=2)(x)
    x = layers.Concatenate()([x, skip])
    return keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x))


def small_detector():
    return keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


@pytest.mark.parametrize("make", [small_unet, small_detector])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_converted_network_gives_the_same_answers_for_any_batch(make, suffix, tmp_path):
    original = make()
    original.save(tmp_path / f"network{suffix}")
    path = tmp_path / "network.onnx"
    assert export(load_network(tmp_path / f"network{suffix}"), path) < 1e-6
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((5, 32, 32, 1), dtype=np.float32)
    (answer,) = session.run(["probability"], {"image": images})
    np.testing.assert_allclose(answer, original(images, training=False), atol=1e-6)


def test_a_network_with_a_loss_of_its_own_needs_no_code_here(tmp_path):
    def own_loss(truth, answer):
        return keras.ops.mean(keras.ops.abs(truth - answer))

    model = small_unet()
    model.compile("adam", loss=own_loss)
    model.save(tmp_path / "own.keras")
    assert load_network(tmp_path / "own.keras").name == model.name


def test_the_graph_has_opset_17_and_a_named_batch(tmp_path):
    export(small_detector(), tmp_path / "network.onnx")
    graph = onnx.load(tmp_path / "network.onnx")
    assert [opset.version for opset in graph.opset_import if opset.domain == ""] == [17]
    shape = graph.graph.input[0].type.tensor_type.shape
    assert [side.dim_param or side.dim_value for side in shape.dim] == ["n", 32, 32, 1]


def test_a_difference_above_the_tolerance_writes_nothing(tmp_path):
    with pytest.raises(ConversionError, match="was not written"):
        export(small_unet(), tmp_path / "network.onnx", tolerance=-1)
    assert not (tmp_path / "network.onnx").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConversionError, match=r"there is no file .*absent\.keras"):
        load_network(tmp_path / "absent.keras")


@pytest.mark.parametrize("name", ["broken.keras", "broken.h5"])
def test_a_file_that_is_no_network_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"no network at all")
    with pytest.raises(ConversionError, match=rf"Keras .* cannot load .*{name}"):
        load_network(tmp_path / name)


def test_another_suffix_is_refused_with_those_that_are_read(tmp_path):
    (tmp_path / "network.pt").write_bytes(b"")
    with pytest.raises(ConversionError, match=r"must end in \.keras or \.h5"):
        load_network(tmp_path / "network.pt")


@pytest.mark.parametrize(
    ("shape", "says"),
    [((32,), r"\(None, 32\)"), ((32, 32, 3), r"\(None, 32, 32, 3\)"), ((32, 16, 1), r"\(None, 32, 16, 1\)")],
)
def test_an_input_that_the_node_cannot_feed_is_refused(shape, says, tmp_path):
    inputs = keras.Input(shape)
    outputs = layers.Dense(1)(layers.Flatten()(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "odd.keras")
    with pytest.raises(ConversionError, match=rf"takes an input of shape {says}; the node feeds"):
        load_network(tmp_path / "odd.keras")


def test_an_answer_of_several_classes_is_refused(tmp_path):
    inputs = keras.Input((32, 32, 1))
    keras.Model(inputs, layers.Conv2D(3, 1)(inputs)).save(tmp_path / "classes.keras")
    with pytest.raises(ConversionError, match=r"answers with shape \(None, 32, 32, 3\)"):
        load_network(tmp_path / "classes.keras")


def test_the_command_converts_and_tells_the_difference(tmp_path):
    small_detector().save(tmp_path / "network.keras")
    out = tmp_path / "network.onnx"
    result = CliRunner().invoke(app, ["network", str(tmp_path / "network.keras"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "largest difference to Keras" in result.output
    assert out.exists()


def test_the_command_tells_an_error_in_one_sentence(tmp_path):
    result = CliRunner().invoke(
        app, ["network", str(tmp_path / "absent.keras"), "--out", str(tmp_path / "x.onnx")]
    )
    assert result.exit_code == 1
    assert result.output.startswith("error: there is no file")
