"""The list of series, and one series: where it is on its way."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from dicom_node.web.node_view import View
from dicom_node.web.pages import page

router = APIRouter(include_in_schema=False)


@router.get("/series")
def all_series(request: Request, node: View) -> Response:
    """Show the list."""
    return page(request, "series.html", entries=node.ledger.entries())


@router.get("/series/{number}")
def one_series(request: Request, node: View, number: int) -> Response:
    """Show one version of one series."""
    entry = node.ledger.entry_by_number(number)
    if entry is None:
        raise HTTPException(404, f"there is no series {number} in the book")
    return page(request, "one_series.html", entry=entry)
