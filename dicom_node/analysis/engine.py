"""What runs a network, and the usual one: ONNX Runtime on one device, in batches."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from dicom_node.analysis import progress
from dicom_node.analysis.channels import in_channels
from dicom_node.analysis.manifest import Network
from dicom_node.errors import BundleError, ConfigurationError

Device = Literal["auto", "cpu", "cuda"]

BATCH = {"cpu": 4, "cuda": 32}  # slices; a CPU gains nothing from more, a GPU everything

_one_at_a_time = threading.Lock()  # the models fill the device; two series at once only thrash it


def choose_device(wanted: Device) -> Literal["cpu", "cuda"]:
    """Resolve ``auto``: CUDA where this onnxruntime has it and the machine shows an NVIDIA device.

    ``get_available_providers`` lists CUDA on machines without a GPU, so that alone is no answer.
    """
    if wanted != "auto":
        return wanted
    has_gpu = Path("/dev/nvidiactl").exists()
    return "cuda" if has_gpu and "CUDAExecutionProvider" in ort.get_available_providers() else "cpu"


class Engine(Protocol):
    """A network of a bundle, ready to run.

    Attributes
    ----------
    network : its part of the manifest
    device : ``cpu``, ``cuda``, or the server that runs it
    """

    network: Network

    @property
    def device(self) -> str:
        """Where it runs."""

    def run(
        self, squares: NDArray[np.float32], wanted: NDArray[np.integer] | None = None
    ) -> NDArray[np.float32]:
        """Run slices of a volume, see `OnnxNetwork.run`."""


class OnnxNetwork:
    """A network of a bundle, ready to run.

    Parameters
    ----------
    path : the ONNX file, whose digest the caller has checked
    network : its part of the manifest
    device : ``auto`` falls back to the CPU, ``cuda`` does not
    threads : of the CPU, 0 for all cores

    Raises
    ------
    BundleError
        When ONNX Runtime cannot load the file, or its input or output is not what the manifest says.
    ConfigurationError
        When CUDA was demanded and cannot be had.
    """

    def __init__(self, path: Path, network: Network, device: Device = "auto", threads: int = 0) -> None:
        self.network = network
        chosen = choose_device(device)
        options = ort.SessionOptions()
        options.log_severity_level = 4 if device == "auto" else 3
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        if chosen == "cuda":
            ort.preload_dlls()
        providers = ["CUDAExecutionProvider"] if chosen == "cuda" else []
        providers.append("CPUExecutionProvider")
        try:
            self._session = ort.InferenceSession(path, options, providers=providers)
        except Exception as error:  # onnxruntime's own classes share no nearer base
            raise BundleError(f"{path}: ONNX Runtime cannot load it: {error}") from error
        got_cuda = "CUDAExecutionProvider" in self._session.get_providers()
        if device == "cuda" and not got_cuda:
            raise ConfigurationError(
                "analysis.device is 'cuda' but CUDA cannot be loaded; "
                "install the extra 'cuda' and a driver, or set 'auto'"
            )
        self.device: Literal["cpu", "cuda"] = "cuda" if got_cuda else "cpu"
        self._check_names(path)

    def _check_names(self, path: Path) -> None:
        inputs = [i.name for i in self._session.get_inputs()]
        outputs = [o.name for o in self._session.get_outputs()]
        if inputs != [self.network.input_name] or self.network.output_name not in outputs:
            raise BundleError(
                f"{path}: the graph has inputs {inputs} and outputs {outputs}; "
                f"the manifest says {self.network.input_name!r} and {self.network.output_name!r}"
            )

    def run(
        self, squares: NDArray[np.float32], wanted: NDArray[np.integer] | None = None
    ) -> NDArray[np.float32]:
        """Run slices of a volume through the network.

        Parameters
        ----------
        squares : float32, (n, size, size), in [0, 1], all slices in order
        wanted : indices of the slices to run, (m,), at least one; None runs all

        Returns
        -------
        float32, (m, ...), the channel axis removed.
        """
        layout, channels = self.network.layout, self.network.channels
        axis = 3 if layout == "NHWC" else 1
        batch = BATCH[self.device]
        indices = np.arange(len(squares)) if wanted is None else wanted
        answers = []
        for start in range(0, len(indices), batch):
            part = indices[start : start + batch]
            feed = {self.network.input_name: in_channels(squares, channels, layout, part)}
            with _one_at_a_time:
                (answer,) = self._session.run([self.network.output_name], feed)
            answers.append(np.squeeze(answer, axis if answer.ndim == 4 else 1))
            progress.tell(min(start + batch, len(indices)), len(indices))
        return np.concatenate(answers).astype(np.float32, copy=False)
