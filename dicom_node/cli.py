"""The commands, a few lines each.

Exit status: 0 done, 1 the work failed, 2 bad usage or configuration.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dicom_node import __version__
from dicom_node.errors import BundleError, ConfigurationError, NodeError
from dicom_node.log import configure_logging
from dicom_node.settings import DestinationTLS, Settings, load_settings, wrong_ae_title

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
    with _errors():
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
    with _errors():
        _need_folder(folder)
        settings = _settings(config)
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
    with _errors():
        _need_folder(folder)
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


@app.command()
def status(
    config: Config = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only what needs a person: why, how often, what to do.")
    ] = False,
) -> None:
    """Show the series of this node and what became of them, the latest first."""
    with _errors():
        settings = _settings(config)
    with _errors(), _ledger(settings) as ledger:
        from dicom_node.workflow.overview import failed_lines, lines_of

        spool = _spool(settings)

        def conflicts(uid: str) -> int:
            return len(spool.conflicts(uid))

        if failed:
            lines = list(failed_lines(ledger.failed(), conflicts))
            out.print("\n".join(lines) if lines else "nothing failed", markup=False)
            return
        arriving = sorted(set(spool.series()) - ledger.series_instance_uids())
        entries = ledger.entries(limit=limit)
        if not arriving and not entries:
            out.print("no series yet")
        for uid in arriving:
            out.print(f"{uid}  {len(spool.instances(uid))} images\n  arriving", markup=False)
        for line in lines_of(entries, conflicts):
            out.print(line, markup=False)
        from dicom_node.workflow.retention import Retention, describe

        out.print(describe(Retention(settings, spool, ledger).held()), markup=False)


@app.command()
def clean(
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
) -> None:
    """Delete what [retention] allows; the node, which may run, does so each hour."""
    os.umask(0o077)  # what it writes down is the node's
    with _errors():
        settings = _settings(config)
    with _errors(), _ledger(settings) as ledger:
        from dicom_node.workflow.retention import Retention, describe, describe_holding

        rules = settings.retention
        if not (rules.images_days or rules.results_days or rules.maximum_gb):
            out.print("nothing is ever deleted: no rule is set in [retention]")
        retention = Retention(settings, _spool(settings), ledger)
        for holding in retention.due() if dry_run else retention.clean():
            done = "would be deleted" if dry_run else "deleted"
            out.print(f"{done}: {describe_holding(holding)}", markup=False)
        out.print(describe(retention.held()), markup=False)


@app.command()
def retry(
    name: Annotated[
        str | None, typer.Argument(metavar="ID", help="7, 7-archive or a SeriesInstanceUID.")
    ] = None,
    config: Config = None,
    everything: Annotated[bool, typer.Option("--all", help="All that status --failed calls to.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Analyse anew, with the models of now.")] = False,
) -> None:
    """Repeat what failed or was cancelled; a node that is down does it at its start."""
    with _errors():
        settings = _settings(config)
        if (name is None) != everything or (everything and again):
            raise ConfigurationError("give either ID, with or without --again, or --all")
    with _errors(), _ledger(settings) as ledger:
        from dicom_node.receive.completion import look
        from dicom_node.workflow.orders import retry as order
        from dicom_node.workflow.orders import retry_all

        spool = _spool(settings)
        done = retry_all(ledger) if name is None else order(ledger, name, partial(look, spool), again=again)
        for line in done or ["nothing to repeat"]:
            out.print(line, markup=False)


@app.command()
def cancel(
    name: Annotated[str, typer.Argument(metavar="ID", help="7, 7-archive or a SeriesInstanceUID.")],
    config: Config = None,
) -> None:
    """Stop a job or a delivery that waits or runs; retry undoes it."""
    with _errors(), _ledger(_settings(config)) as ledger:
        from dicom_node.workflow.orders import cancel as order

        out.print(order(ledger, name), markup=False)


@app.command()
def explain(
    series_uid: Annotated[str, typer.Argument(help="SeriesInstanceUID.")], config: Config = None
) -> None:
    """Show what the selection rules said of a series."""
    with _errors(), _ledger(_settings(config)) as ledger:
        entries = ledger.entries(series_instance_uid=series_uid)
        if not entries:
            raise ConfigurationError(f"this node's book has no complete series {series_uid}")
        for entry in entries:
            out.print(f"{entry.instances} images, {entry.state}: {entry.detail}", markup=False)
            for verdict in entry.trace:
                mark = "yes" if verdict.passed else "NO "
                detail = f": {verdict.detail}" if verdict.detail else ""
                out.print(f"  {mark} {verdict.rule}{detail}", markup=False)


@app.command()
def check_config(
    path: Annotated[Path, typer.Argument(metavar="FILE")],
    connect: Annotated[bool, typer.Option(help="Also ask each destination whether it answers.")] = False,
) -> None:
    """Check a configuration file and the bundles that it names."""
    with _errors():
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

        prove_notifications(settings)

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
    with _errors():
        analysis = _settings(config).analysis
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
    with _errors():
        settings = _settings(config)
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
    with _errors():
        configure_logging("console", "error")
        from dicom_node.trial.demo import demonstrate
        from dicom_node.trial.demo_report import show, show_page
        from dicom_node.workflow.defaults import default_settings

        if stay:
            demonstrate(target, default_settings(), series, contrast, partial(show_page, out))
        else:
            show(out, demonstrate(target, default_settings(), series, contrast))


@contextmanager
def _errors() -> Iterator[None]:
    """Say what is wrong in one sentence, not in a traceback."""
    try:
        yield
    except (ConfigurationError, BundleError) as error:
        err.print(f"dicom-node: {error}", markup=False)
        raise typer.Exit(2) from None
    except (NodeError, OSError) as error:
        err.print(f"dicom-node: {error}", markup=False)
        raise typer.Exit(1) from None


def _settings(config: Path | None) -> Settings:
    configure_logging("console", "warning")
    if config is not None:
        return load_settings(config)
    from dicom_node.workflow.defaults import default_settings

    return default_settings()


@contextmanager
def _ledger(settings: Settings) -> Iterator[Ledger]:
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


def _spool(settings: Settings) -> Spool:
    from dicom_node.receive.spool import Spool

    return Spool(settings.folder / "spool", minimum_free_mb=0)


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


def _need_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder")
