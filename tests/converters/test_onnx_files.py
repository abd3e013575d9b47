"""Files that are ONNX already, and the precisions that a graph can be written in.

Not covered: whether float16 and int8 are any faster, and how a trained network bears them.
"""

import keras
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from converters.errors import ConversionError
from converters.network import Input
from converters.precision import TOLERANCE
from tests.converters.networks import converted, small_detector, small_unet, write_onnx


@pytest.fixture
def images(tmp_path):
    values = np.random.default_rng(1).random((6, 40, 40), dtype=np.float32)
    np.save(tmp_path / "images.npy", values)
    return tmp_path / "images.npy"


def test_a_graph_with_channels_first_keeps_its_layout_and_names(tmp_path):
    seen = converted(write_onnx(tmp_path / "in.onnx", ("n", 1, 32, 32)), tmp_path / "out.onnx")
    assert (seen.input, seen.role) == (Input(32, "NCHW", "slice"), "segmenter")
    assert (seen.input_name, seen.output_name, seen.largest) == ("pixels", "mask", 0)


def test_a_graph_for_one_image_becomes_one_for_any_batch(tmp_path):
    converted(write_onnx(tmp_path / "in.onnx", (1, 1, 32, 32)), tmp_path / "out.onnx")
    session = ort.InferenceSession(tmp_path / "out.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"pixels": np.zeros((5, 1, 32, 32), np.float32)})[0].shape == (5, 1, 32, 32)


def test_a_graph_that_cannot_take_another_batch_is_refused(tmp_path):
    source = write_onnx(tmp_path / "in.onnx", (1, 1, 32, 32), batch=1)
    with pytest.raises(ConversionError, match="in batches of 8"):
        converted(source, tmp_path / "out.onnx")


def test_a_graph_for_any_size_asks_for_one(tmp_path):
    source = write_onnx(tmp_path / "in.onnx", ("n", 1, "h", "w"))
    with pytest.raises(ConversionError, match=r"images of any size.* with --size"):
        converted(source, tmp_path / "out.onnx")
    assert converted(source, tmp_path / "out.onnx", size=48).input.size == 48


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"shape": ("n", 2, 32, 32)}, "32 channels|2 channels"),
        ({"shape": ("n", 3, 32, 32)}, r"three channels, .* say with --channels what they are"),
        ({"shape": ("n", 1, 32, 16)}, "the node feeds squares"),
        ({"shape": ("n", 1, 16, 16)}, "16 pixels is not in 32 to 1024"),
        ({"shape": ("n", 1, 32, 32), "inputs": ("pixels", "more")}, "has 2 inputs and 1 outputs"),
        ({"shape": ("n", 1, 32, 32), "kind": onnx.TensorProto.FLOAT16}, "takes FLOAT16; the node feeds"),
        ({"shape": ("n", 1, 32, 32), "opset": 6}, "operator set 6; 7 is the oldest"),
    ],
)
def test_a_graph_that_the_node_cannot_feed_is_refused(arguments, says, tmp_path):
    with pytest.raises(ConversionError, match=says):
        converted(write_onnx(tmp_path / "in.onnx", **arguments), tmp_path / "out.onnx")


def test_an_onnx_file_keeps_its_opset(tmp_path):
    source = write_onnx(tmp_path / "in.onnx", ("n", 1, 32, 32), opset=15)
    assert converted(source, tmp_path / "out.onnx").opset == 15
    with pytest.raises(ConversionError, match="keeps its operator set 15"):
        converted(source, tmp_path / "out.onnx", opset=17)


@pytest.mark.parametrize("make", [small_unet, small_detector])
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_coarser_network_is_close_and_still_takes_and_answers_float32(make, precision, images, tmp_path):
    keras.utils.set_random_seed(0)
    make().save(tmp_path / "network.keras")
    exact = converted(tmp_path / "network.keras", tmp_path / "exact.onnx", images=images)
    coarse = converted(tmp_path / "network.keras", tmp_path / "coarse.onnx", precision, images=images)
    assert exact.largest < coarse.largest <= TOLERANCE[precision]
    session = ort.InferenceSession(tmp_path / "coarse.onnx", providers=["CPUExecutionProvider"])
    (fed,), (answered,) = session.get_inputs(), session.get_outputs()
    assert (fed.name, fed.type) == ("image", "tensor(float)")
    assert (answered.name, answered.type) == ("probability", "tensor(float)")
    operators = {node.op_type for node in onnx.load(tmp_path / "coarse.onnx").graph.node}
    assert ("QuantizeLinear" if precision == "int8" else "Cast") in operators


def test_int8_asks_for_images(tmp_path):
    source = write_onnx(tmp_path / "in.onnx", ("n", 1, 32, 32))
    with pytest.raises(ConversionError, match=r"calibrated on real images.*--images"):
        converted(source, tmp_path / "out.onnx", "int8")


def test_int8_of_an_old_opset_is_refused(images, tmp_path):
    source = write_onnx(tmp_path / "in.onnx", ("n", 1, 32, 32), opset=12)
    with pytest.raises(ConversionError, match="int8 needs operator set 13 or later; the file has 12"):
        converted(source, tmp_path / "out.onnx", "int8", images=images)
