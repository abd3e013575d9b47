"""The page and the API as one application; `create_app` is the wiring."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from dicom_node import __version__
from dicom_node.errors import BundleError, NodeError, PermanentError
from dicom_node.web import api, api_page, node_pages, series_list, series_pages, trial_pages
from dicom_node.web.access import access_pages, login_pages
from dicom_node.web.access.desk import Desk
from dicom_node.web.access.gate import Gate
from dicom_node.web.access.guard import Guard
from dicom_node.web.access.needs import needs, require_role
from dicom_node.web.access.proxy import BehindProxy
from dicom_node.web.access.roles import Role
from dicom_node.web.node_view import NodeView
from dicom_node.web.pages import STATIC, page
from dicom_node.web.seen import Seen
from dicom_node.web.shelf import Shelf
from dicom_node.web.trials import Trials
from dicom_node.web.uploads import Limit, UploadRefused

DESCRIPTION = "A DICOM node that runs brain-tumour models on MR series. **Research use only.**"

log = structlog.get_logger()


def create_app(node: NodeView, desk: Desk | None = None) -> FastAPI:
    """Make the application of a node.

    Parameters
    ----------
    desk : logs in who asks; None where nobody has to
    """
    web = node.settings.web
    shelf = Shelf(web.cache_mb << 20)
    trials = Trials(node.stations, node.trials, shelf)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        trials.close()

    app = FastAPI(
        title="dicom-node",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # both fetch scripts from another host
        redoc_url=None,
        openapi_url=None,  # a route of ours, as every other one
        dependencies=[Depends(require_role)],
        lifespan=lifespan,
    )
    app.state.desk = desk
    app.state.node = node
    app.state.shelf = shelf
    app.state.seen = Seen(node.tell)
    app.state.trials = trials
    # From the inside out
    app.add_middleware(Gate, desk=desk, is_secure=web.is_encrypted)
    app.add_middleware(Limit, maximum_bytes=web.maximum_upload_mb << 20)
    app.add_middleware(Guard, web=web)
    if web.behind_proxy:
        app.add_middleware(BehindProxy, web=web)
    app.add_exception_handler(HTTPException, _tell_http)
    app.add_exception_handler(RequestValidationError, _tell_invalid)
    app.add_exception_handler(NodeError, _tell_node)
    app.add_exception_handler(Exception, _tell_unexpected)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_api_route("/", _first, include_in_schema=False)
    known = (login_pages, access_pages)
    for part in (*known, api, api_page, trial_pages, series_list, series_pages, node_pages):
        app.include_router(part.router)
    return app


@needs(Role.VIEWER)
def _first() -> Response:
    return RedirectResponse("/series")


def _tell(request: Request, status: int, text: str) -> Response:
    """Answer a program as a program, and a person with a page."""
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": text}, status)
    return page(request, "error.html", status, text=text)


def _tell_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    return _tell(request, error.status_code, str(error.detail))


def _tell_invalid(request: Request, error: Exception) -> Response:
    """Name what is wrong, without what was sent: that may be patient data."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    wrong = [".".join(map(str, each["loc"][1:])) + f": {each['type']}" for each in error.errors()]
    return _tell(request, 422, f"the request is not understood ({'; '.join(wrong)})")


def _tell_node(request: Request, error: Exception) -> Response:
    if isinstance(error, UploadRefused | BundleError):
        return _tell(request, 422, str(error))
    return _tell(request, 409 if isinstance(error, PermanentError) else 503, str(error))


def _tell_unexpected(request: Request, error: Exception) -> Response:
    log.error("page_failed", error=type(error).__name__)  # the text may quote patient data
    return _tell(request, 500, f"an error of the program ({type(error).__name__}); its log says where")
