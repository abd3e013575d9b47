"""Files that tf.keras 2 wrote: read by tf-keras in a process of its own, or as a SavedModel.

The files are made by tf-keras too, as an old training would leave them: a U-Net with
Conv2DTranspose and an operator written as Python (a TFOpLambda), compiled with a custom loss.
Not covered: files of the releases before tf-keras 2.21, whose formats are the same.
"""

import os
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest

from converters.errors import ConversionError
from tests.converters.networks import converted

pytestmark = pytest.mark.slow

TRAINING = """
import sys
import numpy as np
import tensorflow as tf
from tensorflow import keras
from pathlib import Path

folder = Path(sys.argv[1])
keras.utils.set_random_seed(0)
inputs = keras.Input((32, 32, 1))
x = skip = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
x = keras.layers.MaxPooling2D()(keras.layers.BatchNormalization()(x))
x = keras.layers.Conv2DTranspose(4, 2, strides=2)(x)
x = keras.layers.Concatenate()([x, skip])
unet = keras.Model(inputs, keras.layers.Conv2D(1, 1, activation="sigmoid")(x * 2.0))
plain = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(keras.layers.Flatten()(inputs)))

def dice_loss(truth, answer):
    return 1 - tf.reduce_sum(truth * answer)

class Half(keras.layers.Layer):
    def call(self, x):
        return x / 2

unet.compile("adam", loss=dice_loss)
for name in ("unet.h5", "unet.keras", "unet_saved_model"):
    unet.save(folder / name)
plain.save(folder / "plain.h5")
up = keras.layers.Conv2DTranspose(1, 1, activation="sigmoid")
keras.Model(inputs, Half()(up(inputs))).save(folder / "own.h5")
images = np.random.default_rng(0).random((5, 32, 32, 1), dtype=np.float32)
np.savez(folder / "truth.npz", images=images, answers=unet(images, training=False).numpy())
"""

OWN = """
from tensorflow import keras

class Half(keras.layers.Layer):
    def call(self, x):
        return x / 2
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("legacy")
    environment = os.environ | {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", TRAINING, str(folder)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("name", "reader"),
    [("unet.h5", "tf-keras"), ("unet.keras", "tf-keras"), ("unet_saved_model", "TensorFlow")],
)
def test_a_legacy_network_gives_the_same_answers(trained, name, reader, tmp_path):
    seen = converted(trained / name, tmp_path / "unet.onnx")
    assert seen.reader.startswith(reader)
    assert seen.largest < 1e-6
    session = ort.InferenceSession(tmp_path / "unet.onnx", providers=["CPUExecutionProvider"])
    with np.load(trained / "truth.npz") as truth:
        (answer,) = session.run(["probability"], {"image": truth["images"]})
        np.testing.assert_allclose(answer, truth["answers"], atol=1e-6)


def test_a_legacy_network_that_keras_3_can_load_needs_no_other_process(trained, tmp_path):
    assert converted(trained / "plain.h5", tmp_path / "plain.onnx").reader.startswith("Keras 3")


def test_a_missing_layer_is_named_with_the_remedy(trained, tmp_path):
    with pytest.raises(ConversionError, match=r"uses 'Half', which tf-keras .* --custom-objects"):
        converted(trained / "own.h5", tmp_path / "own.onnx")


def test_a_layer_of_its_own_comes_from_a_python_file(trained, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    seen = converted(trained / "own.h5", tmp_path / "own.onnx", custom_objects=tmp_path / "own.py")
    assert seen.reader.startswith("tf-keras")
