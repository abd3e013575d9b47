"""Files of tf.keras 2, read by the package ``tf-keras`` in a process of its own.

Keras 3 and tf-keras cannot be TensorFlow's Keras in one process, hence the other one. It gets
the request as JSON and leaves the graph, the images and the answers in a folder.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx

from converters.errors import ConversionError
from converters.network import Input, Original, Request

REQUEST, GRAPH, ARRAYS, FACTS, REFUSAL = (
    "request.json",
    "graph.onnx",
    "arrays.npz",
    "facts.json",
    "refusal.txt",
)


def read_legacy(request: Request) -> Original:
    """Read a file with tf-keras.

    Raises
    ------
    ConversionError
        When tf-keras is not installed, or what it says of the file.
    """
    try:
        importlib.metadata.version("tf-keras")
    except importlib.metadata.PackageNotFoundError:
        raise ConversionError(
            f"{request.source} was written by tf.keras 2 and Keras 3 cannot load it: install tf-keras"
        ) from None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / REQUEST).write_text(json.dumps(asdict(request), default=lambda path: str(path.absolute())))
        ended = subprocess.run(  # noqa: S603 - this interpreter, a module of this package
            [sys.executable, "-m", "converters.legacy_process", name],
            env=os.environ | {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        if (folder / REFUSAL).exists():
            raise ConversionError((folder / REFUSAL).read_text(encoding="utf-8"))
        if ended.returncode:
            last = (ended.stderr.strip() or "it said nothing").splitlines()[-1]
            raise ConversionError(f"the process that reads {request.source} with tf-keras died: {last}")
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        with np.load(folder / ARRAYS) as arrays:
            return Original(
                graph=onnx.load(str(folder / GRAPH)),
                images=arrays["images"],
                answers=arrays["answers"],
                packages=tuple(facts.pop("packages")),
                input=Input(**facts.pop("input")),
                **facts,
            )
