"""Read a network from a ``.keras`` or ``.h5`` file, with the Keras that the caller brings."""

from __future__ import annotations

from typing import Any

from converters.custom_objects import missing_object, read_custom_objects
from converters.errors import ConversionError
from converters.network import Request
from converters.traced import TracedNetwork


def load_network(keras: Any, reader: str, request: Request) -> TracedNetwork:  # noqa: ANN401 - a module
    """Load a network for inference.

    Losses, metrics and optimiser are left out (``compile=False``), so that a custom loss needs no code.

    Parameters
    ----------
    keras : the package ``keras`` or ``tf_keras``
    reader : its name and version, for messages
    request : the file and what belongs to it

    Raises
    ------
    ConversionError
        When that Keras cannot load the file, or it has more than one input.
    """
    path = request.source
    objects = read_custom_objects(request.custom_objects)
    try:
        model = keras.models.load_model(
            path, custom_objects=objects, compile=False, safe_mode=not request.trust_code
        )
    except Exception as error:  # Keras raises whatever its parsers and layers do
        name = missing_object(str(error))
        if name is not None:
            raise ConversionError(
                f"{path} uses {name!r}, which {reader} does not know: write its definition into a "
                "Python file and give that with --custom-objects FILE.py"
            ) from error
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConversionError(f"{reader} cannot load {path}: {first}") from error
    # a subclassed model may not know its inputs; then it must be told the size
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) > 1:
        raise ConversionError(f"{path} has {len(inputs)} inputs; the node feeds one")
    shape = tuple(inputs[0].shape) if inputs else (None, None, None, 1)
    return TracedNetwork(shape, lambda image: model(image, training=False))
