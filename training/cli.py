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
Bundle = Annotated[Path, typer.Option(help="Such as models/flair-glioma.")]
Data = Annotated[
    list[Path] | None,
    typer.Option(help="Folder with an index.csv, may be repeated; by default lgg_flair in DICOM_NODE_DATA."),
]
Every = Annotated[int, typer.Option(min=1, help="Take only every n-th patient.")]
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
    recipe: Annotated[Path, typer.Argument(help="Such as training/recipes/flair-segmenter.toml.")],
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
def average(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, each went on from the one before.")],
    run: Annotated[Path, typer.Option(help="Folder for the average.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with an index.csv; by default the last run's, in DICOM_NODE_DATA."),
    ] = None,
) -> None:
    """Average the best networks of runs, weight by weight, and choose the threshold for that."""
    with _told():
        from training.run import run_average

        run_average(runs, run, data)


@app.command()
def evaluate(
    bundle: Bundle,
    out: Out,
    data: Data = None,
    split: Split = "test",
    every: Every = 1,
    baselines: Annotated[
        Path | None, typer.Option(help="A baselines.json of the same data, to stand beside the bundle.")
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="A metrics.json of another bundle on the same data; repeatable.")
    ] = None,
    record: Annotated[bool, typer.Option(help="Put the figures into manifest and card.")] = False,
) -> None:
    """Measure a bundle, run as the node runs it: metrics.json, report.md and pictures."""
    with _told():
        from training.evaluation import run_evaluation

        run_evaluation(
            bundle, data, split, out, record=record, every=every, baselines=baselines, beside=beside or ()
        )
    typer.echo((out / "report.md").read_text(encoding="utf-8"))


@app.command()
def robustness(
    bundle: Bundle,
    out: Out,
    data: Data = None,
    split: Split = "test",
    every: Every = 1,
    record: Annotated[bool, typer.Option(help="Put the table into the bundle's card.")] = False,
) -> None:
    """Measure a bundle on perturbed volumes: robustness.json, robustness.md and a picture."""
    with _told():
        from training.robustness import run_robustness

        run_robustness(bundle, data, split, out, every, record=record)
    typer.echo((out / "robustness.md").read_text(encoding="utf-8"))


@app.command()
def baselines(out: Out, data: Data = None, split: Split = "test") -> None:
    """Fit five classical classifiers of slices and measure them: baselines.json, baselines.md."""
    with _told():
        from training.baselines import run_baselines

        run_baselines(data, split, out)
    typer.echo((out / "baselines.md").read_text(encoding="utf-8"))
