"""What kind of file is it, who wrote it, and does it carry code? Told without loading the network."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import h5py

from converters.errors import ConversionError


class Kind(Enum):
    """The kinds of files that are read."""

    KERAS = ".keras"
    H5 = ".h5"
    SAVED_MODEL = "SavedModel folder"
    ONNX = ".onnx"


@dataclass(frozen=True)
class KerasFacts:
    """What a Keras file says of itself.

    Attributes
    ----------
    version : of the Keras that wrote it, empty where it does not say
    has_lambda : whether a Lambda layer is in it, which holds Python code
    """

    version: str
    has_lambda: bool

    @property
    def legacy(self) -> bool:
        """Whether tf.keras 2 wrote it."""
        return self.version.startswith(("1.", "2."))


def kind_of(path: Path) -> Kind:
    """Tell by name and content what a path is.

    Raises
    ------
    ConversionError
        When it is missing or of no kind that is read.
    """
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return Kind.SAVED_MODEL
        raise ConversionError(f"{path} is a folder without saved_model.pb, so no SavedModel")
    if not path.is_file():
        raise ConversionError(f"there is no file {path}")
    by_suffix = {".keras": Kind.KERAS, ".h5": Kind.H5, ".hdf5": Kind.H5, ".onnx": Kind.ONNX}
    kind = by_suffix.get(path.suffix.lower())
    if kind is None:
        raise ConversionError(
            f"{path}: the name must end in .keras, .h5, .hdf5 or .onnx, or be that of a SavedModel folder"
        )
    if kind is Kind.KERAS and not zipfile.is_zipfile(path):
        # until 2.11 tf.keras wrote HDF5 under whatever name it was given
        if h5py.is_hdf5(path):
            return Kind.H5
        raise ConversionError(f"{path} is no Keras file: neither a ZIP archive nor HDF5")
    if kind is Kind.H5 and not h5py.is_hdf5(path):
        raise ConversionError(f"{path} is no Keras file: not HDF5")
    return kind


def keras_facts(path: Path, kind: Kind) -> KerasFacts:
    """Read version and configuration from a ``.keras`` or ``.h5`` file.

    Raises
    ------
    ConversionError
        When the file holds no network, or weights only.
    """
    config, version = _from_archive(path) if kind is Kind.KERAS else _from_hdf5(path)
    return KerasFacts(version, '"class_name": "Lambda"' in json.dumps(config))


def _from_archive(path: Path) -> tuple[object, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            metadata = json.loads(archive.read("metadata.json"))
    except (KeyError, json.JSONDecodeError, zipfile.BadZipFile) as error:
        raise ConversionError(f"{path} is no Keras file: {error}") from None
    return config, str(metadata.get("keras_version", ""))


def _from_hdf5(path: Path) -> tuple[object, str]:
    with h5py.File(path) as file:
        config, version = file.attrs.get("model_config"), file.attrs.get("keras_version", "")
    if config is None:
        raise ConversionError(
            f"{path} holds no network, at most its weights; save the whole of it with model.save(...)"
        )
    try:
        return json.loads(config), version.decode() if isinstance(version, bytes) else str(version)
    except json.JSONDecodeError as error:
        raise ConversionError(f"{path} is no Keras file: {error}") from None
