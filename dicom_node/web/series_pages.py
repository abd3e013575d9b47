"""One series: where it is on its way, what was found, its slices, and what an operator may do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from dicom_node.errors import ConfigurationError, SeriesRefused
from dicom_node.log import lines_of, series_id
from dicom_node.receive.completion import look
from dicom_node.results.result_set import Kind
from dicom_node.web.access.needs import RoleFirst, needs
from dicom_node.web.access.roles import Role
from dicom_node.web.models import bundles_for
from dicom_node.web.node_view import NodeView, View
from dicom_node.web.pages import page
from dicom_node.web.pictures import Layer
from dicom_node.web.seen import Seen
from dicom_node.web.series_list import Number, patient_of, row_of
from dicom_node.web.shelf import Shelf
from dicom_node.web.shown import Shown
from dicom_node.web.slices import anatomy_of, facts_of, overlay_of, pair_of
from dicom_node.web.status import tone_of
from dicom_node.web.stored import read_shown, read_summary
from dicom_node.web.timeline import stations_of
from dicom_node.workflow.entry import ENDED, OPEN, Entry, Sent, State
from dicom_node.workflow.orders import cancel, resend, retry
from dicom_node.workflow.summary import FILE_NAME as SUMMARY
from dicom_node.workflow.worked import Outcome

router = APIRouter(route_class=RoleFirst, include_in_schema=False, prefix="/series/{number}")


def _entry(node: NodeView, number: int) -> Entry:
    entry = node.ledger.entry_by_number(number)
    if entry is None:
        raise HTTPException(404, f"there is no series {number} in the book")
    return entry


def _images(node: NodeView, entry: Entry) -> Sequence[Path]:
    return node.spool.instances(entry.series_instance_uid)


def _shown(request: Request, node: NodeView, entry: Entry) -> Shown:
    shelf: Shelf = request.app.state.shelf
    folder = Path(entry.folder) if entry.folder else None
    paths = _images(node, entry)
    key = (entry.job_id, _written_at(folder), len(paths))
    shown = shelf.get(key, lambda: read_shown(paths, folder))
    _note(request, entry, paths)
    return shown


def _note(request: Request, entry: Entry, paths: Sequence[Path]) -> None:
    """Note who sees a series; once its images are deleted, its result says whose it was."""
    seen: Seen = request.app.state.seen
    seen.note(request, entry.series_instance_uid, paths or _files(entry).values())


def _files(entry: Entry) -> dict[Kind, Path]:
    """Find the objects of the result."""
    if not entry.folder:
        return {}
    return {kind: path for kind in Kind if (path := Path(entry.folder) / f"{kind}.dcm").is_file()}


def _written_at(folder: Path | None) -> int:
    """When a result was written, in ns; 0 without one."""
    try:
        return (folder / SUMMARY).stat().st_mtime_ns if folder else 0
    except OSError:
        return 0


@router.get("")
@needs(Role.VIEWER)
def one_series(request: Request, node: View, number: Number) -> Response:
    """Show one version of one series."""
    entry = _entry(node, number)
    paths = _images(node, entry)
    summary = read_summary(Path(entry.folder) if entry.folder else None)
    shown, refusal = None, ""
    try:
        shown = _shown(request, node, entry)
    except SeriesRefused as refused:
        refusal = str(refused)
        _note(request, entry, paths)  # its page names the patient
    return page(
        request,
        "one_series.html",
        row=row_of(node, entry),
        entry=entry,
        patient=patient_of(node, entry.series_instance_uid),
        summary=summary,
        versions=sorted(
            node.ledger.entries(series_instance_uid=entry.series_instance_uid), key=lambda each: each.version
        ),
        shown=shown,
        refusal=refusal,
        facts=facts_of(shown, f"/series/{number}") if shown else None,
        lesions=summary.get("lesions", ()),
        tone_of=tone_of,
        bundles=bundles_for(node, summary.get("contrast")),
        files=list(_files(entry)),
        images=len(paths),
        **_allowed(entry, bool(paths)),
        **_told(node, entry, paths, summary),
    )


@router.get("/told")
@needs(Role.VIEWER)
def told(request: Request, node: View, number: Number) -> Response:
    """Show what changes while a series is under way; a part of the page."""
    entry = _entry(node, number)
    paths = _images(node, entry)
    summary = read_summary(Path(entry.folder) if entry.folder else None)
    shown: dict[str, Any] = {"row": row_of(node, entry), "entry": entry, "tone_of": tone_of}
    allowed = _allowed(entry, bool(paths))
    answer = page(request, "told.html", **shown, **allowed, **_told(node, entry, paths, summary))
    answer.headers["x-ended"] = "1" if entry.state in ENDED else "0"
    return answer


def _told(node: NodeView, entry: Entry, paths: Sequence[Path], summary: dict[str, Any]) -> dict[str, Any]:
    happened = node.ledger.history(entry.job_id)
    return {
        "happened": happened,
        "stations": list(stations_of(entry, happened, paths, summary)),
        "lines": lines_of(entry.series_instance_uid),
        "series_id": series_id(entry.series_instance_uid),
    }


def _allowed(entry: Entry, has_images: bool) -> dict[str, Any]:
    """What may be ordered now."""
    unsent = [d for d in entry.deliveries if d.state in (Sent.FAILED, Sent.CANCELLED)]
    is_under_way = entry.state in (State.WAITING, State.ANALYSING)
    repeatable = entry.state in (State.FAILED, State.SKIPPED, State.CANCELLED)
    return {
        "may_retry": repeatable
        or bool(unsent)
        or (entry.state is State.DONE and entry.outcome is Outcome.FAILED),
        "may_cancel": is_under_way or any(d.state in OPEN for d in entry.deliveries),
        # To all of them; where it came to none, that is what a retry does
        "may_resend": len(unsent) < len(entry.deliveries)
        and not any(d.state in OPEN for d in entry.deliveries),
        "is_unsent": bool(unsent),
        "may_analyse": has_images and not is_under_way,
        "is_moving": entry.state not in ENDED,
    }


@router.post("/{order}")
@needs(Role.OPERATOR)
def order(node: View, number: Number, order: str, bundle: Annotated[str, Form()] = "") -> Response:
    """Take an operator's order; the node takes it up within a second or two."""
    entry = _entry(node, number)
    name, spool_look = str(number), partial(look, node.spool)
    match order:
        case "retry":
            retry(node.ledger, name, spool_look)
        case "cancel":
            cancel(node.ledger, name)
        case "resend":
            resend(node.ledger, name)
        case "analyse":
            if bundle and bundle not in bundles_for(node, None):
                raise ConfigurationError(f"there is no bundle {bundle!r} here")
            retry(node.ledger, name, spool_look, again=True, bundle=bundle or None)
            versions = node.ledger.entries(series_instance_uid=entry.series_instance_uid)
            number = max(version.number for version in versions)
        case _:
            raise HTTPException(404, f"{order} is no order")
    return RedirectResponse(f"/series/{number}", 303)


