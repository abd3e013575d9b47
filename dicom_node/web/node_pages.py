"""The node itself: models, destinations, load, disk, configuration."""

from __future__ import annotations

import platform
from importlib.metadata import version

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from dicom_node.deliver.destination import check, describe
from dicom_node.errors import NodeError
from dicom_node.web.configuration import lines_of
from dicom_node.web.load import day_of, disk_of, queue_of
from dicom_node.web.models import models
from dicom_node.web.node_view import View
from dicom_node.web.pages import page

_LIBRARIES = ("onnxruntime-gpu", "onnxruntime", "pydicom", "pynetdicom", "highdicom", "dbos", "numpy")

router = APIRouter(include_in_schema=False, prefix="/node")


@router.get("")
def shown(request: Request, node: View) -> Response:
    """Show the node."""
    settings = node.settings
    return page(
        request,
        "node.html",
        models=models(node),
        destinations=[(each.name, describe(each)) for each in settings.destinations],
        receive=settings.receive,
        hours=day_of(node),
        queue=queue_of(node),
        disk=disk_of(node),
        since=node.since,
        versions=[("Python", platform.python_version()), *_versions()],
        lines=list(lines_of(settings)),
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
def load(request: Request, node: View) -> Response:
    """Show the queue, the last day and the disk; a part of the page."""
    return page(request, "load.html", hours=day_of(node), queue=queue_of(node), disk=disk_of(node))


@router.post("/echo/{name}")
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
