"""What the API can do, for people: made from its OpenAPI description, without scripts of another host."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from dicom_node.web.access.needs import RoleFirst, needs
from dicom_node.web.access.roles import Role
from dicom_node.web.pages import page

router = APIRouter(route_class=RoleFirst, include_in_schema=False)


@router.get("/api")
@needs(Role.VIEWER)
def described(request: Request) -> Response:
    """Show each operation with its fields and answers."""
    schema: dict[str, Any] = request.app.openapi()
    operations = [
        {"method": method.upper(), "path": path, **operation, "fields": _fields(schema, operation)}
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    return page(request, "api.html", operations=operations)


@router.get("/api/v1/openapi.json")
@needs(Role.VIEWER)
def description(request: Request) -> Response:
    """Give the whole description (OpenAPI)."""
    return JSONResponse(request.app.openapi())


def _fields(schema: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    for kind in content.values():
        name = kind.get("schema", {}).get("$ref", "").rpartition("/")[2]
        fields: dict[str, Any] = schema["components"]["schemas"].get(name, {}).get("properties", {})
        return fields
    return {}
