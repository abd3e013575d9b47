"""What is asked of a conversion, what a network takes and answers, and the refusals that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from converters.errors import ConversionError
from dicom_node.analysis.channels import OFFSETS, Channels, Layout

Role = Literal["detector", "segmenter"]
Precision = Literal["float32", "float16", "int8"]
Shape = Sequence[int | None]

INPUT_NAME, OUTPUT_NAME, BATCH_NAME = "image", "probability", "n"
OPSET = 17
OPSETS = range(13, 19)  # tf2onnx refuses 19 and later; int8 needs 13
SIZES = range(32, 1025)  # pixels, as the manifest permits


@dataclass(frozen=True)
class Request:
    """One file to convert, and what cannot be read from it.

    Attributes
    ----------
    source : a ``.keras``, ``.h5`` or ``.onnx`` file, or a SavedModel folder
    role : what the network must be; None takes either
    size : side of the square input in pixels, for a network that takes any
    opset : ONNX operator set to write; None is 17, or for an ONNX file its own
    images : a folder of images or an ``.npy`` to compare and calibrate with; None takes synthetic ones
    custom_objects : a Python file that defines layers and functions of the network
    trust_code : load Lambda layers, which hold Python code
    channels : what the channels of a network with three of them are
    """

    source: Path
    role: Role | None = None
    size: int | None = None
    opset: int | None = None
    images: Path | None = None
    custom_objects: Path | None = None
    trust_code: bool = False
    channels: Channels | None = None


@dataclass(frozen=True)
class Input:
    """What a network is fed.

    Attributes
    ----------
    size : side of the square in pixels
    layout : order of the axes
    channels : what it sees of a slice
    """

    size: int
    layout: Layout
    channels: Channels


@dataclass(frozen=True)
class Original:
    """A network in float32, and what it answered where it came from.

    Attributes
    ----------
    graph : the network as ONNX, not yet compared
    input : what the graph is fed
    role : detector or segmenter
    images : float32, in 0..1, as the graph is fed
    answers : float32, (n,) of a detector, (n, size, size) of a segmenter
    reader : what read the file and answered
    packages : the distributions that took part
    """

    graph: onnx.ModelProto
    input: Input
    role: Role
    images: NDArray[np.float32]
    answers: NDArray[np.float32]
    reader: str
    packages: tuple[str, ...]


def read_input(request: Request, shape: Shape, layout: Layout) -> Input:
    """Return what a network is fed, from its input shape and what the request adds.

    Raises
    ------
    ConversionError
        When the shape is not one square of one or three channels, or the side or what the channels
        are is unknown or contradicted.
    """
    text = _text(shape)
    if len(shape) != 4:
        raise ConversionError(
            f"{request.source} takes an input of rank {len(shape)}, {text}; the node feeds rank 4, "
            "(n, size, size, 1): batch, rows, columns, one channel"
        )
    channels, sides = (shape[3], shape[1:3]) if layout == "NHWC" else (shape[1], shape[2:4])
    seen = _seen(request, channels, text)
    known = {side for side in sides if side is not None}
    if len(known) == 2:
        raise ConversionError(
            f"{request.source} takes an input of {text}; the node feeds squares, (n, size, size, 1)"
        )
    option = f"--{request.role}-size" if request.role else "--size"
    size = known.pop() if known else request.size
    if size is None:
        raise ConversionError(
            f"{request.source} takes images of any size; say which the node shall feed with {option}"
        )
    if request.size not in (None, size):
        raise ConversionError(f"{option} is {request.size}, but {request.source} takes {text}")
    if size not in SIZES:
        raise ConversionError(
            f"{request.source}: a side of {size} pixels is not in {SIZES.start} to {SIZES.stop - 1}"
        )
    return Input(size, layout, seen)


def _seen(request: Request, count: int | None, text: str) -> Channels:
    """Return what the channels of an input are."""
    option = f"--{request.role}-channels" if request.role else "--channels"
    if count not in (1, 3):
        raise ConversionError(
            f"{request.source} takes an input of {count or 'any number of'} channels, {text}; "
            "the node feeds one channel, (n, size, size, 1), or three"
        )
    if request.channels is None:
        if count == 1:
            return "slice"
        raise ConversionError(
            f"{request.source} takes three channels, {text}; say with {option} what they are: 'repeated', "
            "three times the slice, or 'neighbours', the slice between the ones before and after it"
        )
    if len(OFFSETS[request.channels]) != count:
        raise ConversionError(
            f"{option} is {request.channels!r}, but {request.source} takes {count} channel(s), {text}"
        )
    return request.channels


def read_answers(
    request: Request, answers: NDArray[np.float32], taken: Input
) -> tuple[Role, NDArray[np.float32]]:
    """Return what the network is by what it answers, and its answers without the channel axis.

    Raises
    ------
    ConversionError
        When the shape is that of neither a detector nor a segmenter, of the other one than was
        wanted, or the values are no probabilities.
    """
    text = _text((None, *answers.shape[1:]))
    last = taken.layout == "NHWC"
    pixels = (taken.size, taken.size, 1) if last else (1, taken.size, taken.size)
    role: Role
    if answers.shape[1:] == (1,):
        role, squeezed = "detector", answers[:, 0]
    elif answers.shape[1:] == pixels:
        role, squeezed = "segmenter", np.squeeze(answers, 3 if last else 1)
    else:
        raise ConversionError(
            f"{request.source} answers {text}; a detector answers (n, 1) and "
            f"a segmenter {_text((None, *pixels))}"
        )
    if request.role not in (None, role):
        raise ConversionError(f"{request.source} answers {text}: that is a {role}, no {request.role}")
    low, high = float(answers.min()), float(answers.max())
    if not (low >= 0 and high <= 1):  # a NaN is caught too
        raise ConversionError(
            f"{request.source} answers {low:.3g} to {high:.3g}; the node needs probabilities: "
            "end the network with a sigmoid"
        )
    return role, np.ascontiguousarray(squeezed, np.float32)


def wanted_opset(request: Request) -> int:
    """Return the operator set to write.

    Raises
    ------
    ConversionError
        When tf2onnx cannot write it.
    """
    opset = OPSET if request.opset is None else request.opset
    if opset not in OPSETS:
        raise ConversionError(
            f"--opset {opset} is not supported: tf2onnx writes {OPSETS.start} to {OPSETS.stop - 1}; "
            f"{OPSET} is the default"
        )
    return opset


def _text(shape: Shape) -> str:
    """Write a shape as ``(n, 64, 64, 1)``; an unknown side is ``?``."""
    return f"({', '.join(['n', *('?' if side is None else str(side) for side in shape[1:])])})"
