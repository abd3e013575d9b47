"""Convert trained networks to ONNX and put them into bundles that dicom-node loads.

Reads .keras and .h5 files of Keras 3 and of tf.keras 2, SavedModel folders and ONNX files. A network
takes one grey image (n, size, size, 1) in 0..1, or three: the same thrice, or with its neighbours. It
answers a probability: a detector one per image, (n, 1), a segmenter one per pixel, (n, size, size, 1).
What is written is compared with the original and refused if it differs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converters.network import Precision
from dicom_node.analysis.channels import Channels
from dicom_node.errors import NodeError

if TYPE_CHECKING:
    from converters.conversion import Converted

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", help=__doc__)

Opset = Annotated[
    int | None, typer.Option(help="ONNX operator set, 13 to 18; default 17, for an ONNX file its own.")
]
Images = Annotated[
    Path | None,
    typer.Option(
        help="Folder of grey images (8 or 16 bits) or .npy of (n, rows, columns) in 0..1, as in training: "
        "to compare with and to calibrate int8. Default: a phantom and noise."
    ),
]
CustomObjects = Annotated[
    Path | None,
    typer.Option(help="Python file that defines the network's own layers and functions; losses need none."),
]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Load Lambda layers, which run Python code out of the file.")
]
Tolerance = Annotated[
    float | None,
    typer.Option(help="Largest permitted difference of a probability; default 1e-5, float16 and int8 1e-2."),
]
Size = Annotated[
    int | None, typer.Option(help="Side of the square input in pixels, if the network takes any.")
]
ChannelsOption = Annotated[
    Channels | None,
    typer.Option(
        help="What three channels are: 'repeated', the slice thrice, or the slice and its 'neighbours'."
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(help="A probability at or above it is positive; default: threshold.json beside the file."),
]


@contextmanager
def _told() -> Iterator[None]:
    """Turn an error on purpose into one sentence and exit status 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what TensorFlow says at its start is no news
    try:
        yield
    except NodeError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def _head() -> str:
    """Return the commit that is checked out, or ``unknown`` outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    answer = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    return answer.stdout.strip() or "unknown"


def _seen(converted: Converted, precision: str) -> str:
    taken = converted.input
    return (
        f"{converted.role}: read with {converted.reader}, {taken.size} x {taken.size} pixels, "
        f"{taken.layout} ({taken.channels}), opset {converted.opset}, {precision}; largest difference to "
        f"the original {converted.largest:.2g}, mean {converted.mean:.2g}, on {converted.images} images"
    )


@app.command()
def network(
    source: Annotated[Path, typer.Argument(help="A .keras, .h5 or .onnx file, or a SavedModel folder.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    precision: Annotated[Precision, typer.Option(help="Of the weights.")] = "float32",
    size: Size = None,
    channels: ChannelsOption = None,
    opset: Opset = None,
    images: Images = None,
    tolerance: Tolerance = None,
    custom_objects: CustomObjects = None,
    trust_code: TrustCode = False,
) -> None:
    """Convert one network, and refuse it if its answers differ."""
    with _told():
        from converters.conversion import convert
        from converters.network import Request

        request = Request(source, None, size, opset, images, custom_objects, trust_code, channels)
        converted = convert(request, out, precision, tolerance)
    typer.echo(_seen(converted, precision))
    typer.echo(f"{out}: written")


@app.command()
def bundle(
    folder: Annotated[
        Path,
        typer.Argument(help="The bundle's folder; its name is the bundle's. A description.toml is optional."),
    ],
    detector: Annotated[Path, typer.Option(help="A .keras, .h5 or .onnx file, or a SavedModel folder.")],
    segmenter: Annotated[Path, typer.Option(help="The same; the two may be of different kinds.")],
    release: Annotated[str | None, typer.Option(help="Version of the bundle, like 1.0.0.")] = None,
    contrast: Annotated[
        list[str] | None, typer.Option(help="MR contrast of the training, like FLAIR; may be repeated.")
    ] = None,
    plane: Annotated[
        list[str] | None, typer.Option(help="Plane of the training, like AXIAL; may be repeated.")
    ] = None,
    percentiles: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Percentiles of a volume's foreground that the training scaled to 0 and 1."),
    ] = None,
    training_data: Annotated[str | None, typer.Option(help="In words, what it was trained on.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights.")] = None,
    limitations: Annotated[str | None, typer.Option(help="Sentences for readers of a report.")] = None,
    detector_threshold: ThresholdOption = None,
    segmenter_threshold: ThresholdOption = None,
    detector_size: Size = None,
    segmenter_size: Size = None,
    detector_channels: ChannelsOption = None,
    segmenter_channels: ChannelsOption = None,
    detector_precision: Annotated[Precision, typer.Option(help="Of the weights.")] = "float32",
    segmenter_precision: Annotated[Precision, typer.Option(help="Of the weights.")] = "float32",
    detector_tolerance: Tolerance = None,
    segmenter_tolerance: Tolerance = None,
    opset: Opset = None,
    images: Images = None,
    custom_objects: CustomObjects = None,
    trust_code: TrustCode = False,
    commit: Annotated[str, typer.Option(help="Of the training code; by default what is checked out.")] = "",
) -> None:
    """Make a bundle: ONNX files, stored reference and manifest, read back and proven as the node does.

    What neither the files nor description.toml in the folder say must be given as an option.
    """
    with _told():
        from converters.bundle import BundleWishes, Wishes, make_bundle

        percentile_rule = (
            None if percentiles is None else dict(zip(("lower", "upper"), percentiles, strict=True))
        )
        wishes = BundleWishes(
            detector=Wishes(
                detector_size, detector_threshold, detector_precision, detector_tolerance, detector_channels
            ),
            segmenter=Wishes(
                segmenter_size,
                segmenter_threshold,
                segmenter_precision,
                segmenter_tolerance,
                segmenter_channels,
            ),
            description={
                "version": release,
                "contrasts": contrast or None,
                "planes": plane or None,
                "input": percentile_rule,
                "training_data": training_data,
                "licence": licence,
                "limitations": limitations,
            },
            opset=opset,
            images=images,
            custom_objects=custom_objects,
            trust_code=trust_code,
        )
        made = make_bundle(folder, detector, segmenter, commit or _head(), wishes)
    typer.echo(_seen(made.detector, detector_precision))
    typer.echo(_seen(made.segmenter, segmenter_precision))
    typer.echo(f"{folder}: written and proven")
