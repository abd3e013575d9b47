"""The page on which files are tried out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.datastructures import UploadFile

from dicom_node.errors import NodeError, SeriesRefused
from dicom_node.results.result_set import Kind
from dicom_node.web.access.needs import RoleFirst, needs
from dicom_node.web.access.roles import Role
from dicom_node.web.models import installed
from dicom_node.web.node_view import NodeView, View
from dicom_node.web.pages import page
from dicom_node.web.pictures import Layer
from dicom_node.web.shown import Shown
from dicom_node.web.slices import anatomy_of, facts_of, overlay_of, pair_of
from dicom_node.web.trial_item import Doing, Item
from dicom_node.web.trials import Trial, Trials
from dicom_node.web.uploads import remove, take

router = APIRouter(route_class=RoleFirst, include_in_schema=False, prefix="/try")


def _of(request: Request) -> Trials:
    trials: Trials = request.app.state.trials
    return trials


Tried = Annotated[Trials, Depends(_of)]


def _trial(trials: Tried, id_: str) -> Trial:
    trial = trials.get(id_)
    if trial is None:
        raise HTTPException(404, "this trial is not here, or no longer: send the files again")
    return trial


OneTrial = Annotated[Trial, Depends(_trial)]


def _item(trial: OneTrial, number: int) -> Item:
    if not 0 <= number < len(trial.items):
        raise HTTPException(404, f"this trial has {len(trial.items)} parts")
    return trial.items[number]


OneItem = Annotated[Item, Depends(_item)]


def _shown(trials: Tried, trial: OneTrial, item: OneItem) -> Shown:
    try:
        return trials.shown(trial, item)
    except SeriesRefused as refusal:
        raise HTTPException(404, str(refusal)) from None


OneShown = Annotated[Shown, Depends(_shown)]


@router.get("")
@needs(Role.OPERATOR)
def form(request: Request, node: View) -> Response:
    """Show where files can be put."""
    return _form(request, node)


def _form(request: Request, node: NodeView, refusal: str = "", status: int = 200) -> Response:
    web, loaded = node.settings.web, node.stations.bundles
    return page(
        request,
        "try.html",
        status,
        bundles=list(installed(node)),
        default=next(iter(loaded), ""),
        refusal=refusal,
        limits=web,
    )


@router.post("")
@needs(Role.OPERATOR)
async def send(request: Request, node: View, trials: Tried) -> Response:
    """Take files; for a script the answer says where they are shown."""
    is_script = request.headers.get("accept", "").startswith("application/json")
    web = node.settings.web
    folder = await run_in_threadpool(trials.new_folder)
    try:
        async with request.form(max_files=web.maximum_files, max_fields=10) as sent:
            files = [each for each in sent.getlist("files") if isinstance(each, UploadFile)]
            named = [(each.filename or "", each.file) for each in files if each.size]
            bundle = str(sent.get("bundle", ""))
            received = await run_in_threadpool(take, named, folder / "in", web)
        trial = await run_in_threadpool(trials.begin, folder, received, bundle)
    except NodeError as error:
        remove(folder)
        if is_script:
            return JSONResponse({"error": str(error)}, 422)
        return _form(request, node, str(error), 422)
    except BaseException:
        remove(folder)
        raise
    address = f"/try/{trial.id}"
    return JSONResponse({"address": address}) if is_script else RedirectResponse(address, 303)


@router.get("/{id_}")
@needs(Role.OPERATOR)
def result(request: Request, trials: Tried, trial: OneTrial, item: int = 0) -> Response:
    """Show a trial, and one of its parts with its slices."""
    chosen = trial.items[min(max(item, 0), len(trial.items) - 1)]
    shown = None
    if chosen.doing in (Doing.DETECTED, Doing.OUTLINING, Doing.OUTLINED):
        shown = trials.shown(trial, chosen)
    facts = facts_of(shown, f"/try/{trial.id}/{chosen.number}") if shown else None
    return page(
        request, "trial.html", trial=trial, chosen=chosen, shown=shown, facts=facts, **_told(trial, chosen)
    )


@router.get("/{id_}/told")
@needs(Role.OPERATOR)
def told(request: Request, trial: OneTrial, item: int = 0) -> Response:
    """Show how far a trial is; a part of the page."""
    chosen = trial.items[min(max(item, 0), len(trial.items) - 1)]
    answer = page(request, "trial_told.html", trial=trial, chosen=chosen, **_told(trial, chosen))
    answer.headers["x-ended"] = "0" if chosen.is_running else "1"
    return answer


def _told(trial: Trial, chosen: Item) -> dict[str, Any]:
    files = [kind for kind in Kind if (chosen.folder / f"{kind}.dcm").exists()]
    return {"files": files if chosen.doing is Doing.OUTLINED else [], "address": f"/try/{trial.id}"}


@router.post("/{id_}/{number}/segment")
@needs(Role.OPERATOR)
def segment(trials: Tried, trial: OneTrial, item: OneItem) -> Response:
    """Order the segmentation of a part in which a tumour was found."""
    trials.outline(item)
    return RedirectResponse(f"/try/{trial.id}?item={item.number}", 303)


@router.get("/{id_}/{number}/slice/{index}")
@needs(Role.OPERATOR)
def slice_(shown: OneShown, index: int, centre: float | None = None, width: float | None = None) -> Response:
    """Give the picture of a slice."""
    return anatomy_of(shown, index, centre, width)


@router.get("/{id_}/{number}/slice/{index}/{layer}")
@needs(Role.OPERATOR)
def layer(shown: OneShown, index: int, layer: Layer) -> Response:
    """Give the picture of what lies over a slice."""
    return overlay_of(shown, index, layer)


@router.get("/{id_}/{number}/picture/{index}")
@needs(Role.OPERATOR)
def picture(shown: OneShown, index: int) -> Response:
    """Give a slice beside the same under its heatmap."""
    return pair_of(shown, index, f"slice-{index + 1}.png")


@router.get("/{id_}/{number}/file/{kind}")
@needs(Role.OPERATOR)
def file(item: OneItem, kind: Kind) -> Response:
    """Give an object of the result."""
    path = item.folder / f"{kind}.dcm"
    if not path.is_file():
        raise HTTPException(404, f"there is no {kind}")
    return FileResponse(path, media_type="application/dicom", filename=f"{kind}.dcm")
