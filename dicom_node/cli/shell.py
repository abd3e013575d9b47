"""What the commands share: the program itself, its two outputs, errors in a sentence, what is in the folder.

Exit status: 0 done, 1 the work failed, 2 bad usage or configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from dicom_node import __version__
from dicom_node.errors import BundleError, ConfigurationError, NodeError
from dicom_node.log import configure_logging
from dicom_node.settings import Settings, load_settings

if TYPE_CHECKING:
    from dicom_node.receive.spool import Spool
    from dicom_node.workflow.ledger import Ledger

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they can show local variables, and with them patient data
    help="A DICOM node that runs brain-tumour models on MR series. Research use only.",
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; without it, each installed bundle is a pipeline."),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"dicom-node {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the whole program."""


@contextmanager
def errors() -> Iterator[None]:
    """Say what is wrong in one sentence, not in a traceback."""
    try:
        yield
    except (ConfigurationError, BundleError) as error:
        err.print(f"dicom-node: {error}", markup=False)
        raise typer.Exit(2) from None
    except (NodeError, OSError) as error:
        err.print(f"dicom-node: {error}", markup=False)
        raise typer.Exit(1) from None


def settings_of(config: Path | None) -> Settings:
    configure_logging("console", "warning")
    if config is not None:
        return load_settings(config)
    from dicom_node.workflow.defaults import default_settings

    return default_settings()


@contextmanager
def ledger_of(settings: Settings) -> Iterator[Ledger]:
    from dicom_node.workflow.database import open_ledger
    from dicom_node.workflow.ledger import Ledger

    path = settings.folder / "ledger.sqlite"
    if settings.database.url is None and not path.exists():
        raise ConfigurationError(f"{path} is not there: no node has run with this configuration")
    ledger = Ledger(open_ledger(settings))
    try:
        yield ledger
    finally:
        ledger.close()


def spool_of(settings: Settings) -> Spool:
    from dicom_node.receive.spool import Spool

    return Spool(settings.folder / "spool", minimum_free_mb=0)


def need_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder")
