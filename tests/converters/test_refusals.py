"""What cannot be converted is refused with the cause and the remedy, and nothing is written."""

import keras
import pytest
from keras import layers

from converters.conversion import convert
from converters.errors import ConversionError
from converters.network import Request
from tests.converters.networks import converted, small_unet

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


def refused(source, says, **request):
    out = source.with_name("out.onnx")
    with pytest.raises(ConversionError, match=says):
        converted(source, out, **request)
    assert not out.exists()


def test_a_difference_above_the_tolerance_writes_nothing(tmp_path):
    small_unet().save(tmp_path / "unet.keras")
    with pytest.raises(ConversionError, match=r"differs from Keras .* was not written; --tolerance"):
        convert(Request(tmp_path / "unet.keras"), tmp_path / "out.onnx", tolerance=-1)
    assert not (tmp_path / "out.onnx").exists()


def test_a_missing_file_is_named(tmp_path):
    refused(tmp_path / "absent.keras", r"there is no file .*absent\.keras")


def test_a_folder_that_is_no_saved_model_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", r"folder without saved_model\.pb")


@pytest.mark.parametrize("name", ["broken.keras", "broken.h5", "broken.onnx"])
def test_a_file_that_is_no_network_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"no network at all")
    refused(tmp_path / name, rf"{name} is no (Keras|ONNX) file")


def test_a_broken_saved_model_is_named(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"no network at all")
    refused(tmp_path / "broken", r"TensorFlow .* cannot load .*broken")


def test_weights_alone_are_no_network(tmp_path):
    small_unet().save_weights(tmp_path / "unet.weights.h5")
    refused(tmp_path / "unet.weights.h5", r"at most its weights; save the whole")


def test_another_suffix_is_refused_with_those_that_are_read(tmp_path):
    (tmp_path / "network.pt").write_bytes(b"")
    refused(tmp_path / "network.pt", r"must end in \.keras, \.h5")


def test_the_name_of_the_output_must_say_onnx(tmp_path):
    with pytest.raises(ConversionError, match=r"must end in \.onnx"):
        converted(tmp_path / "network.keras", tmp_path / "out.tflite")


@pytest.mark.parametrize("opset", [12, 19, 21])
def test_an_opset_that_tf2onnx_does_not_write_is_refused(opset, tmp_path):
    small_unet().save(tmp_path / "unet.keras")
    refused(tmp_path / "unet.keras", f"--opset {opset} is not supported.*13 to 18", opset=opset)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_missing_layer_is_named_with_the_remedy(suffix, tmp_path):
    class Own(layers.Layer):
        def call(self, x):
            return x

    inputs = keras.Input((32, 32, 1))
    keras.Model(inputs, Own()(inputs)).save(tmp_path / f"own{suffix}")
    refused(tmp_path / f"own{suffix}", r"uses 'Own', which Keras .* --custom-objects FILE\.py")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_missing_activation_is_named_with_the_remedy(suffix, tmp_path):
    def own_activation(x):
        return x

    inputs = keras.Input((32, 32, 1))
    outputs = layers.Conv2D(1, 1, activation=own_activation)(inputs)
    keras.Model(inputs, outputs).save(tmp_path / f"own{suffix}")
    refused(tmp_path / f"own{suffix}", r"uses 'own_activation', which Keras")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "there is no such .py file"),
        ("raise OSError('disk')", "OSError: disk"),
        ("x = 1", "defines no class"),
    ],
)
def test_a_file_of_custom_objects_that_is_of_no_use_is_named(text, says, tmp_path):
    if text is not None:
        (tmp_path / "own.py").write_text(text)
    small_unet().save(tmp_path / "unet.keras")
    refused(tmp_path / "unet.keras", rf"own\.py.*{says}", custom_objects=tmp_path / "own.py")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_the_file_is_not_run_unasked(suffix, tmp_path):
    inputs = keras.Input((32, 32, 1))
    keras.Model(inputs, layers.Lambda(lambda x: x)(inputs)).save(tmp_path / f"code{suffix}")
    refused(tmp_path / f"code{suffix}", "Lambda layer, which is Python code.*--trust-code")


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((32,), r"rank 2, \(n, 32\)"),
        ((32, 32, 32, 1), "rank 5"),
        ((32, 32, 2), r"2 channels, \(n, 32, 32, 2\)"),
        ((32, 32, 3), r"three channels, \(n, 32, 32, 3\); say with --channels"),
        ((32, 16, 1), "the node feeds squares"),
        ((None, None, 1), "images of any size; say which .* --size"),
    ],
)
def test_an_input_that_the_node_cannot_feed_is_refused(shape, says, tmp_path):
    inputs = keras.Input(shape)
    keras.Model(inputs, layers.Activation("sigmoid")(inputs)).save(tmp_path / "odd.keras")
    refused(tmp_path / "odd.keras", says)


def test_a_size_that_the_network_contradicts_is_refused(tmp_path):
    small_unet().save(tmp_path / "unet.keras")
    refused(tmp_path / "unet.keras", "--size is 64, but .*32", size=64)


def test_two_inputs_are_refused(tmp_path):
    first, second = keras.Input((32, 32, 1)), keras.Input((32, 32, 1))
    keras.Model([first, second], layers.Add()([first, second])).save(tmp_path / "two.keras")
    refused(tmp_path / "two.keras", "has 2 inputs; the node feeds one")


def test_two_outputs_are_refused(tmp_path):
    inputs = keras.Input((32, 32, 1))
    keras.Model(inputs, [inputs, layers.ReLU()(inputs)]).save(tmp_path / "two.keras")
    refused(tmp_path / "two.keras", "has 2 outputs; the node reads one")


def test_an_answer_of_several_classes_is_refused(tmp_path):
    inputs = keras.Input((32, 32, 1))
    keras.Model(inputs, layers.Conv2D(3, 1)(inputs)).save(tmp_path / "classes.keras")
    refused(tmp_path / "classes.keras", r"answers \(n, 32, 32, 3\); a detector answers \(n, 1\)")


def test_an_answer_of_the_other_role_is_refused(tmp_path):
    small_unet().save(tmp_path / "unet.keras")
    refused(tmp_path / "unet.keras", "that is a segmenter, no detector", role="detector")


def test_answers_that_are_no_probabilities_are_refused(tmp_path):
    inputs = keras.Input((32, 32, 1))
    keras.Model(inputs, layers.Rescaling(5.0)(inputs)).save(tmp_path / "logits.keras")
    refused(tmp_path / "logits.keras", "end the network with a sigmoid")
