"""Make a bundle: two networks and a description become a folder that the node loads."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from converters.conversion import Converted, convert
from converters.description import Description, read_description, read_threshold
from converters.images import phantom_squares
from converters.manifest_text import write_manifest
from converters.network import Precision, Request, Role
from dicom_node.analysis.bundle import load_bundle
from dicom_node.analysis.channels import Channels, in_channels
from dicom_node.analysis.manifest import FILE_NAME, Declaration, Manifest, Network, Origin, Reference
from dicom_node.phantom.brain import PhantomContrast
from dicom_node.series.volume import Contrast

REFERENCE = "reference.npz"
TOLERANCE = 1e-3  # of the stored answers, on any device
COARSE_TOLERANCE = 2e-2  # float16 and int8 are computed differently on another processor


@dataclass(frozen=True)
class Wishes:
    """How one network of a bundle shall be converted.

    Attributes
    ----------
    size : side of the square input in pixels, for a network that takes any
    threshold : a probability at or above it is positive; None reads ``threshold.json``
    precision : of the weights
    tolerance : largest permitted difference of a probability; None is that of the precision
    channels : what the channels of a network with three of them are; None reads ``threshold.json``
    """

    size: int | None = None
    threshold: float | None = None
    precision: Precision = "float32"
    tolerance: float | None = None
    channels: Channels | None = None


@dataclass(frozen=True)
class BundleWishes:
    """What a bundle's files do not say.

    Attributes
    ----------
    detector, segmenter : how each is converted
    description : keys of the description that come before ``description.toml``
    opset, images, custom_objects, trust_code : as in :class:`~converters.network.Request`
    """

    detector: Wishes = Wishes()
    segmenter: Wishes = Wishes()
    description: Mapping[str, Any] = field(default_factory=dict)
    opset: int | None = None
    images: Path | None = None
    custom_objects: Path | None = None
    trust_code: bool = False


@dataclass(frozen=True)
class Made:
    """A bundle that was made: its manifest, and what was seen on the way."""

    manifest: Manifest
    detector: Converted
    segmenter: Converted


def make_bundle(
    folder: Path,
    detector_file: Path,
    segmenter_file: Path,
    commit: str,
    wishes: BundleWishes = BundleWishes(),
) -> Made:
    """Write networks, reference and manifest into ``folder``, and prove them as the node does.

    Everything is made and proven elsewhere and then moved, so that a bundle which is there
    already stays as it was until the new one is known to be good.

    Parameters
    ----------
    folder : named like the bundle
    detector_file, segmenter_file : networks of any kind that is read
    commit : of the code that trained them

    Raises
    ------
    ConversionError
        When a file or an answer is missing or wrong, or a converted network differs from its original.
    BundleError
        When what was made does not prove itself.
    """
    description = read_description(folder, wishes.description)
    with tempfile.TemporaryDirectory() as elsewhere:
        made_in = Path(elsewhere) / description.name
        made_in.mkdir()
        detector, in_detector = _network(made_in, "detector", detector_file, wishes)
        segmenter, in_segmenter = _network(made_in, "segmenter", segmenter_file, wishes)
        _write_reference(made_in, description, (in_detector, in_segmenter))
        coarse = {wishes.detector.precision, wishes.segmenter.precision} != {"float32"}
        manifest = Manifest(
            **{key: getattr(description, key) for key in Declaration.model_fields},
            detector=in_detector,
            segmenter=in_segmenter,
            reference=Reference(
                file=REFERENCE,
                sha256=_digest(made_in / REFERENCE),
                tolerance=COARSE_TOLERANCE if coarse else TOLERANCE,
            ),
            origin=_origin(description, commit, {*detector.packages, *segmenter.packages}),
        )
        write_manifest(manifest, made_in)
        load_bundle(made_in, "cpu")
        folder.mkdir(parents=True, exist_ok=True)
        for name in (in_detector.file, in_segmenter.file, REFERENCE, FILE_NAME):
            shutil.move(made_in / name, folder / name)
    return Made(manifest, detector, segmenter)


def _origin(description: Description, commit: str, packages: set[str]) -> Origin:
    return Origin(
        training_data=description.training_data,
        licence=description.licence,
        made=datetime.now(UTC).date().isoformat(),
        commit=commit,
        versions={name: importlib.metadata.version(name) for name in sorted(packages)}
        | {"onnxruntime": ort.__version__},
    )


def _network(folder: Path, role: Role, source: Path, wishes: BundleWishes) -> tuple[Converted, Network]:
    """Convert one network into the folder; return what was seen and its part of the manifest."""
    own = wishes.detector if role == "detector" else wishes.segmenter
    threshold = read_threshold(source, role, own.threshold)
    request = Request(
        source,
        role,
        own.size,
        wishes.opset,
        wishes.images,
        wishes.custom_objects,
        wishes.trust_code,
        own.channels or threshold.channels,
    )
    path = folder / f"{role}.onnx"
    converted = convert(request, path, own.precision, own.tolerance)
    network = Network(
        file=path.name,
        sha256=_digest(path),
        input_name=converted.input_name,
        output_name=converted.output_name,
        layout=converted.input.layout,
        channels=converted.input.channels,
        size=converted.input.size,
        opset=converted.opset,
        calibration=threshold.calibration,
        threshold=threshold.threshold,
        threshold_rule=threshold.threshold_rule,
    )
    return converted, network


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_reference(folder: Path, description: Description, networks: tuple[Network, Network]) -> None:
    """Store the phantom's squares and what the written networks answer to them on a CPU."""
    contrast: PhantomContrast = "FLAIR" if Contrast.FLAIR in description.contrasts else "T1CE"
    arrays: dict[str, NDArray[np.floating]] = {}
    for role, network in zip(("detector", "segmenter"), networks, strict=True):
        squares = phantom_squares(network.size, description.input, contrast).astype(np.float16)
        session = ort.InferenceSession(folder / network.file, providers=["CPUExecutionProvider"])
        axis = 3 if network.layout == "NHWC" else 1
        fed = in_channels(squares.astype(np.float32), network.channels, network.layout)
        # the answer to the rounded squares, because those are what is stored
        (answer,) = session.run([network.output_name], {network.input_name: fed})
        arrays[f"{role}_input"] = squares
        arrays[f"{role}_output"] = np.squeeze(answer, axis if answer.ndim == 4 else 1).astype(np.float32)
    np.savez_compressed(folder / REFERENCE, allow_pickle=False, **arrays)
