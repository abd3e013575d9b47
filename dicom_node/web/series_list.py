"""The list of series: search, filters, pages, and what is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import Field

from dicom_node.web.access.needs import RoleFirst, needs
from dicom_node.web.access.roles import Role
from dicom_node.web.node_view import NodeView, View
from dicom_node.web.pages import page
from dicom_node.web.patients import Patient, Patients
from dicom_node.web.status import Status, status_of
from dicom_node.workflow.entry import Entry
from dicom_node.workflow.listing import Group, Wanted, condition_of
from dicom_node.workflow.worked import Outcome

PAGE = 50
_TEXT = 100  # longer searches are cut

Number = Annotated[int, Field(ge=0, lt=1 << 63)]
"""Of a job in the book."""

router = APIRouter(route_class=RoleFirst, include_in_schema=False)
_patients = Patients()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list."""

    entry: Entry
    status: Status
    patient: Patient


@dataclass(frozen=True, slots=True)
class Arriving:
    """A series of which images come."""

    series_instance_uid: str
    images: int
    patient: Patient


@router.get("/series")
@needs(Role.VIEWER)
def series(request: Request, node: View, group: Group = Group.ALL, before: Number | None = None) -> Response:
    """Show the list."""
    return _answer(request, node, "series.html", Wanted(group), before)


# What is searched for may be patient data, so it is not part of an address
@router.post("/series")
@needs(Role.VIEWER)
def search(
    request: Request,
    node: View,
    group: Annotated[Group, Form()] = Group.ALL,
    outcome: Annotated[Outcome | None, Form()] = None,
    pipeline: Annotated[str, Form()] = "",
    text: Annotated[str, Form()] = "",
    before: Annotated[Number | None, Form()] = None,
    after: Annotated[Number | None, Form()] = None,
) -> Response:
    """Show what is searched for: a page, or for a script its rows alone."""
    wanted = Wanted(group, text[:_TEXT].strip(), pipeline, outcome)
    part = request.headers.get("x-part") == "rows"
    return _answer(request, node, "series_rows.html" if part else "series.html", wanted, before, after)


def _answer(
    request: Request,
    node: NodeView,
    template: str,
    wanted: Wanted,
    before: int | None = None,
    after: int | None = None,
) -> Response:
    entries = node.ledger.page(condition_of(wanted), before=before, after=after, limit=PAGE + 1)
    more = len(entries) > PAGE
    shown = entries[-PAGE:] if after is not None else entries[:PAGE]
    first_page = before is None and after is None
    return page(
        request,
        template,
        rows=[row_of(node, entry) for entry in shown],
        arriving=arriving(node) if first_page and wanted in (Wanted(), Wanted(Group.UNDER_WAY)) else [],
        wanted=wanted,
        groups=list(Group),
        outcomes=list(Outcome),
        receive=node.settings.receive,
        pipelines=[pipeline.name for pipeline in node.settings.pipelines],
        older=shown[-1].number if shown and (more or after is not None) else None,
        newer=shown[0].number if shown and (before is not None or (after is not None and more)) else None,
    )


def row_of(node: NodeView, entry: Entry) -> Row:
    """Say of a series what the list shows."""
    stage = node.stations.progress.of(entry.job_id)
    return Row(entry, status_of(entry, stage), patient_of(node, entry.series_instance_uid))


def patient_of(node: NodeView, series_instance_uid: str) -> Patient:
    """Whose a series is, as far as its images are here."""
    return _patients.of(series_instance_uid, lambda: node.spool.instances(series_instance_uid))


def arriving(node: NodeView) -> Sequence[Arriving]:
    """List the series of which images come, and which nobody has taken as complete yet."""
    found = []
    for uid in node.completion.arriving()[:PAGE]:
        if not node.ledger.entries(series_instance_uid=uid, limit=1):
            found.append(Arriving(uid, len(node.spool.instances(uid)), patient_of(node, uid)))
    return found
