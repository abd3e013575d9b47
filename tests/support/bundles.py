"""Two tiny ONNX networks that see bright spots, as a bundle.

They let tests of the way around the models know the right answer; the shipped weights have
tests of their own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

SIZE = 96


def _model(nodes: list[onnx.NodeProto], output: list[int | str], constants: dict[str, float]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "spot",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", SIZE, SIZE, 1])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _sharpen(source: str, target: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Sub", [source, "middle"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "slope"], ["scaled"]),
        helper.make_node("Sigmoid", ["scaled"], [target]),
    ]


def write_spot_bundle(
    folder: Path,
    *,
    contrasts: tuple[str, ...] = ("FLAIR",),
    planes: tuple[str, ...] = ("AXIAL",),
    label: str = "tumour",
    middle: float = 0.7,
) -> Path:
    """Write a bundle whose detector sees the brightest pixel and whose segmenter sees bright pixels.

    Parameters
    ----------
    middle : where a pixel's probability is a half
    """
    folder.mkdir(parents=True)
    constants = {"middle": middle, "slope": 40.0}
    detector = _model(
        [
            helper.make_node("ReduceMax", ["image"], ["top"], axes=[1, 2], keepdims=0),
            *_sharpen("top", "probability"),
        ],
        ["n", 1],
        constants,
    )
    segmenter = _model(_sharpen("image", "probability"), ["n", SIZE, SIZE, 1], constants)
    (folder / "detector.onnx").write_bytes(detector)
    (folder / "segmenter.onnx").write_bytes(segmenter)

    images = np.zeros((2, SIZE, SIZE, 1), np.float32)
    images[1, 20:40, 30:50] = 0.9
    answers = {}
    for name in ("detector", "segmenter"):
        session = ort.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        (answer,) = session.run(None, {"image": images})
        answers[f"{name}_input"] = images[..., 0]
        answers[f"{name}_output"] = answer[..., 0]
    np.savez(folder / "reference.npz", **answers)
    write_manifest(folder, contrasts=contrasts, planes=planes, label=label)
    return folder


def write_manifest(
    folder: Path,
    *,
    contrasts: tuple[str, ...] = ("FLAIR",),
    planes: tuple[str, ...] = ("AXIAL",),
    label: str = "tumour",
) -> None:
    """Write the manifest for the files as they are now."""

    def digest(name: str) -> str:
        return hashlib.sha256((folder / name).read_bytes()).hexdigest()

    network = """
file = "{name}.onnx"
sha256 = "{sha256}"
input_name = "image"
output_name = "probability"
size = 96
opset = 17
threshold = 0.5
threshold_rule = "the middle"
"""
    (folder / "manifest.toml").write_text(
        f"""name = "{folder.name}"
version = "1.0.0"
contrasts = {list(contrasts)}
planes = {list(planes)}
limitations = "Sees bright spots only."
[input]
rule = "percentile"
[finding]
label = "{label}"
[detector]{network.format(name="detector", sha256=digest("detector.onnx"))}
[segmenter]{network.format(name="segmenter", sha256=digest("segmenter.onnx"))}
[reference]
file = "reference.npz"
sha256 = "{digest("reference.npz")}"
[origin]
training_data = "none"
licence = "Apache-2.0"
made = "by hand"
commit = "none"
versions = {{}}
"""
    )
