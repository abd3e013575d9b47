"""Files of Keras 3 and SavedModel folders to ONNX: the same answers for any batch.

Not covered: files of tf.keras 2 (``test_legacy_files``), refusals (``test_refusals``).
"""

import keras
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from keras import layers

from converters.errors import ConversionError
from converters.network import Input
from tests.converters.networks import converted, small_detector, small_unet

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


def answer_of(path, images):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["probability"], {"image": images})[0]


@pytest.mark.parametrize("make", [small_unet, small_detector])
@pytest.mark.parametrize("suffix", [".keras", ".h5", "_saved_model"])
def test_a_converted_network_gives_the_same_answers_for_any_batch(make, suffix, tmp_path):
    original = make()
    source, path = tmp_path / f"network{suffix}", tmp_path / "network.onnx"
    if suffix == "_saved_model":
        original.export(source, verbose=False)
    else:
        original.save(source)
    seen = converted(source, path)
    assert seen.largest < 1e-6
    assert (seen.input, seen.opset) == (Input(32, "NHWC", "slice"), 17)
    assert seen.role == ("segmenter" if make is small_unet else "detector")
    images = np.random.default_rng(0).random((5, 32, 32, 1), dtype=np.float32)
    np.testing.assert_allclose(answer_of(path, images), original(images, training=False), atol=1e-6)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_loss_of_its_own_needs_no_code(suffix, tmp_path):
    def dice_loss(truth, answer):
        return 1 - keras.ops.sum(truth * answer)

    model = small_unet()
    model.compile("adam", loss=dice_loss)
    model.save(tmp_path / f"unet{suffix}")
    assert converted(tmp_path / f"unet{suffix}", tmp_path / "unet.onnx").largest < 1e-6


def test_a_layer_of_its_own_comes_from_a_python_file(tmp_path):
    class Half(layers.Layer):
        def call(self, x):
            return x / 2

    code = "import keras\nclass Half(keras.layers.Layer):\n    def call(self, x):\n        return x / 2\n"
    (tmp_path / "own.py").write_text(code)
    inputs = keras.Input((32, 32, 1))
    keras.Model(inputs, Half()(inputs)).save(tmp_path / "own.keras")
    seen = converted(tmp_path / "own.keras", tmp_path / "own.onnx", custom_objects=tmp_path / "own.py")
    assert seen.largest < 1e-6


def test_a_lambda_layer_is_loaded_once_it_is_trusted(tmp_path):
    inputs = keras.Input((32, 32, 1))
    keras.Model(inputs, layers.Lambda(lambda x: x / 2)(inputs)).save(tmp_path / "lambda.keras")
    seen = converted(tmp_path / "lambda.keras", tmp_path / "lambda.onnx", trust_code=True)
    assert seen.role == "segmenter"


def test_a_network_for_any_size_gets_the_wanted_one(tmp_path):
    small_unet(None).save(tmp_path / "any.keras")
    assert converted(tmp_path / "any.keras", tmp_path / "any.onnx", size=64).input.size == 64


@pytest.mark.parametrize("opset", [13, 18])
def test_the_graph_has_the_wanted_opset_and_a_named_batch(opset, tmp_path):
    small_detector().save(tmp_path / "network.keras")
    assert converted(tmp_path / "network.keras", tmp_path / "network.onnx", opset=opset).opset == opset
    graph = onnx.load(tmp_path / "network.onnx")
    assert [entry.version for entry in graph.opset_import if entry.domain == ""] == [opset]
    shape = graph.graph.input[0].type.tensor_type.shape
    assert [side.dim_param or side.dim_value for side in shape.dim] == ["n", 32, 32, 1]


@pytest.mark.parametrize("channels", ["repeated", "neighbours"])
def test_a_network_of_three_channels_is_told_what_they_are(channels, tmp_path):
    inputs = keras.Input((32, 32, 3))
    outputs = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "three.keras")
    seen = converted(tmp_path / "three.keras", tmp_path / "three.onnx", channels=channels)
    assert seen.input == Input(32, "NHWC", channels)
    assert seen.largest < 1e-6


def test_channels_that_contradict_the_network_are_refused(tmp_path):
    small_unet().save(tmp_path / "one.keras")
    with pytest.raises(ConversionError, match=r"--channels is 'neighbours', but .* takes 1 channel"):
        converted(tmp_path / "one.keras", tmp_path / "one.onnx", channels="neighbours")
