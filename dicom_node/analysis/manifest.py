"""What a bundle says of itself: ``models/NAME/manifest.toml``, read strictly.

A bundle is a folder with ONNX files, this manifest, a stored reference (input and outputs)
and a card. :mod:`dicom_node.analysis.bundle` loads it and holds it to its word.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from dicom_node.analysis.channels import Channels, Layout
from dicom_node.analysis.finding_kind import FindingKind
from dicom_node.errors import BundleError
from dicom_node.series.normalisation import PercentileRule
from dicom_node.series.volume import Contrast, Plane
from dicom_node.toml_file import Table, read_toml

FILE_NAME = "manifest.toml"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Probability = Annotated[float, Field(gt=0, lt=1)]


class Calibration(Table):
    """Turns a network's probability p into one that can be believed: sigmoid(slope * logit(p) + offset).

    That is Platt's scaling, with an offset of 0 temperature scaling; fitted on validation patients.
    """

    slope: Annotated[float, Field(gt=0)] = 1.0
    offset: float = 0.0


class Network(Table):
    """One ONNX network.

    Attributes
    ----------
    file, sha256 : of the weights, relative to the bundle
    input_name, output_name : tensors of the graph
    layout : order of the axes of the input
    channels : what it sees of a slice, see :mod:`dicom_node.analysis.channels`
    size : side of the square input in pixels
    opset : ONNX operator set of the file
    calibration : of its probabilities
    threshold : a calibrated probability at or above it counts as positive
    threshold_rule : in words, how the threshold was chosen
    """

    file: str
    sha256: Sha256
    input_name: str
    output_name: str
    layout: Layout = "NHWC"
    channels: Channels = "slice"
    size: Annotated[int, Field(ge=32, le=1024)]
    opset: Annotated[int, Field(ge=7)]
    calibration: Calibration = Calibration()
    threshold: Probability
    threshold_rule: str


class Reference(Table):
    """Stored squares and what the networks answered, uncalibrated, when the bundle was made.

    The squares are fed as slices of one volume. The file is an ``.npz`` with ``detector_input``
    (n, size, size) and ``detector_output`` (n,), ``segmenter_input`` (n, size, size) and
    ``segmenter_output`` (n, size, size), all float32 or float16.
    """

    file: str
    sha256: Sha256
    tolerance: Annotated[float, Field(gt=0, lt=0.1)] = 1e-3


class Origin(Table):
    """Where the weights come from."""

    training_data: str
    licence: str
    made: str
    commit: str
    versions: dict[str, str]


class Declaration(Table):
    """What no network can tell of a bundle.

    Attributes
    ----------
    name, version : the bundle; the folder has the same name
    contrasts : MR contrasts it was trained for
    planes : anatomical planes it was trained for
    finding : what its regions are called
    alternative : use it only where a configuration names it, not by default
    limitations : sentences for people, repeated in every report
    input : the normalisation of voxels, the same in training and node
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    contrasts: Annotated[tuple[Contrast, ...], Field(min_length=1)]
    planes: Annotated[tuple[Plane, ...], Field(min_length=1)]
    finding: FindingKind = FindingKind()
    alternative: bool = False
    limitations: str
    input: PercentileRule


class Manifest(Declaration):
    """A bundle's manifest.

    Attributes
    ----------
    detector, segmenter : Network
    reference : Reference
    origin : Origin
    figures : headline figures on unseen patients, as ``evaluate`` wrote them
    """

    detector: Network
    segmenter: Network
    reference: Reference
    origin: Origin
    figures: dict[str, float] = Field(default_factory=dict)

    @property
    def decides_sha256(self) -> str:
        """Digest of what decides an outcome: normalisation, networks, calibrations and thresholds."""
        text = self.model_dump_json(include={"input", "detector", "segmenter"})
        return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read ``folder/manifest.toml``.

    Raises
    ------
    BundleError
        When it is missing, is no TOML, or has unknown keys or bad values; each named.
    """
    path = folder / FILE_NAME
    missing = f"{path} is missing: {folder.name!r} is not a model bundle"
    return read_toml(path, Manifest, BundleError, missing)
