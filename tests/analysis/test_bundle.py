"""A bundle that is not what its manifest says stops the start, and the message names it.

Not covered: CUDA, which no test machine has.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dicom_node.analysis.bundle import load_bundle
from dicom_node.analysis.engine import OnnxNetwork
from dicom_node.errors import BundleError, ConfigurationError
from tests.support.bundles import write_manifest


@pytest.fixture
def bundle(spot_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(spot_models / "spot", tmp_path / "spot"))


def test_a_sound_bundle_loads_on_the_cpu(bundle: Path) -> None:
    loaded = load_bundle(bundle, "cpu")
    assert loaded.device == "cpu"
    assert len(loaded.weights_sha256) == 64


def alter(name: str) -> Callable[[Path], None]:
    def apply(bundle: Path) -> None:
        content = bytearray((bundle / name).read_bytes())
        content[-1] ^= 1
        (bundle / name).write_bytes(content)

    return apply


def remove(name: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).unlink()


def replace(old: str, new: str) -> Callable[[Path], None]:
    def apply(bundle: Path) -> None:
        manifest = bundle / "manifest.toml"
        manifest.write_text(manifest.read_text().replace(old, new))

    return apply


def no_onnx(bundle: Path) -> None:
    (bundle / "segmenter.onnx").write_bytes(b"no network")
    write_manifest(bundle)


def other_answers(bundle: Path) -> None:
    with np.load(bundle / "reference.npz") as stored:
        arrays = dict(stored)
    arrays["segmenter_output"] = arrays["segmenter_output"] * 0.9
    np.savez(bundle / "reference.npz", **arrays)
    write_manifest(bundle)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("segmenter.onnx"), r"segmenter\.onnx is missing"),
        (alter("detector.onnx"), r"detector\.onnx was altered"),
        (alter("reference.npz"), r"reference\.npz was altered"),
        (remove("manifest.toml"), r"manifest\.toml is missing"),
        (replace("version =", "vision ="), r"version: Field required; vision: Extra inputs"),
        (replace("threshold = 0.5", "threshold = 5"), r"detector\.threshold: Input should be less than 1"),
        (replace('"spot"', '"other"'), "folder and name must agree"),
        (replace('input_name = "image"', 'input_name = "picture"'), r"the graph has inputs \['image'\]"),
        (replace('name = "spot"', 'name = "spot'), "not valid TOML"),
        (no_onnx, r"segmenter\.onnx: ONNX Runtime cannot load it"),
        (other_answers, "segmenter is off its stored answer by 0.1"),
    ],
)
def test_a_bundle_that_breaks_its_word_is_refused(
    bundle: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(bundle)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle, "cpu")


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_cuda_that_cannot_be_had_is_said_and_auto_takes_the_cpu(bundle: Path) -> None:
    assert load_bundle(bundle, "auto").device == "cpu"
    with pytest.raises(ConfigurationError, match=r"analysis\.device is 'cuda' but CUDA cannot be loaded"):
        load_bundle(bundle, "cuda")


def test_batches_of_any_length_give_the_answers_of_single_slices(bundle: Path) -> None:
    network = load_bundle(bundle, "cpu").segmenter.engine
    assert isinstance(network, OnnxNetwork)
    squares = np.random.default_rng(0).random((9, 96, 96), np.float32)
    together = network.run(squares)
    assert together.shape == squares.shape
    np.testing.assert_allclose(together, np.concatenate([network.run(s[None]) for s in squares]), atol=1e-6)
