"""Read a network from a ``.keras`` or ``.h5`` file of Keras 3."""

from __future__ import annotations

from pathlib import Path

import keras

from converters.errors import ConversionError

SUFFIXES = (".keras", ".h5")


def load_network(path: Path) -> keras.Model:
    """Load a network for inference.

    Losses and optimiser are left out (``compile=False``), so a custom loss needs no code here.

    Raises
    ------
    ConversionError
        When the file is missing, is no Keras file, or does not fit the node: one input of
        (n, size, size, 1) and one output.
    """
    if not path.is_file():
        raise ConversionError(f"there is no file {path}")
    if path.suffix not in SUFFIXES:
        raise ConversionError(f"{path}: the name must end in {' or '.join(SUFFIXES)}")
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever its parsers and layers do
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConversionError(f"Keras {keras.__version__} cannot load {path}: {first}") from error
    _check_shapes(path, model)
    return model


def _check_shapes(path: Path, model: keras.Model) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ConversionError(
            f"{path} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
            "the node needs one of each"
        )
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or shape[3] != 1 or shape[1] != shape[2] or shape[1] is None:
        raise ConversionError(
            f"{path} takes an input of shape {shape}; the node feeds (n, size, size, 1): "
            "batch, rows, columns, one channel, with a fixed size"
        )
    answer = tuple(model.outputs[0].shape)
    if answer[1:] not in ((1,), (*shape[1:3], 1)):
        raise ConversionError(
            f"{path} answers with shape {answer}; a detector answers (n, 1) and "
            f"a segmenter (n, {shape[1]}, {shape[2]}, 1)"
        )


def side(model: keras.Model) -> int:
    """Return the side of the network's square input in pixels."""
    return int(model.inputs[0].shape[1])


def is_segmenter(model: keras.Model) -> bool:
    """Whether it answers per pixel."""
    return len(model.outputs[0].shape) == 4
