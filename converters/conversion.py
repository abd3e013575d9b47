"""Convert one network and prove that what is written still says the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.network import Input, Original, Precision, Request, Role
from converters.onnx_file import inputs_of, opset_of
from converters.precision import TOLERANCE, in_precision
from converters.reading import read_original

BATCH = 8  # images


@dataclass(frozen=True)
class Converted:
    """A network that was written.

    Attributes
    ----------
    input_name, output_name : tensors of the graph
    input : what it is fed
    opset : ONNX operator set
    role : detector or segmenter
    reader : what read the original
    packages : the distributions that took part
    largest, mean : difference of a probability to the original
    images : how many images were compared
    """

    input_name: str
    output_name: str
    input: Input
    opset: int
    role: Role
    reader: str
    packages: tuple[str, ...]
    largest: float
    mean: float
    images: int


def convert(
    request: Request, out: Path, precision: Precision = "float32", tolerance: float | None = None
) -> Converted:
    """Convert a network and write it, unless its answers differ.

    Parameters
    ----------
    request : the file, and what it does not say of itself
    out : the ``.onnx`` to write
    precision : of weights and arithmetic; input and output are float32
    tolerance : largest permitted difference of any probability; None takes that of the precision

    Raises
    ------
    ConversionError
        When the file cannot be converted, or an answer differs by more than the tolerance;
        nothing is written then.
    """
    if out.suffix != ".onnx":
        raise ConversionError(f"{out}: the name of what is written must end in .onnx")
    if precision == "int8" and request.images is None:
        raise ConversionError("int8 is calibrated on real images: give a folder or an .npy with --images")
    original = read_original(request)
    graph = in_precision(original.graph, precision, original.images)
    try:
        onnx.checker.check_model(graph, full_check=True)
    except Exception as error:  # the checker and shape inference share no base
        raise ConversionError(f"{request.source} became no valid ONNX: {error}") from error
    difference = np.abs(_answers(graph, original, request.source) - original.answers)
    permitted = TOLERANCE[precision] if tolerance is None else tolerance
    if not difference.max() <= permitted:
        raise ConversionError(
            f"in {precision} the network of {request.source} differs from {original.reader} by up to "
            f"{difference.max():.2g} (mean {difference.mean():.2g}), more than {permitted:.2g}: {out} was "
            f"not written; --{request.role + '-' if request.role else ''}tolerance permits more, "
            "another precision may need less"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(graph, str(out))
    return Converted(
        input_name=inputs_of(graph)[0].name,
        output_name=graph.graph.output[0].name,
        input=original.input,
        opset=opset_of(graph),
        role=original.role,
        reader=original.reader,
        packages=original.packages,
        largest=float(difference.max()),
        mean=float(difference.mean()),
        images=len(original.images),
    )


def _answers(graph: onnx.ModelProto, original: Original, source: Path) -> NDArray[np.float32]:
    """Let ONNX Runtime answer the original's images in batches, on a CPU; shaped like its answers."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, and told once
    answers = []
    try:
        session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for start in range(0, len(original.images), BATCH):
            batch = original.images[start : start + BATCH]
            (answer,) = session.run(None, {inputs_of(graph)[0].name: batch})
            answers.append(answer)
        joined = np.concatenate(answers)
        return joined.reshape(original.answers.shape)
    except Exception as error:  # onnxruntime's own classes share no nearer base
        raise ConversionError(
            f"ONNX Runtime {ort.__version__} cannot run {source} as it was converted, in batches "
            f"of {BATCH}: {error}"
        ) from error
