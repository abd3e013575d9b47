"""The node itself: models, destinations, load, disk, configuration."""

from __future__ import annotations

import platform
from importlib.metadata import version

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from pydicom.uid import UID

from dicom_node.deliver.destination import check, describe
from dicom_node.errors import NodeError
from dicom_node.web.access.needs import RoleFirst, needs
from dicom_node.web.access.roles import Role
from dicom_node.web.access.visitor import visitor_of
from dicom_node.web.configuration import MASKED, lines_of
from dicom_node.web.load import day_of, disk_of, queue_of
from dicom_node.web.models import models
from dicom_node.web.node_view import View
from dicom_node.web.pages import page
from dicom_node.workflow.acceptance import Acceptance

_LIBRARIES = ("onnxruntime-gpu", "onnxruntime", "pydicom", "pynetdicom", "highdicom", "dbos", "numpy")

router = APIRouter(route_class=RoleFirst, include_in_schema=False, prefix="/node")


@router.get("")
@needs(Role.VIEWER)
def shown(request: Request, node: View) -> Response:
    """Show the node."""
    settings = node.settings
    return page(
        request,
        "node.html",
        models=models(node),
        destinations=[(each.name, describe(each)) for each in settings.destinations],
        refusals=[
            (each.destination, UID(each.sop_class_uid).name, each.ask_again_at)
            for each in Acceptance(node.ledger.database).refusals(settings.destinations)
        ],
        receive=settings.receive,
        hours=day_of(node),
        queue=queue_of(node),
        disk=disk_of(node),
        since=node.since,
        versions=[("Python", platform.python_version()), *_versions()],
        lines=list(lines_of(settings)) if visitor_of(request).may(Role.ADMIN) else [],
        reloads=node.reload is not None,
    )


def _versions() -> list[tuple[str, str]]:
    found = []
    for name in _LIBRARIES:
        try:
            found.append((name, version(name)))
        except ModuleNotFoundError:
            continue
    return found


@router.get("/load")
@needs(Role.VIEWER)
def load(request: Request, node: View) -> Response:
    """Show the queue, the last day and the disk; a part of the page."""
    return page(request, "load.html", hours=day_of(node), queue=queue_of(node), disk=disk_of(node))


@router.post("/echo/{name}")
@needs(Role.OPERATOR)
def echo(request: Request, node: View, name: str) -> Response:
    """Ask a destination whether it answers; a part of the page."""
    for destination in node.settings.destinations:
        if destination.name == name:
            try:
                check(destination)
            except NodeError as error:
                return page(request, "echo.html", tone="bad", said=str(error))
            return page(request, "echo.html", tone="good", said="answers")
    raise HTTPException(404, f"there is no destination {name}")


@router.post("/reload")
@needs(Role.ADMIN)
def reload(request: Request, node: View) -> Response:
    """Read the configuration again, as SIGHUP does, and show what changed; a part of the page."""
    if node.reload is None:
        raise HTTPException(404, "this node was started without a configuration file")
    before = dict(lines_of(node.settings))
    try:
        change = node.reload()
    except NodeError as error:
        return page(request, "reloaded.html", 409, error=str(error))
    after = dict(lines_of(node.settings))
    taken = [
        (key, before.get(key, ""), after.get(key, ""))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    if change.taken and not taken:
        taken = [(key, MASKED, MASKED) for key in change.taken]
    return page(request, "reloaded.html", taken=taken, waiting=change.waiting)
