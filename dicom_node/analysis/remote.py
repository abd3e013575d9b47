"""A network of a bundle on an inference server (Open Inference Protocol, such as NVIDIA Triton).

Only the network runs there. Preparation, calibration, thresholds and all that follows stay here, and so
does the proof: the server may be given another model at any time without our knowing, so each series
begins with the bundle's reference, and one that gets answers of two versions is begun anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis.channels import OFFSETS, in_channels
from dicom_node.analysis.manifest import Network
from dicom_node.analysis.open_inference import (
    FP32,
    Inference,
    Tensor,
    described,
    inference_of,
    request_of,
)
from dicom_node.analysis.reference import Reference
from dicom_node.errors import InferenceInvalid, InferenceUnavailable
from dicom_node.http_client import Connection, Reply
from dicom_node.settings import Remote

# What says nothing of the request: credentials, no such model now, too slow, too many requests
_COME_AGAIN = {401, 403, 404, 408, 429}
_LONGEST_DESCRIPTION_BYTES = 1 << 20
_BYTES_PER_VALUE = 32  # of an answer in JSON; in bytes it is 4
_LONGEST_WORDS = 200
_MANY = 8


class RemoteNetwork:
    """A network of a bundle, proven to be what the server runs under its name.

    Parameters
    ----------
    remote : the server
    model : how it calls the network
    network : its part of the manifest
    reference : what it must answer

    Raises
    ------
    InferenceUnavailable
        The server does not answer, or server or model are not ready.
    InferenceInvalid
        The model takes or gives other tensors than the bundle's network.
    """

    def __init__(self, remote: Remote, model: str, network: Network, reference: Reference) -> None:
        self.network = network
        self._remote, self._model, self._reference = remote, model, reference
        with self._connection() as connection:
            self._need_ready(connection, "/v2/health")
            self._need_ready(connection, self._path)
            self._need_tensors(connection)
            self._server = self._name_of_server(connection)

    @property
    def device(self) -> str:
        """Name of the server and where it is."""
        return f"{self._server} at {self._remote.url}" if self._server else self._remote.url

    def run(
        self, squares: NDArray[np.float32], wanted: NDArray[np.integer] | None = None
    ) -> NDArray[np.float32]:
        """Run slices of a volume through the network, as `OnnxNetwork.run`; before them, the reference.

        Raises
        ------
        InferenceUnavailable
            The server does not answer now, fails, or has just been given another version of the model.
        InferenceInvalid
            It answers otherwise than the bundle's network.
        """
        with self._connection() as connection:
            self._need_ready(connection, self._path)
            stored = self._reference
            answer, versions = self._ask_all(connection, stored.squares, np.arange(len(stored.squares)))
            if objection := stored.objection(answer):
                raise self._invalid(objection)
            indices = np.arange(len(squares)) if wanted is None else wanted
            answer, later = self._ask_all(connection, squares, indices)
            if len(versions | later) > 1:
                raise self._unavailable(" was given another version while a series was analysed")
            return answer

    def _ask_all(
        self, connection: Connection, squares: NDArray[np.float32], indices: NDArray[np.integer]
    ) -> tuple[NDArray[np.float32], set[str]]:
        """Run slices in batches; their answers, without the channel axis, and the versions that gave them."""
        answers, versions = [], set()
        for start in range(0, len(indices), self._remote.batch):
            given = self._ask(connection, squares, indices[start : start + self._remote.batch])
            answers.append(given.values)
            versions.add(given.version)
        return np.concatenate(answers), versions

    def _ask(
        self, connection: Connection, squares: NDArray[np.float32], indices: NDArray[np.integer]
    ) -> Inference:
        network = self.network
        feed = in_channels(squares, network.channels, network.layout, indices)
        headers, body = request_of(network.input_name, feed, network.output_name)
        shape = (len(indices), *self._reference.answer.shape[1:])
        reply = connection.request(
            "POST",
            f"{self._path}/infer",
            limit_s=self._remote.timeout_s,
            longest_bytes=_LONGEST_DESCRIPTION_BYTES + _BYTES_PER_VALUE * int(np.prod(shape)),
            headers=headers,
            body=body,
        )
        if reply.status != 200:
            raise self._refusal(reply)
        try:
            given = inference_of(reply, network.output_name)
            channel = (3 if network.layout == "NHWC" else 1) if given.values.ndim == 4 else 1
            values = np.squeeze(given.values, channel)
        except ValueError as error:
            raise self._invalid(str(error)) from None
        if values.shape != shape or not np.isfinite(values).all():
            raise self._invalid(f"answers {given.values.shape} for {len(indices)} slices, or no numbers")
        return Inference(values, given.version)

    def _need_ready(self, connection: Connection, path: str) -> None:
        reply = self._get(connection, f"{path}/ready")
        if reply.status != 200:
            whose = "'s server" if path == "/v2/health" else ""
            raise self._unavailable(f"{whose} is not ready or not there (answers {reply.status})")

    def _need_tensors(self, connection: Connection) -> None:
        reply = self._get(connection, self._path)
        if reply.status != 200:
            raise self._refusal(reply)
        try:
            inputs, outputs = described(reply)
        except ValueError as error:
            raise self._invalid(str(error)) from None
        network = self.network
        square, channels = (network.size, network.size), len(OFFSETS[network.channels])
        shape = (-1, *square, channels) if network.layout == "NHWC" else (-1, channels, *square)
        takes = Tensor(network.input_name, FP32, shape)
        if len(inputs) != 1 or not inputs[0].fits(takes):
            raise self._invalid(f"takes {_listed(inputs)}; the bundle's takes {takes}")
        if not any((o.name, o.datatype) == (network.output_name, FP32) for o in outputs):
            raise self._invalid(f"gives {_listed(outputs)}; the bundle's gives {network.output_name} {FP32}")

    def _name_of_server(self, connection: Connection) -> str:
        reply = self._get(connection, "/v2")
        try:
            said = json.loads(reply.content or b"")
            name = f"{said['name']} {said['version']}"
        except (ValueError, TypeError, KeyError, RecursionError):
            return ""
        return name if name.isprintable() and len(name) < 60 else ""

    def _get(self, connection: Connection, path: str) -> Reply:
        limit_s = self._remote.timeout_s
        return connection.request("GET", path, limit_s=limit_s, longest_bytes=_LONGEST_DESCRIPTION_BYTES)

    @property
    def _path(self) -> str:
        return f"/v2/models/{quote(self._model)}"

    def _connection(self) -> Connection:
        return Connection(self._remote, self._unreached)

    def _unreached(self, reason: str) -> InferenceUnavailable:
        return InferenceUnavailable(f"model {self._model}: {reason}; see that it runs and how it is reached")

    def _unavailable(self, what: str) -> InferenceUnavailable:
        return InferenceUnavailable(f"model {self._model}{what}, on {self._remote.url}; look at its log")

    def _invalid(self, what: str) -> InferenceInvalid:
        file = f"the bundle's {self.network.file}, in float32"
        return InferenceInvalid(f"model {self._model} on {self._remote.url} {what}; it must run {file}")

    def _refusal(self, reply: Reply) -> InferenceUnavailable | InferenceInvalid:
        said = f"answers {reply.status}{_words(reply)}"
        if reply.status >= 500 or reply.status < 400 or reply.status in _COME_AGAIN:
            return self._unavailable(f" {said}")
        return InferenceInvalid(f"model {self._model} on {self._remote.url} {said}; look at its log")


def _words(reply: Reply) -> str:
    """What a server says of an error; nothing that we sent names a patient."""
    try:
        words = str(json.loads(reply.content or b"")["error"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return f": {words[:_LONGEST_WORDS]}" if words.isprintable() else ""


def _listed(tensors: Sequence[Tensor]) -> str:
    return ", ".join(map(str, tensors[:_MANY])) or "nothing that it describes"
