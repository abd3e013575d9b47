"""Read a network from a SavedModel folder, of whichever Keras or TensorFlow 2.

Its serving signature is plain TensorFlow, traced in inference mode: no layer and no custom
object has to be known, and tf.keras 2 and Keras 3 need no telling apart.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from converters.errors import ConversionError
from converters.network import Request
from converters.traced import TracedNetwork

SIGNATURE = "serving_default"


def load_saved_model(request: Request) -> TracedNetwork:
    """Load the serving signature.

    Raises
    ------
    ConversionError
        When the folder cannot be loaded, or has no such signature with one input.
    """
    path = request.source
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # TensorFlow raises whatever its parsers do
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConversionError(f"TensorFlow {tf.__version__} cannot load {path}: {first}") from error
    if SIGNATURE not in loaded.signatures:
        raise ConversionError(
            f"{path} has no signature {SIGNATURE!r}: save the model after it was called once, "
            "or in Keras 3 with model.export(...)"
        )
    function = loaded.signatures[SIGNATURE]
    inputs = function.structured_input_signature[1]
    if len(inputs) != 1:
        raise ConversionError(f"{path} has {len(inputs)} inputs; the node feeds one")
    ((name, spec),) = inputs.items()
    shape = tuple(spec.shape) if spec.shape.rank is not None else (None, None, None, 1)

    def call(image: Any, kept: Any = loaded) -> Any:  # noqa: ANN401 - tensors of TensorFlow
        # ``kept`` holds the variables, which a signature alone lets go
        return kept.signatures[SIGNATURE](**{name: image})

    return TracedNetwork(shape, call)
