"""STOW-RS: files to a DICOMweb server (PS3.18 10.5), one instance a request.

With one instance a request, whatever an answer says is about that instance, and a limit on
the length of a request meets one file only. What an answer leaves open is asked (QIDO-RS,
PS3.18 10.6): whether the server has the instance.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog
from pydicom import dcmread
from pydicom.uid import UID, generate_uid

from dicom_node.deliver.send import (
    CLASS_NOT_SUPPORTED,
    DUPLICATE,
    NO_HOOKS,
    OUT_OF_RESOURCES,
    Hooks,
    Otherwise,
    all_choices,
    reading,
    send_each,
)
from dicom_node.deliver.web import Answer, ask
from dicom_node.errors import (
    ClassRefused,
    ConfigurationError,
    DeliveryRefused,
    DestinationUnavailable,
)
from dicom_node.settings import WebDestination

_CHUNK_BYTES = 1 << 16

# Attributes of the Store Instances Response Module (PS3.18 Table I.1-1), in DICOM JSON
_REFERENCED_SOP_SEQUENCE, _FAILED_SOP_SEQUENCE, _OTHER_FAILURES_SEQUENCE = "00081199", "00081198", "0008119A"
_REFERENCED_SOP_INSTANCE_UID, _SOP_INSTANCE_UID = "00081155", "00080018"
_WARNING_REASON, _FAILURE_REASON = "00081196", "00081197"

# Reasons (PS3.18 Tables I.2-1 and I.2-2)
_WARNINGS = {
    0xB000: "it changed some elements",
    0xB006: "it discarded some elements",
    0xB007: "it finds that the object does not match its SOP class",
}
_PROCESSING_FAILURE = 0x0110

# HTTP statuses
_CONFLICT = 409
_NOT_FOUND = 404
_COME_AGAIN = {408, 425, 429}
_CREDENTIALS_REFUSED = {401, 403}
_NO_SUCH_SERVICE = {404, 405, 501}

_log = structlog.get_logger()


def store(
    destination: WebDestination,
    paths: Sequence[Path],
    instead: Mapping[Path, Sequence[Path]] = MappingProxyType({}),
    otherwise: Otherwise | None = None,
    hooks: Hooks = NO_HOOKS,
) -> Iterator[Path]:
    """Send files in order and yield what the server has stored, one by one.

    Parameters
    ----------
    instead : for a file that the server refuses, the same in other SOP classes, in order
    otherwise : in place of all where the server refuses the first file

    Raises
    ------
    DestinationUnavailable
        No connection, no answer, 5xx, out of resources, or a file that the settings name cannot be
        used: the server may or may not have the file; send it again.
    DeliveryRefused
        The server will not take some files. The others were sent.
    ConfigurationError
        No STOW-RS service is there, or it does not let us in.
    PermanentError
        A path is no DICOM file, or not there.
    OSError
        A file cannot be read for now.
    """
    for choice in all_choices(paths, instead, otherwise):
        _instance(choice)  # nothing is sent when one of them is no DICOM file
    yield from send_each(
        lambda path: _store_one(destination, _instance(path)), paths, instead, otherwise, hooks
    )


def check(destination: WebDestination) -> None:
    """Ask for a study that nobody has: the service is there and lets us in.

    Raises
    ------
    DestinationUnavailable, ConfigurationError
    """
    answer = ask(
        destination,
        "GET",
        "/studies",
        parameters={"StudyInstanceUID": generate_uid(prefix=None), "limit": "1"},
    )
    if not 200 <= answer.status < 300:
        raise _not_usable(destination, answer.status) or DestinationUnavailable(
            f"{destination.url} answers {answer.status} to a query"
        )


@dataclass(frozen=True, slots=True)
class _Instance:
    path: Path
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: UID

    def __str__(self) -> str:
        return f"{self.path.name}, {self.sop_class_uid.name}"


@dataclass(frozen=True, slots=True)
class _Said:
    """What an answer says of the one instance that was sent.

    Attributes
    ----------
    stored : it is named as stored
    failure : the reason why not, 0 when none is given; None when it is not named as failed
    warning : the reason for a warning
    """

    stored: bool
    failure: int | None
    warning: int | None


def _instance(path: Path) -> _Instance:
    keywords = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
    with reading(path):
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
        study, series, instance = (str(getattr(header, keyword)) for keyword in keywords[:3])
        sop_class_uid = header.SOPClassUID
    return _Instance(path, study, series, instance, sop_class_uid)


def _store_one(destination: WebDestination, instance: _Instance) -> None:
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    answer = ask(
        destination,
        "POST",
        "/studies",
        headers={"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}'},
        body=_body(head, instance.path, tail),
        body_bytes=len(head) + instance.path.stat().st_size + len(tail),
    )
    if not (200 <= answer.status < 300 or answer.status == _CONFLICT):
        raise _not_usable(destination, answer.status) or _refusal(
            destination, instance, f"answers {answer.status}", None
        )
    said = _read(answer, instance)
    if said.stored:
        if said.warning:
            meaning = _WARNINGS.get(said.warning, "a reason of its own")
            _log.warning("stored_with_warning", reason=f"{said.warning:04X}H", meaning=meaning)
        return
    if said.failure == DUPLICATE:
        return
    if (said.failure is None or answer.status == _CONFLICT) and _has(destination, instance):
        return  # a conflict may mean that it was there before, whatever the reason given
    if said.failure is None and answer.status != _CONFLICT:
        raise DestinationUnavailable(f"{destination.url} does not say that it stored {instance}")
    reason = f"reason {said.failure:04X}H" if said.failure else f"answers {answer.status}"
    raise _refusal(destination, instance, reason, said.failure)


def _body(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
    yield tail


def _not_usable(
    destination: WebDestination, status: int
) -> ConfigurationError | DestinationUnavailable | None:
    """Say what a status means for every request; None when it is about this one only."""
    if status in _CREDENTIALS_REFUSED:
        return ConfigurationError(f"{destination.url} does not let us in ({status}); see its credentials")
    if status in _NO_SUCH_SERVICE or 300 <= status < 400:
        return ConfigurationError(f"{destination.url} is not where the service is ({status}); see its url")
    if status >= 500 or status in _COME_AGAIN:
        return DestinationUnavailable(f"{destination.url} is not available (answers {status})")
    return None


def _refusal(
    destination: WebDestination, instance: _Instance, reason: str, failure: int | None
) -> DeliveryRefused | DestinationUnavailable:
    text = f"{destination.url} did not store {instance} ({reason})"
    if failure == CLASS_NOT_SUPPORTED:
        return ClassRefused(text, instance.sop_class_uid)
    may_pass = failure is not None and (failure in OUT_OF_RESOURCES or failure == _PROCESSING_FAILURE)
    return DestinationUnavailable(text) if may_pass else DeliveryRefused(text)


def _read(answer: Answer, instance: _Instance) -> _Said:
    """Read a Store Instances Response Module (PS3.18 Annex I), or what a server takes for one."""
    content = answer.content[0] if isinstance(answer.content, list) and answer.content else answer.content
    failed = [*_items(content, _FAILED_SOP_SEQUENCE), *_items(content, _OTHER_FAILURES_SEQUENCE)]
    named = [
        item
        for item in _items(content, _REFERENCED_SOP_SEQUENCE)
        if _value(item, _REFERENCED_SOP_INSTANCE_UID) == instance.sop_instance_uid
    ]
    return _Said(
        stored=bool(named) and not failed,
        failure=(_number(failed[0], _FAILURE_REASON) or 0) if failed else None,
        warning=_number(named[0], _WARNING_REASON) if named else None,
    )


def _has(destination: WebDestination, instance: _Instance) -> bool:
    """Ask whether the server has the instance.

    Raises
    ------
    DestinationUnavailable
        It cannot be known.
    """
    series = f"/studies/{instance.study_instance_uid}/series/{instance.series_instance_uid}"
    parameters = {"SOPInstanceUID": instance.sop_instance_uid}
    answer = ask(destination, "GET", f"{series}/instances", parameters=parameters)
    if answer.status == _NOT_FOUND or answer.status == 204:
        return False
    if answer.status != 200 or not isinstance(answer.content, list):
        raise DestinationUnavailable(f"{destination.url} does not say whether it has {instance}")
    return any(_value(item, _SOP_INSTANCE_UID) == instance.sop_instance_uid for item in answer.content)


def _items(content: object, tag: str) -> list[object]:
    element = content.get(tag) if isinstance(content, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _value(item: object, tag: str) -> Any:  # noqa: ANN401 - whatever the server says
    values = _items(item, tag)
    return values[0] if values else None


def _number(item: object, tag: str) -> int | None:
    value = _value(item, tag)
    try:
        return int(value) if isinstance(value, int | str) else None
    except ValueError:
        return None
