"""Train networks on labelled slices, and measure bundles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.errors import NodeError
from training.prepare.cli import app as prepare

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.add_typer(prepare, name="prepare")

Split = Annotated[str, typer.Option(help="Of the index.")]
Out = Annotated[Path, typer.Option(help="Folder for the tables and plots.")]


@contextmanager
def _told() -> Iterator[None]:
    """Turn an error on purpose into one sentence and exit status 1."""
    try:
        yield
    except NodeError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Such as training/recipes/flair-unet.toml.")],
    run: Annotated[Path, typer.Option(help="Run folder; an unfinished run in it goes on.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with an index.csv; by default the recipe's, in DICOM_NODE_DATA."),
    ] = None,
    until: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many epochs in all; a later call goes on.")
    ] = None,
) -> None:
    """Train the network of a recipe and choose its threshold on the validation patients."""
    with _told():
        from training.run import run_training

        run_training(recipe, run, data, until)


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Option(help="Such as models/flair-glioma.")],
    out: Out,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with an index.csv; by default lgg_flair in DICOM_NODE_DATA."),
    ] = None,
    split: Split = "test",
    record: Annotated[bool, typer.Option(help="Put the headline figures into the manifest.")] = False,
) -> None:
    """Measure a bundle, run as the node runs it: metrics.json, report.md, detector.png."""
    with _told():
        from training.evaluation import run_evaluation

        run_evaluation(bundle, data, split, out, record=record)
    typer.echo((out / "report.md").read_text(encoding="utf-8"))


@app.command()
def baselines(
    out: Out,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with an index.csv; by default lgg_flair in DICOM_NODE_DATA."),
    ] = None,
    split: Split = "test",
) -> None:
    """Fit five classical classifiers of slices and measure them: baselines.json, baselines.md."""
    with _told():
        from training.baselines import run_baselines

        run_baselines(data, split, out)
    typer.echo((out / "baselines.md").read_text(encoding="utf-8"))
