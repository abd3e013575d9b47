"""One HTTP request to a DICOMweb server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dicom_node.errors import DestinationUnavailable
from dicom_node.http_client import Connection
from dicom_node.settings import WebDestination

DICOM_JSON = "application/dicom+json"

# A body may take as long as this speed asks for; the time limits of single reads and writes come on top
_SLOWEST_BYTES_PER_S = 10_000
_LONGEST_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer.

    Attributes
    ----------
    status : of HTTP
    content : the decoded JSON; None when there is none, or what came is none
    """

    status: int
    content: Any


def ask(
    destination: WebDestination,
    method: str,
    path: str,
    *,
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: Iterable[bytes] | None = None,
    body_bytes: int = 0,
) -> Answer:
    """Send a request and read the answer, on a connection of its own.

    Parameters
    ----------
    path : below the service's root, with a leading slash
    body, body_bytes : is not held in memory as a whole

    Raises
    ------
    DestinationUnavailable
        No connection, no trust in the server's certificate, no answer in time, or one that is no HTTP;
        or a file or secret that the settings name cannot be used: it may be made good meanwhile.
    ConfigurationError
        The url cannot be used.
    """
    fixed = {"Accept": DICOM_JSON, "Connection": "close"}
    if body is not None:
        fixed["Content-Length"] = str(body_bytes)  # not every server reads a chunked body
    with Connection(destination, DestinationUnavailable) as connection:
        reply = connection.request(
            method,
            path,
            limit_s=2 * destination.timeout_s + body_bytes / _SLOWEST_BYTES_PER_S,
            longest_bytes=_LONGEST_ANSWER_BYTES,
            parameters=parameters,
            headers={**fixed, **(headers or {})},
            body=body,
        )
    try:
        return Answer(reply.status, json.loads(reply.content or b""))
    except (ValueError, RecursionError):
        return Answer(reply.status, None)
