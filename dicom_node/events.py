"""What happens on an image's way, told to whoever wants to know: metrics, audit trail, notifications.

The stations tell; none of them knows who listens. No event carries patient data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

NOT_COMMITTED = "NotCommitted"  # as the class of an error: nothing was raised, no report came

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AssociationOpened:
    """A sender was let in; ``security`` is the TLS version, or ``none``."""

    association_id: int
    host: str
    called_ae_title: str
    calling_ae_title: str
    security: str


@dataclass(frozen=True, slots=True)
class AssociationClosed:
    """An association that was opened is over."""

    association_id: int
    released: bool


@dataclass(frozen=True, slots=True)
class AssociationRejected:
    """A sender was not let in; ``reason`` is one of :class:`dicom_node.receive.admission.Rejection`."""

    host: str
    called_ae_title: str
    calling_ae_title: str
    reason: str


@dataclass(frozen=True, slots=True)
class TLSRefused:
    """A connection did not come to be secure; ``fault`` says why, in words."""

    host: str
    port: int
    fault: str


@dataclass(frozen=True, slots=True)
class InstanceStored:
    """An image is on disk.

    Attributes
    ----------
    is_new : False for one that was there already
    is_conflict : it has other content than one that was there under its UID
    """

    association_id: int
    series_instance_uid: str
    sop_instance_uid: str
    called_ae_title: str
    path: Path
    size_bytes: int
    is_new: bool
    is_conflict: bool


@dataclass(frozen=True, slots=True)
class InstanceRefused:
    """An image was not taken; ``status`` is the answer to the sender (PS3.4 B.2.3)."""

    association_id: int
    status: int


@dataclass(frozen=True, slots=True)
class SeriesComplete:
    """A series was taken as complete, and waits."""

    job_id: str
    series_instance_uid: str
    instances: int


@dataclass(frozen=True, slots=True)
class WorkBegun:
    """A job is no longer waiting: its series is looked at."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Worked:
    """A job went through the stations.

    Attributes
    ----------
    outcome : of the analysis; ``skipped`` for a series that fits no pipeline
    error : the class of what went wrong, if the analysis failed
    timings_s : by station
    """

    job_id: str
    pipeline: str
    outcome: str
    error: str = ""
    timings_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """A job could not be done; ``final``: it will not be tried again."""

    job_id: str
    error: str
    final: bool


@dataclass(frozen=True, slots=True)
class Sending:
    """A result is about to go to a destination."""

    job_id: str
    destination: str
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A destination has a result; ``asked``: it is to commit itself to that."""

    job_id: str
    destination: str
    paths: tuple[Path, ...]
    asked: bool


@dataclass(frozen=True, slots=True)
class DeliveryFailed:
    """A result could not be sent, or was not committed; ``final``: it will not be tried again."""

    job_id: str
    destination: str
    error: str
    final: bool


@dataclass(frozen=True, slots=True)
class Committed:
    """A destination answers for a result."""

    job_id: str
    destination: str


@dataclass(frozen=True, slots=True)
class UserAuthenticated:
    """Somebody logged in to the page or the API, or tried; ``user`` is the name that was given."""

    user: str
    host: str
    succeeded: bool


@dataclass(frozen=True, slots=True)
class UserLeft:
    """Somebody logged out of the page."""

    user: str
    host: str


@dataclass(frozen=True, slots=True)
class SeriesShown:
    """Somebody looks at a series on the page; ``paths`` are of its images, or of its result."""

    user: str
    host: str
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class FilesTaken:
    """Files of a result went to somebody who asked for them on the page."""

    user: str
    host: str
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The configuration was read again; ``taken``: it was good."""

    taken: bool


Event = (
    AssociationOpened
    | AssociationClosed
    | AssociationRejected
    | TLSRefused
    | InstanceStored
    | InstanceRefused
    | SeriesComplete
    | WorkBegun
    | Worked
    | WorkFailed
    | Sending
    | Delivered
    | DeliveryFailed
    | Committed
    | UserAuthenticated
    | UserLeft
    | SeriesShown
    | FilesTaken
    | Reloaded
)
Tell = Callable[[Event], None]


def nobody(_event: Event) -> None:
    """Tell nobody."""


class Bulletin:
    """Hands each event to every listener, in the thread in which it happens.

    A listener must be quick, and its errors end here: the work goes on.
    """

    def __init__(self) -> None:
        self._listeners: list[Tell] = []

    def listen(self, listener: Tell) -> None:
        """Add a listener, before anything happens."""
        self._listeners.append(listener)

    def tell(self, event: Event) -> None:
        """Tell everybody."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("listener_failed", of=type(event).__name__)
