"""Slices as responses: pictures, and all that a viewer must know before it asks for one."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException
from fastapi.responses import Response

from dicom_node.web.pictures import Layer, anatomy, encoded, overlay, side_by_side, size_of
from dicom_node.web.shown import Shown, Window

# Held in memory by the browser while the page is open, and not on its disk
_HEADERS = {"cache-control": "no-store"}


def png(data: bytes, name: str = "") -> Response:
    """Answer with a picture; with a name, as a download."""
    headers = dict(_HEADERS)
    if name:
        headers["content-disposition"] = f'attachment; filename="{name}"'
    return Response(data, media_type="image/png", headers=headers)


def anatomy_of(shown: Shown, index: int, centre: float | None, width: float | None) -> Response:
    """Answer with one slice."""
    _need(shown, index)
    window = None if centre is None or width is None else Window(centre, width)
    return png(encoded(anatomy(shown, index, window)))


def overlay_of(shown: Shown, index: int, layer: Layer) -> Response:
    """Answer with what lies over one slice."""
    _need(shown, index)
    return png(encoded(overlay(shown, index, layer)))


def pair_of(shown: Shown, index: int, name: str) -> Response:
    """Answer with a slice beside the same under its heatmap, as a download."""
    _need(shown, index)
    return png(encoded(side_by_side(shown, index)), name)


def _need(shown: Shown, index: int) -> None:
    if not 0 <= index < shown.slices:
        raise HTTPException(404, f"there are {shown.slices} slices")


def facts_of(shown: Shown, base: str) -> dict[str, Any]:
    """Say all that the viewer on a page needs; ``base`` is the address of the pictures."""
    rows, columns = size_of(shown)
    low, high = float(shown.voxels.min()), float(shown.voxels.max())
    edges = shown.edges
    return {
        "base": base,
        "slices": shown.slices,
        "start": shown.key_slice,
        "names": shown.names,
        "ratio": columns / rows,
        "width_mm": shown.voxels.shape[2] * shown.pixel_mm[1] if shown.pixel_mm else None,
        "edges": [edges.left, edges.right, edges.top, edges.bottom] if edges else None,
        "window": [shown.window.centre, shown.window.width],
        "range": [low, high],
        "layers": [
            *(["heatmap"] if shown.probability is not None else []),
            *(["contour", "mask"] if shown.labels is not None else []),
        ],
        "judged": [[round(each.probability, 4), each.positive, each.segmented] for each in shown.judged],
        "lesions": [
            [each["number"], each["first_slice"] - 1, each["last_slice"] - 1] for each in shown.lesions
        ],
    }
