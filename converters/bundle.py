"""Make a bundle: two Keras files and a description become a folder that the node loads."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from converters.errors import ConversionError
from converters.keras_file import is_segmenter, load_network, side
from converters.manifest_text import write_manifest
from converters.onnx_export import INPUT_NAME, OPSET, OUTPUT_NAME, export
from dicom_node.analysis.manifest import Manifest, Network, Origin, Probability, Reference
from dicom_node.phantom.brain import brain_phantom
from dicom_node.series.normalisation import PercentileRule, SquareGrid, normalise
from dicom_node.series.volume import Contrast, Plane

DESCRIPTION = "description.toml"
REFERENCE = "reference.npz"
REFERENCE_SEED = 0
PACKAGES = ("keras", "tensorflow", "tf2onnx", "onnx")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Description(_Table):
    """What a bundle says of itself and no file can tell; the keys are those of its manifest."""

    name: str
    version: str
    contrasts: tuple[Contrast, ...]
    planes: tuple[Plane, ...]
    input: PercentileRule
    training_data: str
    licence: str
    limitations: str


class Threshold(BaseModel):
    """``threshold.json`` beside a Keras file, as a training leaves it; other keys are its own affair."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    threshold: Probability
    threshold_rule: Annotated[str, Field(min_length=1)]


def read_description(path: Path) -> Description:
    """Read a description, strictly.

    Raises
    ------
    ConversionError
        When it is missing or wrong; the keys are named.
    """
    try:
        with path.open("rb") as file:
            return Description.model_validate(tomllib.load(file))
    except FileNotFoundError:
        raise ConversionError(f"there is no description {path}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConversionError(f"{path} is not valid TOML: {error}") from None
    except ValidationError as error:
        raise ConversionError(f"{path}: {_sentence(error)}") from None


def read_threshold(model_file: Path) -> Threshold:
    """Read ``threshold.json`` beside a Keras file.

    Raises
    ------
    ConversionError
        When it is missing or wrong.
    """
    path = model_file.with_name("threshold.json")
    try:
        return Threshold.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConversionError(
            f"{path} is missing: it holds threshold and threshold_rule of {model_file.name}"
        ) from None
    except json.JSONDecodeError as error:
        raise ConversionError(f"{path} is not valid JSON: {error}") from None
    except ValidationError as error:
        raise ConversionError(f"{path}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())


def make_bundle(folder: Path, detector_file: Path, segmenter_file: Path, commit: str) -> Manifest:
    """Write networks, reference and manifest into ``folder``, which holds a ``description.toml``.

    Parameters
    ----------
    folder : named like the bundle
    detector_file, segmenter_file : Keras files with a ``threshold.json`` beside each
    commit : of the code that trained them

    Raises
    ------
    ConversionError
        When a file is missing or wrong, or a converted network differs from its Keras original.
    """
    description = read_description(folder / DESCRIPTION)
    if description.name != folder.resolve().name:
        raise ConversionError(
            f"{folder / DESCRIPTION} is for {description.name!r}; folder and name must agree"
        )
    detector, detector_size = _network(folder, "detector", detector_file)
    segmenter, segmenter_size = _network(folder, "segmenter", segmenter_file)
    _write_reference(folder, description.input, {"detector": detector_size, "segmenter": segmenter_size})
    manifest = Manifest(
        name=description.name,
        version=description.version,
        contrasts=description.contrasts,
        planes=description.planes,
        input=description.input,
        detector=detector,
        segmenter=segmenter,
        reference=Reference(file=REFERENCE, sha256=_digest(folder / REFERENCE)),
        origin=Origin(
            training_data=description.training_data,
            licence=description.licence,
            made=datetime.now(UTC).date().isoformat(),
            commit=commit,
            versions={name: importlib.metadata.version(name) for name in PACKAGES}
            | {"onnxruntime": ort.__version__},
        ),
        limitations=description.limitations,
    )
    write_manifest(manifest, folder)
    return manifest


def _network(folder: Path, role: str, source: Path) -> tuple[Network, int]:
    """Convert one network into the folder; return its part of the manifest and its size."""
    model: keras.Model = load_network(source)
    if is_segmenter(model) != (role == "segmenter"):
        raise ConversionError(f"{source} answers {model.outputs[0].shape}: that is no {role}")
    threshold = read_threshold(source)
    path = folder / f"{role}.onnx"
    export(model, path)
    network = Network(
        file=path.name,
        sha256=_digest(path),
        input_name=INPUT_NAME,
        output_name=OUTPUT_NAME,
        layout="NHWC",
        size=side(model),
        opset=OPSET,
        threshold=threshold.threshold,
        threshold_rule=threshold.threshold_rule,
    )
    return network, side(model)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reference_squares(size: int, rule: PercentileRule) -> NDArray[np.float16]:
    """Give three slices of the phantom as squares, (3, size, size): below, in and beside its lesion."""
    phantom = brain_phantom(REFERENCE_SEED)
    if phantom.centre is None:
        raise AssertionError("the reference phantom has a lesion")
    middle = round(phantom.centre[0])
    first, last = np.flatnonzero(phantom.lesion.any(axis=(1, 2)))[[0, -1]]
    _, rows, columns = phantom.voxels.shape
    grid = SquareGrid(rows, columns, *phantom.spacing_mm[1:], size)
    images = normalise(phantom.voxels, rule)
    chosen = (max(0, int(first) - 4), middle, int(last))
    return np.stack([grid.to_square(images[index]) for index in chosen]).astype(np.float16)


def _write_reference(folder: Path, rule: PercentileRule, sizes: dict[str, int]) -> None:
    """Store the phantom's squares and what the written networks answer to them on a CPU."""
    arrays: dict[str, NDArray[np.floating]] = {}
    for role, size in sizes.items():
        squares = reference_squares(size, rule)
        session = ort.InferenceSession(folder / f"{role}.onnx", providers=["CPUExecutionProvider"])
        # the answer to the rounded squares, because those are what is stored
        (answer,) = session.run([OUTPUT_NAME], {INPUT_NAME: squares.astype(np.float32)[..., None]})
        arrays[f"{role}_input"] = squares
        arrays[f"{role}_output"] = answer[..., 0].astype(np.float32)
    np.savez_compressed(folder / REFERENCE, allow_pickle=False, **arrays)
