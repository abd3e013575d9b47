"""Making pages: templates, their filters, and what every page shows."""

from __future__ import annotations

from pathlib import Path

from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates

from dicom_node import __version__
from dicom_node.web import words
from dicom_node.web.access.visitor import visitor_of

HERE = Path(__file__).parent
STATIC = HERE / "static"

_templates = Jinja2Templates(directory=HERE / "templates")
_templates.env.globals["version"] = __version__
_templates.env.trim_blocks = True
_templates.env.lstrip_blocks = True
_templates.env.filters.update(
    stamp=words.stamp, duration=words.duration, size=words.size, plural=words.plural, figure=words.figure
)


def page(request: Request, template: str, status: int = 200, **shown: object) -> HTMLResponse:
    """Make a page, or a part of one, from a template."""
    context = {"visitor": visitor_of(request), **shown}
    return _templates.TemplateResponse(request, template, context, status_code=status)
