"""The Open Inference Protocol over HTTP (KServe v2), as far as a network of one input needs it.

Tensors travel as bytes (the binary tensor data extension): behind the JSON, whose length is in a header.
An answer in JSON alone is read as well.
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.http_client import Reply

FP32 = "FP32"
_JSON_BYTES = "Inference-Header-Content-Length"
_FLOAT32 = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output, as a server describes it.

    Attributes
    ----------
    shape : -1 stands for any size
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {list(self.shape)}"

    def fits(self, wanted: Tensor) -> bool:
        """Whether it takes or gives what is wanted."""
        return (
            (self.name, self.datatype) == (wanted.name, wanted.datatype)
            and len(self.shape) == len(wanted.shape)
            and all(a == b or -1 in (a, b) for a, b in zip(self.shape, wanted.shape, strict=True))
        )


@dataclass(frozen=True, slots=True)
class Inference:
    """An answer.

    Attributes
    ----------
    values : float32
    version : of the model that gave it, as its server calls it; empty when it does not say
    """

    values: NDArray[np.float32]
    version: str


def described(reply: Reply) -> tuple[list[Tensor], list[Tensor]]:
    """Read the inputs and outputs of a model (the answer to GET v2/models/MODEL).

    Raises
    ------
    ValueError
        It is none.
    """
    try:
        content = json.loads(reply.content or b"")
        return [_tensor(each) for each in content["inputs"]], [_tensor(each) for each in content["outputs"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("its description cannot be read") from None


def _tensor(described: Mapping[str, Any]) -> Tensor:
    name, datatype = str(described["name"]), str(described["datatype"])
    return Tensor(name, datatype, tuple(int(size) for size in described["shape"]))


def request_of(
    input_name: str, values: NDArray[np.float32], output_name: str
) -> tuple[dict[str, str], bytes]:
    """Write a request; the headers and the body (POST v2/models/MODEL/infer)."""
    raw = values.astype(_FLOAT32, copy=False).tobytes()
    tensor = {
        "name": input_name,
        "datatype": FP32,
        "shape": list(values.shape),
        "parameters": {"binary_data_size": len(raw)},
    }
    wanted = {"name": output_name, "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    headers = {"Content-Type": "application/octet-stream", _JSON_BYTES: str(len(head))}
    return headers, head + raw


def inference_of(reply: Reply, output_name: str) -> Inference:
    """Read the answer to a request.

    Raises
    ------
    ValueError
        It is none; says what is wrong with it.
    """
    content = reply.content
    if content is None:
        raise ValueError("its answer is too long")
    try:
        json_bytes = int(reply.headers.get(_JSON_BYTES.lower(), len(content)))
        head = json.loads(content[:json_bytes])
        names = [str(output["name"]) for output in head["outputs"]]
        if output_name not in names:
            raise ValueError(f"it answers {names} and not {output_name!r}")
        raw = memoryview(content)[json_bytes:]
        for output in head["outputs"]:
            size = output.get("parameters", {}).get("binary_data_size")
            if output["name"] == output_name:
                values = _values(output, None if size is None else raw[: int(size)])
                return Inference(values, str(head.get("model_version") or ""))
            raw = raw[int(size or 0) :]
    except (TypeError, KeyError, AttributeError, RecursionError, json.JSONDecodeError, UnicodeDecodeError):
        pass
    raise ValueError("its answer cannot be read")


def _values(output: Mapping[str, Any], raw: memoryview | None) -> NDArray[np.float32]:
    if output["datatype"] != FP32:
        raise ValueError(f"it answers in {str(output['datatype'])[:20]}, not {FP32}")
    shape = [int(size) for size in output["shape"]]
    flat = np.array(output["data"], np.float32).ravel() if raw is None else np.frombuffer(raw, _FLOAT32)
    if min(shape, default=1) < 0 or math.prod(shape) != flat.size:
        raise ValueError(f"it answers {flat.size} values for a shape of {shape}")
    return flat.reshape(shape).astype(np.float32, copy=False)
