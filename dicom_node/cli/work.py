"""Commands that work on images: ``serve``, ``analyse``, ``send``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from dicom_node.cli.shell import Config, app, err, errors, need_folder, out, settings_of
from dicom_node.errors import ConfigurationError
from dicom_node.log import configure_logging
from dicom_node.memory import give_back_early
from dicom_node.settings import DestinationTLS, load_settings, wrong_ae_title


@app.command()
def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="TOML file.")],
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="receive, analyse, deliver or all; several with commas. A part needs database.url."
        ),
    ] = None,
) -> None:
    """Run the node until SIGTERM or Ctrl-C."""
    os.umask(0o077)  # images are patient data
    give_back_early()
    with errors():
        settings = load_settings(config)
        configure_logging(settings.log.format, settings.log.level)
        from dicom_node.node import serve as run
        from dicom_node.workflow.roles import roles_of

        run(settings, config, roles_of(role or ()))


@app.command()
def analyse(
    folder: Annotated[Path, typer.Argument(help="Holds DICOM files of one or more series.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="Each series gets a subfolder.")],
    config: Config = None,
) -> None:
    """Analyse the series in a folder, without the network."""
    os.umask(0o077)  # images are patient data
    with errors():
        need_folder(folder)
        settings = settings_of(config)
        from dicom_node.workflow.folder import analyse_folder
        from dicom_node.workflow.stations import Stations

        failed = False
        found = False
        for one in analyse_folder(Stations(settings), folder, target):
            found = True
            failed |= one.failed
            word = "failed" if one.failed else "skipped" if one.worked is None else "analysed"
            out.print(f"{one.series_instance_uid}: {word}: {one.detail}", markup=False)
    if not found:
        err.print(f"no DICOM series in {folder}", markup=False)
        raise typer.Exit(2)
    if failed:
        raise typer.Exit(1)


@app.command()
def send(
    folder: Annotated[Path, typer.Argument(help="DICOM files; subfolders too.")],
    address: Annotated[str, typer.Argument(metavar="HOST:PORT")],
    called: Annotated[str, typer.Option(help="AE title of the peer.")],
    calling: Annotated[str, typer.Option(help="AE title of ours.")] = "DICOM_NODE_SEND",
    ca: Annotated[
        Path | None, typer.Option(help="Over TLS: who may have signed the peer's certificate (PEM).")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Ours, for a peer that asks for one (PEM).")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    server_name: Annotated[
        str | None, typer.Option(help="What the peer's certificate names, if that is not HOST.")
    ] = None,
) -> None:
    """Send files by C-STORE, as a PACS would; with --ca over TLS."""
    with errors():
        need_folder(folder)
        from dicom_node.deliver.cstore import Peer, send_files
        from dicom_node.series.find import find_series

        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigurationError(f"{address!r} is no HOST:PORT")
        paths = [path for series in find_series(folder).values() for path in series]
        if not paths:
            raise ConfigurationError(f"no DICOM files in {folder}")
        for title in (called, calling):
            if objection := wrong_ae_title(title):
                raise ConfigurationError(f"{title!r}: {objection}")
        peer = Peer(called, host, int(port), calling, tls=_tls(ca, certificate, key, server_name))
        with Progress(console=err) as progress:
            sent = 0
            for _ in progress.track(send_files(peer, paths), total=len(paths), description="C-STORE"):
                sent += 1
        out.print(f"{sent} of {len(paths)} files stored by {peer}", markup=False)


def _tls(
    ca: Path | None, certificate: Path | None, key: Path | None, server_name: str | None
) -> DestinationTLS | None:
    """Options of a sender over TLS, proven; None without."""
    if ca is None:
        if certificate or key or server_name:
            raise ConfigurationError("--certificate, --key and --server-name go with --ca")
        return None
    if (certificate is None) != (key is None):
        raise ConfigurationError("--certificate and --key go together")
    from dicom_node.tls import look_at

    tls = DestinationTLS(ca_file=ca, certificate_file=certificate, key_file=key, server_name=server_name)
    look_at(tls)
    return tls
