"""Convert Keras networks to ONNX and put them into bundles that dicom-node loads."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.errors import NodeError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@contextmanager
def _told() -> Iterator[None]:
    """Turn an error on purpose into one sentence and exit status 1."""
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


@app.command()
def network(
    source: Annotated[Path, typer.Argument(help="A .keras or .h5 file of Keras 3.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    tolerance: Annotated[float, typer.Option(help="Largest permitted difference of an answer.")] = 1e-5,
) -> None:
    """Convert one network, and refuse it if its answers differ."""
    with _told():
        from converters.keras_file import load_network
        from converters.onnx_export import export

        difference = export(load_network(source), out, tolerance)
    typer.echo(f"{out}: written; largest difference to Keras {difference:.2g}")


@app.command()
def bundle(
    folder: Annotated[Path, typer.Argument(help="The bundle's folder, with its description.toml.")],
    detector: Annotated[Path, typer.Option(help="Keras file; its threshold.json lies beside it.")],
    segmenter: Annotated[Path, typer.Option(help="Keras file; its threshold.json lies beside it.")],
    commit: Annotated[str, typer.Option(help="Of the training code; by default what is checked out.")] = "",
) -> None:
    """Make a bundle: ONNX files, stored reference and manifest, read back and proven as the node does."""
    with _told():
        from converters.bundle import make_bundle
        from dicom_node.analysis.bundle import load_bundle

        make_bundle(folder, detector, segmenter, commit or _head())
        load_bundle(folder, "cpu")
    typer.echo(f"{folder}: written and proven")
