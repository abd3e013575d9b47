"""One HTTP request to a DICOMweb server: authenticated, verified, and over within a time limit."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from dicom_node.errors import ConfigurationError, DestinationUnavailable
from dicom_node.settings import DestinationTLS, Settings, WebDestination
from dicom_node.tls import Note, fault_of, look_at

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
    """Send a request and read the answer. Redirects are not followed: they would carry our secrets away.

    Parameters
    ----------
    path : below the service's root, with a leading slash
    body, body_bytes : is not held in memory as a whole

    Raises
    ------
    DestinationUnavailable
        No connection, no trust in the server's certificate, no answer in time, or one that is no HTTP;
        or a file or secret that the settings name cannot be used: it may be made good meanwhile.
    """
    limit_s = 2 * destination.timeout_s + body_bytes / _SLOWEST_BYTES_PER_S
    fixed = {"Accept": DICOM_JSON, "Accept-Encoding": "identity", "Connection": "close"}
    if body is not None:
        fixed["Content-Length"] = str(body_bytes)  # not every server reads a chunked body
    try:
        with (
            # a connection for each request: an idle one that the server has closed would break the next
            httpx.Client(
                auth=_basic(destination),
                verify=_tls(destination),
                timeout=destination.timeout_s,
                trust_env=False,  # no proxy and no .netrc that the settings do not name
                follow_redirects=False,
            ) as client,
            _Deadline(limit_s) as deadline,
            _telling(destination, deadline),
            client.stream(
                method,
                f"{destination.url}{path}",
                params=parameters,
                headers={**fixed, **_bearer(destination), **(headers or {})},
                content=body,
                extensions={"trace": deadline.watch},
            ) as response,
        ):
            return Answer(response.status_code, _json(response))
    except httpx.InvalidURL:
        raise ConfigurationError(f"{destination.url} is no address of a web server") from None
    except ConfigurationError as error:
        raise DestinationUnavailable(f"{destination.url} cannot be asked: {error}") from error


def look_at_web(settings: Settings) -> list[Note]:
    """Prove every file and secret of DICOMweb destinations, and say what is to be said of them.

    Raises
    ------
    ConfigurationError
        One cannot be used.
    """
    return [
        note for each in settings.destinations if isinstance(each, WebDestination) for note in _look_at(each)
    ]


def _look_at(destination: WebDestination) -> Iterator[Note]:
    _tls(destination)
    if destination.ca_file is not None:
        yield from look_at(
            DestinationTLS(
                ca_file=destination.ca_file,
                certificate_file=destination.certificate_file,
                key_file=destination.key_file,
            )
        )
    for secret in (destination.token, destination.password):
        if secret is not None:
            secret.read()
            if secret.file is not None and secret.file.stat().st_mode & 0o007:
                yield Note(f"{secret.file} can be read by every user: chmod o= {secret.file}", True)
    if not destination.is_encrypted:
        open_to_all = "images and secrets" if destination.token or destination.user else "images"
        yield Note(f"{destination.url}: {open_to_all} go over the network unencrypted; use https", True)


class _Deadline:
    """Cuts a connection after a time: the limits of httpx are for each read, and a byte resets them."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.has_passed = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Learn the socket from httpx's trace."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.has_passed:
                self._cut()

    def _cut(self) -> None:
        self.has_passed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # of the TCP socket: SSLSocket.shutdown would take TLS away under the reading thread
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


@contextlib.contextmanager
def _telling(destination: WebDestination, deadline: _Deadline) -> Generator[None]:
    """Say what went wrong in our words: those of a library may quote an answer or a header."""
    url, timeout_s = destination.url, destination.timeout_s
    try:
        yield
    except httpx.HTTPError as error:
        cause = _system_error(error)
        if deadline.has_passed:
            reason = f"took longer than {deadline.seconds:.3g} s"
        elif isinstance(cause, ssl.SSLError):
            reason = f"cannot be reached over TLS: {fault_of(cause)}"
        elif isinstance(error, httpx.TimeoutException):
            reason = f"did not answer within {timeout_s:g} s"
        elif isinstance(error, httpx.ConnectError):
            reason = f"cannot be reached{f' ({cause.strerror})' if cause and cause.strerror else ''}"
        elif isinstance(error, httpx.NetworkError):
            reason = "broke the connection"
        else:
            reason = "gave no whole answer in HTTP"
        raise DestinationUnavailable(f"{url} {reason}") from None


def _system_error(error: BaseException) -> OSError | None:
    """Find what the operating system or OpenSSL said."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, OSError):
            return current
        current = current.__cause__ or current.__context__
    return None


def _basic(destination: WebDestination) -> httpx.BasicAuth | None:
    if destination.user is None or destination.password is None:
        return None
    return httpx.BasicAuth(destination.user, destination.password.read())


def _bearer(destination: WebDestination) -> dict[str, str]:
    return {"Authorization": f"Bearer {destination.token.read()}"} if destination.token else {}


def _tls(destination: WebDestination) -> ssl.SSLContext | bool:
    if not destination.is_encrypted:
        return True  # nothing to verify
    try:
        context = ssl.create_default_context(cafile=destination.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"ca_file {destination.ca_file}: {_said(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if destination.certificate_file is not None:
        try:
            context.load_cert_chain(destination.certificate_file, destination.key_file)
        except (OSError, ssl.SSLError) as error:
            where = f"certificate_file {destination.certificate_file}"
            raise ConfigurationError(f"{where}: {_said(error)}") from None
    return context


def _said(error: OSError) -> str:
    return "no certificates in PEM" if isinstance(error, ssl.SSLError) else str(error.strerror)


def _json(response: httpx.Response) -> Any:  # noqa: ANN401 - whatever the server says
    encoded = bytearray()
    for piece in response.iter_raw():
        encoded += piece
        if len(encoded) > _LONGEST_ANSWER_BYTES:
            return None
    try:
        return json.loads(encoded)
    except (ValueError, RecursionError):
        return None
