"""The node itself: models, destinations, load, disk, configuration."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from dicom_node.web.node_view import View
from dicom_node.web.pages import page

router = APIRouter(include_in_schema=False)


@router.get("/node")
def node(request: Request, node: View) -> Response:
    """Show the node."""
    return page(request, "node.html", bundles=node.stations.bundles.values(), since=node.since)
