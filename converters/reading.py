"""Which reader for which file: Keras 3 first, tf-keras for what tf.keras 2 wrote and Keras 3 cannot load."""

from __future__ import annotations

from converters.errors import ConversionError
from converters.file_kind import Kind, keras_facts, kind_of
from converters.legacy import read_legacy
from converters.network import Original, Request, wanted_opset
from converters.onnx_file import read_onnx

PACKAGES = ("tensorflow", "tf2onnx", "onnx")


def read_original(request: Request) -> Original:
    """Read a network of any kind.

    Raises
    ------
    ConversionError
        Says what is wrong with the file, and what would help.
    """
    kind = kind_of(request.source)
    if kind is Kind.ONNX:
        return read_onnx(request)
    wanted_opset(request)  # refused before TensorFlow takes its seconds to import
    if kind is Kind.SAVED_MODEL:
        return _read_saved_model(request)
    facts = keras_facts(request.source, kind)
    if facts.has_lambda and not request.trust_code:
        raise ConversionError(
            f"{request.source} has a Lambda layer, which is Python code that loading would run; "
            "if you made the file yourself, say so with --trust-code"
        )
    return _read_keras(request, legacy=facts.legacy)


def _read_saved_model(request: Request) -> Original:
    # TensorFlow takes seconds to import; an ONNX file does not need it
    import tensorflow as tf

    from converters.saved_model import load_saved_model
    from converters.traced import original_of

    return original_of(load_saved_model(request), request, f"TensorFlow {tf.__version__}", PACKAGES)


def _read_keras(request: Request, *, legacy: bool) -> Original:
    import keras

    from converters.keras_file import load_network
    from converters.traced import original_of

    if keras.backend.backend() != "tensorflow":
        raise ConversionError("the conversion traces TensorFlow: set KERAS_BACKEND=tensorflow")
    reader = f"Keras {keras.__version__}"
    try:
        network = load_network(keras, reader, request)
    except ConversionError:
        if not legacy:
            raise
        return read_legacy(request)
    return original_of(network, request, reader, ("keras", *PACKAGES))
