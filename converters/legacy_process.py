"""The process that reads one file of tf.keras 2; started by :mod:`converters.legacy`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import tf_keras

from converters.errors import ConversionError
from converters.keras_file import load_network
from converters.legacy import ARRAYS, FACTS, GRAPH, REFUSAL, REQUEST
from converters.network import Original, Request
from converters.traced import original_of

PATHS = ("source", "images", "custom_objects")


def main(folder: Path) -> int:
    """Do what the request in ``folder`` asks; leave the result or a refusal there."""
    wishes = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    wishes |= {key: Path(wishes[key]) for key in PATHS if wishes[key] is not None}
    request = Request(**wishes)
    reader = f"tf-keras {tf_keras.__version__}"
    try:
        network = load_network(tf_keras, reader, request)
        original = original_of(network, request, reader, ("tf-keras", "tensorflow", "tf2onnx", "onnx"))
    except ConversionError as error:
        (folder / REFUSAL).write_text(str(error), encoding="utf-8")
        return 1
    _write(original, folder)
    return 0


def _write(original: Original, folder: Path) -> None:
    onnx.save(original.graph, str(folder / GRAPH))
    np.savez(folder / ARRAYS, images=original.images, answers=original.answers)
    facts = {key: getattr(original, key) for key in ("role", "reader", "packages")}
    facts["input"] = asdict(original.input)
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
