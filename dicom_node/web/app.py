"""The page and the API as one application; `create_app` is the wiring."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from dicom_node import __version__
from dicom_node.errors import NodeError, PermanentError
from dicom_node.web import node_pages, series_list, series_pages
from dicom_node.web.access import Guard
from dicom_node.web.node_view import NodeView
from dicom_node.web.pages import STATIC, page
from dicom_node.web.shelf import Shelf

DESCRIPTION = "A DICOM node that runs brain-tumour models on MR series. **Research use only.**"

log = structlog.get_logger()


def create_app(node: NodeView) -> FastAPI:
    """Make the application of a node."""
    app = FastAPI(
        title="dicom-node",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # both fetch scripts from another host
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.node = node
    app.state.shelf = Shelf(node.settings.web.cache_mb << 20)
    app.add_middleware(Guard)
    app.add_exception_handler(HTTPException, _tell_http)
    app.add_exception_handler(NodeError, _tell_node)
    app.add_exception_handler(Exception, _tell_unexpected)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_api_route("/", lambda: RedirectResponse("/series"), include_in_schema=False)
    app.include_router(series_list.router)
    app.include_router(series_pages.router)
    app.include_router(node_pages.router)
    return app


def _tell(request: Request, status: int, text: str) -> Response:
    """Answer a program as a program, and a person with a page."""
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": text}, status)
    return page(request, "error.html", status, text=text)


def _tell_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    return _tell(request, error.status_code, str(error.detail))


def _tell_node(request: Request, error: Exception) -> Response:
    return _tell(request, 409 if isinstance(error, PermanentError) else 503, str(error))


def _tell_unexpected(request: Request, error: Exception) -> Response:
    log.error("page_failed", error=type(error).__name__)  # the text may quote patient data
    return _tell(request, 500, f"an error of the program ({type(error).__name__}); its log says where")
