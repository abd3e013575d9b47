"""Commands that prove an installation: ``check-config``, ``models``, ``selftest``, ``demo``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from dicom_node import __version__
from dicom_node.cli.shell import Config, app, errors, out, settings_of
from dicom_node.errors import NodeError
from dicom_node.log import configure_logging
from dicom_node.settings import load_settings


@app.command()
def check_config(
    path: Annotated[Path, typer.Argument(metavar="FILE")],
    connect: Annotated[bool, typer.Option(help="Also ask each destination whether it answers.")] = False,
) -> None:
    """Check a configuration file and the bundles that it names."""
    with errors():
        settings = load_settings(path)
        from dicom_node.workflow.stations import load_bundles

        load_bundles(settings.analysis, settings.pipelines)
        titles = ", ".join(called.ae_title for called in settings.receive.called)
        out.print(f"listens on {settings.receive.host}:{settings.receive.port} as {titles}", markup=False)
        if url := settings.database.url:
            from dicom_node.workflow.database import open_ledger

            if connect:
                open_ledger(settings).close()
            out.print(f"database {url}{': answers' if connect else ''}", markup=False)
        if tls := settings.receive.tls:
            alone = " only" if tls.port == settings.receive.port else f" on port {tls.port}"
            out.print(f"TLS{alone}, certificates of senders: {tls.clients}", markup=False)
        from dicom_node.http_client import look_at_web
        from dicom_node.operate.notify import prove as prove_notifications
        from dicom_node.tls import look_at_all
        from dicom_node.web.access.provider import prove as prove_provider

        prove_notifications(settings)
        prove_provider(settings)

        for note in [*look_at_all(settings), *look_at_web(settings)]:
            out.print(f"{'WARNING: ' if note.is_warning else ''}{note.text}", markup=False)
        for pipeline in settings.pipelines:
            to = ", ".join(pipeline.destinations) or "nowhere: results stay in the folder"
            out.print(f"pipeline {pipeline.name}: bundle {pipeline.bundle}, to {to}", markup=False)
        if not settings.pipelines:
            out.print("no pipeline: every series will be skipped")
        from dicom_node.deliver.destination import check, describe

        silent = 0
        for each in settings.destinations:
            told = ""
            if connect:
                try:
                    check(each)
                    told = ": answers"
                except NodeError as error:
                    silent += 1
                    told = f": {error}"
            out.print(f"destination {each.name}: {describe(each)}{told}", markup=False)
        out.print(f"{path} is valid", markup=False)
    if silent:
        raise typer.Exit(1)


@app.command()
def models(config: Config = None) -> None:
    """List the bundles, each proven on the device in use, with what it reads and its figures."""
    with errors():
        analysis = settings_of(config).analysis
        from dicom_node.analysis.bundle import load_bundle
        from dicom_node.analysis.manifest import FILE_NAME

        for path in sorted(analysis.models.glob(f"*/{FILE_NAME}")):
            remote = analysis.remote_of(path.parent.name)
            bundle = load_bundle(path.parent, analysis.device, analysis.threads, remote)
            manifest = bundle.manifest
            out.print(f"{manifest.name} {manifest.version} on {bundle.device}", markup=False)
            out.print(f"  reads {'/'.join(manifest.contrasts)}, {'/'.join(manifest.planes).lower()}")
            out.print(f"  weights under {manifest.origin.licence}", markup=False)
            for name, value in manifest.figures.items():
                out.print(f"  {name}: {value:.3g}", markup=False)


@app.command()
def selftest(config: Config = None) -> None:
    """Qualify the installation: phantoms through each bundle in use against their known lesion."""
    with errors():
        settings = settings_of(config)
        from dicom_node.trial.selftest import qualify

        table = Table("bundle", "check", "result", "detail")
        checks = qualify(settings)
        for check in checks:
            table.add_row(check.bundle, check.what, "passed" if check.passed else "FAILED", check.detail)
        out.print(table)
        passed = bool(checks) and all(check.passed for check in checks)
        out.print(f"dicom-node {__version__}: installation {'passed' if passed else 'did NOT pass'}")
    if not passed:
        raise typer.Exit(1)


@app.command()
def demo(
    series: Annotated[Path | None, typer.Option(help="A folder with one MR series; else a phantom.")] = None,
    contrast: Annotated[Literal["FLAIR", "T1CE"], typer.Option(help="Of the phantom.")] = "FLAIR",
    target: Annotated[Path, typer.Option("--out", "-o", help="Emptied first.")] = Path("demo-out"),
    stay: Annotated[bool, typer.Option("--show", help="Leave the page running until Ctrl-C.")] = False,
) -> None:
    """Send a series to a node and see its result come back to an archive, on loopback."""
    with errors():
        configure_logging("console", "error")
        from dicom_node.trial.demo import demonstrate
        from dicom_node.trial.demo_report import show, show_page
        from dicom_node.workflow.defaults import default_settings

        if stay:
            demonstrate(target, default_settings(), series, contrast, partial(show_page, out))
        else:
            show(out, demonstrate(target, default_settings(), series, contrast))
