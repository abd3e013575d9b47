"""KServe's own model server over the networks of bundles, in an environment of its own (inference_server.py).

``python kserve_server.py PORT FOLDER...`` serves each ``FOLDER/NETWORK.onnx`` as the model
``FOLDER-NETWORK``, as the node asks for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

FP32 = "FP32"


class Network(Model):
    """One ONNX file."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path.parent.name}-{path.stem}")
        self._session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.ready = True

    def get_input_types(self) -> list[dict[str, object]]:
        return [_described(tensor) for tensor in self._session.get_inputs()]

    def get_output_types(self) -> list[dict[str, object]]:
        return [_described(tensor) for tensor in self._session.get_outputs()]

    def predict(
        self, payload: InferRequest, headers: object = None, response_headers: object = None
    ) -> InferResponse:
        feed = {tensor.name: tensor.as_numpy() for tensor in payload.inputs}
        names = [output.name for output in payload.request_outputs or self._session.get_outputs()]
        outputs = []
        for name, answer in zip(names, self._session.run(names, feed), strict=True):
            output = InferOutput(name, list(answer.shape), FP32)
            output.set_data_from_numpy(answer)
            outputs.append(output)
        return InferResponse(payload.id, self.name, outputs, use_binary_outputs=True)


def _described(tensor: ort.NodeArg) -> dict[str, object]:
    shape = [size if isinstance(size, int) else -1 for size in tensor.shape]
    return {"name": tensor.name, "datatype": FP32, "shape": shape}


if __name__ == "__main__":
    port, folders = int(sys.argv[1]), map(Path, sys.argv[2:])
    networks = [Network(path) for folder in folders for path in sorted(folder.glob("*.onnx"))]
    ModelServer(http_port=port, enable_grpc=False, workers=1).start(networks)