@router.get("/slice/{index}")
@needs(Role.VIEWER)
def slice_(
    request: Request,
    node: View,
    number: Number,
    index: int,
    centre: float | None = None,
    width: float | None = None,
) -> Response:
    """Give the picture of a slice."""
    return anatomy_of(_shown(request, node, _entry(node, number)), index, centre, width)


@router.get("/slice/{index}/{layer}")
@needs(Role.VIEWER)
def layer(request: Request, node: View, number: Number, index: int, layer: Layer) -> Response:
    """Give the picture of what lies over a slice."""
    return overlay_of(_shown(request, node, _entry(node, number)), index, layer)


@router.get("/picture/{index}")
@needs(Role.VIEWER)
def picture(request: Request, node: View, number: Number, index: int) -> Response:
    """Give a slice beside the same under its heatmap."""
    shown = _shown(request, node, _entry(node, number))
    return pair_of(shown, index, f"series-{number}-slice-{index + 1}.png")


@router.get("/file/{kind}")
@needs(Role.VIEWER)
def file(request: Request, node: View, number: Number, kind: Kind) -> Response:
    """Give an object of the result, as it was sent."""
    entry = _entry(node, number)
    path = _files(entry).get(kind)
    if path is None:
        raise HTTPException(404, f"series {number} has no {kind}")
    seen: Seen = request.app.state.seen
    seen.take(request, path)
    return FileResponse(path, media_type="application/dicom", filename=f"series-{number}-{kind}.dcm")
