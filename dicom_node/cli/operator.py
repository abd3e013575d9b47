"""Commands for the operator of a node: ``status``, ``clean``, ``retry``, ``cancel``, ``explain``."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated

import typer

from dicom_node.cli.shell import Config, app, errors, ledger_of, out, settings_of, spool_of
from dicom_node.errors import ConfigurationError


@app.command()
def status(
    config: Config = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only what needs a person: why, how often, what to do.")
    ] = False,
) -> None:
    """Show the series of this node and what became of them, the latest first."""
    with errors():
        settings = settings_of(config)
    with errors(), ledger_of(settings) as ledger:
        from dicom_node.workflow.acceptance import Acceptance
        from dicom_node.workflow.overview import failed_lines, lines_of, refusal_lines

        spool = spool_of(settings)

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
        for line in refusal_lines(Acceptance(ledger.database).refusals(settings.destinations)):
            out.print(line, markup=False)
        from dicom_node.workflow.retention import Retention, describe

        out.print(describe(Retention(settings, spool, ledger).held()), markup=False)


@app.command()
def clean(
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
) -> None:
    """Delete what the retention rules allow; the node, which may run, does so each hour."""
    os.umask(0o077)  # what it writes down is the node's
    with errors():
        settings = settings_of(config)
    with errors(), ledger_of(settings) as ledger:
        from dicom_node.workflow.retention import Retention, describe, describe_holding

        rules = settings.retention
        if not (rules.images_days or rules.results_days or rules.maximum_gb):
            out.print("nothing is ever deleted: no rule is set in [retention]")
        retention = Retention(settings, spool_of(settings), ledger)
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
    with errors():
        settings = settings_of(config)
        if (name is None) != everything or (everything and again):
            raise ConfigurationError("give either ID, with or without --again, or --all")
    with errors(), ledger_of(settings) as ledger:
        from dicom_node.receive.completion import look
        from dicom_node.workflow.orders import retry as order
        from dicom_node.workflow.orders import retry_all

        spool = spool_of(settings)
        done = retry_all(ledger) if name is None else order(ledger, name, partial(look, spool), again=again)
        for line in done or ["nothing to repeat"]:
            out.print(line, markup=False)


@app.command()
def cancel(
    name: Annotated[str, typer.Argument(metavar="ID", help="7, 7-archive or a SeriesInstanceUID.")],
    config: Config = None,
) -> None:
    """Stop a job or a delivery that waits or runs; retry undoes it."""
    with errors(), ledger_of(settings_of(config)) as ledger:
        from dicom_node.workflow.orders import cancel as order

        out.print(order(ledger, name), markup=False)


@app.command()
def explain(
    series_uid: Annotated[str, typer.Argument(help="SeriesInstanceUID.")], config: Config = None
) -> None:
    """Show what the selection rules said of a series."""
    with errors(), ledger_of(settings_of(config)) as ledger:
        entries = ledger.entries(series_instance_uid=series_uid)
        if not entries:
            raise ConfigurationError(f"this node's book has no complete series {series_uid}")
        for entry in entries:
            out.print(f"{entry.instances} images, {entry.state}: {entry.detail}", markup=False)
            for verdict in entry.trace:
                mark = "yes" if verdict.passed else "NO "
                detail = f": {verdict.detail}" if verdict.detail else ""
                out.print(f"  {mark} {verdict.rule}{detail}", markup=False)
