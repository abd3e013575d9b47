"""Make a data set of labelled images: a folder with an index.csv, split by patient."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.errors import NodeError
from dicom_node.series.volume import Contrast
from training.prepare.report import Prepared
from training.prepare.vertices import Vertices

app = typer.Typer(no_args_is_help=True, help=__doc__)

Out = Annotated[Path, typer.Option(help="Folder for images, masks and index.csv, if it has none yet.")]
Shares = Annotated[
    tuple[float, float, float],
    typer.Option("--split", help="Shares of the patients for train, val and test.", metavar="TRAIN VAL TEST"),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the split.")]


@app.command()
def coco(
    annotations: Annotated[Path, typer.Argument(help="COCO JSON with polygons or run lengths.")],
    images: Annotated[Path, typer.Option(help="Folder to which its file names are relative.")],
    out: Out,
    category: Annotated[
        list[str] | None, typer.Option(help="That is tumour; may be repeated; by default all.")
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(
            help="Regular expression found in each file name, with a group (?P<patient>...), and "
            "(?P<slice>[0-9]+) and (?P<exam>...) where a patient has several. By default every image is a "
            "patient of its own.",
        ),
    ] = None,
    vertices: Annotated[
        Vertices,
        typer.Option(
            help="Of polygons: edges, where the first pixel reaches from 0 to 1 (COCO), or centres, where "
            "its centre is 0 (cv2.findContours)."
        ),
    ] = Vertices.EDGES,
    split: Shares = (0.7, 0.15, 0.15),
    seed: Seed = 0,
) -> None:
    """From PNG, JPEG or WebP with COCO annotations; an image without annotation shows no tumour."""
    from training.prepare.coco import prepare_coco

    _tell(
        lambda: prepare_coco(
            annotations,
            images,
            out,
            fractions=split,
            seed=seed,
            categories=category or (),
            pattern=patient,
            vertices=vertices,
        )
    )


@app.command()
def dicom(
    folder: Annotated[Path, typer.Argument(help="With MR series and SEG objects anywhere below it.")],
    out: Out,
    segment: Annotated[
        list[str] | None,
        typer.Option(help="Number or label ('Tumour*') that is tumour; may be repeated; by default all."),
    ] = None,
    contrast: Annotated[
        list[Contrast] | None, typer.Option(help="That is wanted; may be repeated; by default all.")
    ] = None,
    empty: Annotated[
        bool,
        typer.Option(help="A series without SEG, in a study without SEG, shows no tumour."),
    ] = False,
    join: Annotated[bool, typer.Option(help="Unite several SEG objects of a series.")] = False,
    salt: Annotated[
        str | None,
        typer.Option(help="The same salt numbers the same patients alike; by default a new one is drawn."),
    ] = None,
    split: Shares = (0.7, 0.15, 0.15),
    seed: Seed = 0,
) -> None:
    """From MR series with DICOM SEG; patients get numbers, and no name or id goes into the folder."""
    from training.prepare.dicom import prepare_dicom

    _tell(
        lambda: prepare_dicom(
            folder,
            out,
            fractions=split,
            seed=seed,
            segments=segment or (),
            contrasts=contrast or (),
            empty=empty,
            join=join,
            salt=salt,
        )
    )


def _tell(prepare: Callable[[], Prepared]) -> None:
    os.umask(0o077)  # images are patient data
    try:
        prepared = prepare()
    except NodeError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    for line in prepared.lines():
        typer.echo(line)
