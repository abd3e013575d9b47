"""Who saw what, as it is told: once an hour for each person, place and series.

Covered: what counts as the same. Not covered: which routes tell (test_api), the messages (test_audit).
"""

from __future__ import annotations

from pathlib import Path

from fastapi import Request

from dicom_node.events import Event, SeriesShown
from dicom_node.web.access.roles import Role
from dicom_node.web.access.visitor import Visitor, set_visitor
from dicom_node.web.seen import Seen

IMAGES = [Path("1.dcm")]


def asked_by(name: str, session: str = "", host: str = "10.0.0.5") -> Request:
    scope = {"type": "http", "client": (host, 1), "headers": []}
    set_visitor(scope, Visitor(name, Role.VIEWER, session=session))
    return Request(scope)


def test_one_hour_of_looking_is_told_once() -> None:
    told: list[Event] = []
    minutes = iter(range(61))
    seen = Seen(told.append, lambda: 60.0 * next(minutes))
    for _ in range(60):
        seen.note(asked_by("anna", "a"), "1.2", IMAGES)
    assert told == [SeriesShown("anna", "10.0.0.5", (Path("1.dcm"),))]
    seen.note(asked_by("anna", "a"), "1.2", IMAGES)
    assert len(told) == 2


def test_another_series_session_person_or_place_is_told() -> None:
    told: list[Event] = []
    seen = Seen(told.append)
    seen.note(asked_by("anna", "a"), "1.2", IMAGES)
    seen.note(asked_by("anna", "a"), "1.3", IMAGES)
    seen.note(asked_by("anna", "b"), "1.2", IMAGES)
    seen.note(asked_by("bert", "c"), "1.2", IMAGES)
    seen.note(asked_by("bert", "c", "10.0.0.6"), "1.2", IMAGES)
    assert len(told) == 5


def test_without_a_login_it_is_nobody_of_a_name() -> None:
    told: list[Event] = []
    Seen(told.append).note(asked_by("", host="127.0.0.1"), "1.2", IMAGES)
    assert told == [SeriesShown("(without login)", "127.0.0.1", (Path("1.dcm"),))]
