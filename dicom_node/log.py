"""Structured logs on stderr, without patient data.

What libraries say is reduced to who said it and where: their texts may quote a data set.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

# How loud a library's warnings are: the node says itself what most of them mean for the work
_LIBRARIES = {
    "pynetdicom": logging.DEBUG,
    "pydicom": logging.DEBUG,
    "highdicom": logging.DEBUG,
    "py.warnings": logging.DEBUG,
    "dbos": logging.WARNING,
    "uvicorn": logging.WARNING,
}

KEPT_LINES = 100  # of one series
KEPT_SERIES = 500
_LONGEST = 500  # characters of a line
_NOT_SAID = ("event", "level", "timestamp", "series", "series_id")


class _WhereOnly(logging.Handler):
    """Tells that a library warned, and where in its code, but not what it said."""

    def __init__(self, shown_as: int) -> None:
        super().__init__(logging.WARNING)  # dbos sets the level of its logger, not of this
        self._shown_as = shown_as

    def emit(self, record: logging.LogRecord) -> None:
        where = f"{record.module}:{record.lineno}"
        structlog.get_logger().log(self._shown_as, "library_warning", library=record.name, where=where)


def configure_logging(
    form: Literal["console", "json"] = "console", level: Literal["debug", "info", "warning", "error"] = "info"
) -> None:
    """Send the node's events to stderr.

    Parameters
    ----------
    form : ``console`` for people, ``json`` for machines, one object a line
    level : the least that is shown
    """
    renderer: list[structlog.typing.Processor]
    if form == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        renderer = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _with_series_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            exception_without_text,
            _remember,
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # the stderr of the moment
    )
    logging.captureWarnings(True)
    for name, shown_as in _LIBRARIES.items():
        library = logging.getLogger(name)
        library.handlers = [_WhereOnly(shown_as)]
        library.propagate = False


def series_id(series_instance_uid: str) -> str:
    """Short name of a series in every line that is about it, from the first image to the last delivery."""
    return hashlib.blake2s(series_instance_uid.encode(), digest_size=4).hexdigest()


@dataclass(frozen=True, slots=True)
class Line:
    """What was logged of a series: as in the log, and like it without patient data."""

    at: datetime
    level: str
    text: str


class _Recent:
    """The latest lines of the series that were spoken of last, since this process began."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Line]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, series: str, line: Line) -> None:
        with self._lock:
            self._lines.setdefault(series, deque(maxlen=KEPT_LINES)).append(line)
            self._lines.move_to_end(series)
            while len(self._lines) > KEPT_SERIES:
                self._lines.popitem(last=False)

    def of(self, series: str) -> tuple[Line, ...]:
        with self._lock:
            return tuple(self._lines.get(series, ()))


_recent = _Recent()


def lines_of(series_instance_uid: str) -> tuple[Line, ...]:
    """Give the latest lines about a series, the first one first: as many as `KEPT_LINES`."""
    return _recent.of(series_id(series_instance_uid))


def _remember(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep a line about a series at hand."""
    if series := event.get("series_id"):
        said = (f"{name}={value}" for name, value in event.items() if name not in _NOT_SAID)
        text = " ".join((str(event.get("event", "")), *said))[:_LONGEST]
        line = Line(datetime.fromisoformat(str(event["timestamp"])), str(event.get("level", "")), text)
        _recent.add(str(series), line)
    return event


def _with_series_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the series' short name; a job's id begins with the series' UID."""
    uid = str(event.get("series") or event.get("job") or "").partition("-")[0]
    if uid:
        event["series_id"] = series_id(uid)
    return event


def exception_without_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace ``exc_info`` by the error's class and the place it came from."""
    if event.pop("exc_info", None):
        kind, _, trace = sys.exc_info()
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        event["error"] = kind.__name__ if kind else "unknown"
        if trace is not None:
            event["where"] = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"
    return event
