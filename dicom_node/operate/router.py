"""``/metrics``, ``/health`` and ``/ready`` on the page's port."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from dicom_node.operate.endpoints import PATHS, Endpoints
from dicom_node.web.access.needs import needs
from dicom_node.web.access.roles import Role

# Whoever watches a node asks whether it lives; its figures name destinations and senders
_NEEDED = {"/health": Role.ANYBODY, "/ready": Role.ANYBODY, "/metrics": Role.VIEWER}
_TOLD = {
    "/health": "Whether the process works: 200, or 503 with what does not.",
    "/ready": "Whether the node takes and does work: 200, or 503 with what is missing.",
    "/metrics": "Figures for Prometheus, as text.",
}


def router_of(endpoints: Endpoints) -> APIRouter:
    """Serve each path; in a thread of its own, as a look around may wait for a disk."""
    router = APIRouter(tags=["operation"])
    for path in PATHS:
        route = _route(endpoints, path)
        router.add_api_route(path, route, response_class=PlainTextResponse, description=_TOLD[path])
    return router


def _route(endpoints: Endpoints, path: str) -> Callable[[], Response]:
    def get() -> Response:
        answer = endpoints.answer(path)
        if answer is None:
            return Response(status_code=404)
        return Response(answer.body, answer.status, media_type=answer.content_type)

    get.__name__ = path.strip("/")
    return needs(_NEEDED[path])(get)
