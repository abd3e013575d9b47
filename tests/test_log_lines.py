"""The lines of the log that are kept at hand for the page of a series.

Covers: which series a line belongs to, how many are kept, what an error leaves of its text. Not covered: that
a page shows them (tests/web/test_api.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
import structlog

from dicom_node.log import KEPT_LINES, configure_logging, lines_of


@pytest.fixture
def log() -> Iterator[structlog.typing.FilteringBoundLogger]:
    before = structlog.get_config()
    configure_logging("json", "info")
    yield structlog.get_logger()
    structlog.configure(**before)


def new_uid() -> str:
    return f"2.25.{uuid4().int}"


def test_lines_belong_to_the_series_that_they_name_and_to_no_other(log) -> None:
    one, other = new_uid(), new_uid()
    log.info("stored", series=one, instances=3)
    log.warning("retried", job=f"{one}-0123456789abcdef", attempt=2)
    log.info("stored", series=other)
    log.debug("not told", series=one)
    assert [(line.level, line.text) for line in lines_of(one)] == [
        ("info", "stored instances=3"),
        ("warning", f"retried job={one}-0123456789abcdef attempt=2"),
    ]
    assert lines_of(new_uid()) == ()


def test_the_latest_are_kept(log) -> None:
    uid = new_uid()
    for number in range(KEPT_LINES + 5):
        log.info("line", series=uid, number=number)
    told = lines_of(uid)
    assert len(told) == KEPT_LINES
    assert told[-1].text == f"line number={KEPT_LINES + 4}"


def test_the_text_of_an_error_is_not_kept(log) -> None:
    uid = new_uid()
    try:
        int("Phantom^Brain")
    except ValueError:
        log.exception("failed", series=uid)
    (line,) = lines_of(uid)
    assert "ValueError" in line.text
    assert "Phantom" not in line.text
