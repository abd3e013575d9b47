"""A model bundle, held to its word: right files, right answers, before any work is accepted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dicom_node.analysis.detector import Detector
from dicom_node.analysis.engine import Device, Engine, OnnxNetwork
from dicom_node.analysis.manifest import Manifest, Network, read_manifest
from dicom_node.analysis.reference import read_reference
from dicom_node.analysis.remote import RemoteNetwork
from dicom_node.analysis.segmenter import Segmenter
from dicom_node.errors import BundleError
from dicom_node.settings import Remote


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
        """``cpu``, ``cuda``, or the server that runs it."""
        return self.segmenter.engine.device


def load_bundle(
    folder: Path, device: Device = "auto", threads: int = 0, remote: Remote | None = None
) -> Bundle:
    """Load a bundle and prove it.

    Every file's sha256 must be the manifest's, and both networks must give their stored answers
    to the stored input on the device in use, within the manifest's tolerance.

    Parameters
    ----------
    remote : the server that runs its networks; None: they run on ``device``

    Raises
    ------
    BundleError
        Names the file, or the server's model, and what is wrong with it.
    InferenceUnavailable
        The server does not answer, or is not ready.
    """
    manifest = read_manifest(folder)
    if manifest.name != folder.resolve().name:
        raise BundleError(f"{folder}: the manifest's name is {manifest.name!r}; folder and name must agree")
    for part in (manifest.detector, manifest.segmenter, manifest.reference):
        _check_digest(folder / part.file, part.sha256)

    def proven(name: str, network: Network) -> Engine:
        path, tolerance = folder / manifest.reference.file, manifest.reference.tolerance
        reference = read_reference(path, name, tolerance)
        engine: Engine
        if remote is None:
            engine = OnnxNetwork(folder / network.file, network, device, threads)
        else:
            engine = RemoteNetwork(remote, remote.model_of(manifest.name, name), network, reference)
        if objection := reference.objection(engine.run(reference.squares)):
            raise BundleError(
                f"{folder}: on {engine.device} the {name} {objection}; "
                "check onnxruntime's version and the device's driver"
            )
        return engine

    detector = Detector(proven("detector", manifest.detector))
    return Bundle(folder, manifest, detector, Segmenter(proven("segmenter", manifest.segmenter)))


def _check_digest(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise BundleError(f"{path} is missing or unreadable; restore the bundle") from None
    if found != expected:
        raise BundleError(f"{path} was altered: sha256 {found[:12]}..., the manifest says {expected[:12]}...")
