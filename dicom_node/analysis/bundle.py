"""A model bundle, held to its word: right files, right answers, before any work is accepted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dicom_node.analysis.detector import Detector
from dicom_node.analysis.engine import Device, OnnxNetwork
from dicom_node.analysis.manifest import Manifest, Network, read_manifest
from dicom_node.analysis.segmenter import Segmenter
from dicom_node.errors import BundleError


@dataclass(frozen=True)
class Bundle:
    """A detector and a segmenter that were trained for one kind of series.

    Attributes
    ----------
    folder : where it lies
    manifest : what it says of itself
    detector, segmenter : ready to run
    """

    folder: Path
    manifest: Manifest
    detector: Detector
    segmenter: Segmenter

    @property
    def weights_sha256(self) -> str:
        """One hex digest that stands for all weights of the bundle."""
        joined = self.manifest.detector.sha256 + self.manifest.segmenter.sha256
        return hashlib.sha256(joined.encode("ascii")).hexdigest()

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``."""
        return self.segmenter.engine.device


def load_bundle(folder: Path, device: Device = "auto", threads: int = 0) -> Bundle:
    """Load a bundle and prove it.

    Every file's sha256 must be the manifest's, and both networks must give their stored answers
    to the stored input on the device in use, within the manifest's tolerance.

    Raises
    ------
    BundleError
        Names the file and what is wrong with it.
    """
    manifest = read_manifest(folder)
    if manifest.name != folder.resolve().name:
        raise BundleError(f"{folder}: the manifest's name is {manifest.name!r}; folder and name must agree")
    for part in (manifest.detector, manifest.segmenter, manifest.reference):
        _check_digest(folder / part.file, part.sha256)

    def network(part: Network) -> OnnxNetwork:
        return OnnxNetwork(folder / part.file, part, device, threads)

    bundle = Bundle(
        folder, manifest, Detector(network(manifest.detector)), Segmenter(network(manifest.segmenter))
    )
    _prove(bundle)
    return bundle


def _check_digest(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise BundleError(f"{path} is missing or unreadable; restore the bundle") from None
    if found != expected:
        raise BundleError(f"{path} was altered: sha256 {found[:12]}..., the manifest says {expected[:12]}...")


def _prove(bundle: Bundle) -> None:
    path = bundle.folder / bundle.manifest.reference.file
    tolerance = bundle.manifest.reference.tolerance
    with np.load(path) as stored:
        for name, engine in (("detector", bundle.detector.engine), ("segmenter", bundle.segmenter.engine)):
            answer = engine.run(stored[f"{name}_input"].astype(np.float32))
            expected = stored[f"{name}_output"].astype(np.float32)
            if answer.shape != expected.shape:
                raise BundleError(f"{path}: {name} answers {answer.shape}, stored is {expected.shape}")
            worst = float(np.abs(answer - expected).max())
            if not worst <= tolerance:
                raise BundleError(
                    f"{bundle.folder}: on {engine.device} the {name} is off its stored answer by {worst:.2g} "
                    f"(tolerance {tolerance:.2g}); check onnxruntime's version and the device's driver"
                )
