"""HTTP to a server that the settings name: authenticated, verified, and each request over within a time.

The transport of DICOMweb destinations and of inference servers; neither says here what it speaks.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from dicom_node.errors import ConfigurationError, TransientError
from dicom_node.settings import DestinationTLS, Settings, WebDestination, WebService
from dicom_node.tls import Note, fault_of, look_at


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer.

    Attributes
    ----------
    status : of HTTP
    headers : by name, in lower case
    content : None when it was longer than was asked for
    """

    status: int
    headers: Mapping[str, str]
    content: bytes | None


class Connection:
    """A connection to a server, for requests that follow each other closely; a context manager.

    Not for more than one thread. One that was idle may have been closed by the server, which breaks
    the next request.

    Parameters
    ----------
    unavailable : makes of a reason, which begins with the url, the error for a server that is not to be had

    Raises
    ------
    TransientError
        A file or secret that the settings name cannot be used: it may be made good meanwhile.
    """

    def __init__(self, service: WebService, unavailable: Callable[[str], TransientError]) -> None:
        self._service, self._unavailable = service, unavailable
        self._socket: socket.socket | None = None
        try:
            self._client = httpx.Client(
                auth=_basic(service),
                headers={"Accept-Encoding": "identity", **_bearer(service)},
                verify=_tls(service),
                timeout=service.timeout_s,
                trust_env=False,  # no proxy and no .netrc that the settings do not name
                follow_redirects=False,  # they would carry our secrets away
            )
        except ConfigurationError as error:
            raise unavailable(f"{service.url} cannot be asked: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._client.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        limit_s: float,
        longest_bytes: int,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Iterable[bytes] | bytes | None = None,
    ) -> Reply:
        """Send a request and read the answer.

        Parameters
        ----------
        path : below the service's root, with a leading slash
        limit_s : of the whole exchange
        longest_bytes : of an answer that is kept

        Raises
        ------
        TransientError
            No connection, no trust in the server's certificate, no answer in time, or one that is no
            HTTP.
        ConfigurationError
            The url cannot be used.
        """
        try:
            with (
                _Deadline(limit_s, self._cut) as deadline,
                self._telling(deadline),
                self._client.stream(
                    method,
                    f"{self._service.url}{path}",
                    params=parameters,
                    headers=headers,
                    content=body,
                    extensions={"trace": self._watching(deadline)},
                ) as response,
            ):
                content = _read(response, longest_bytes)
                return Reply(response.status_code, dict(response.headers), content)
        except httpx.InvalidURL:
            raise ConfigurationError(f"{self._service.url} is no address of a web server") from None

    def _watching(self, deadline: _Deadline) -> Callable[[str, Mapping[str, Any]], None]:
        """Learn the socket from httpx's trace."""

        def watch(event: str, info: Mapping[str, Any]) -> None:
            if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
                self._socket = info["return_value"].get_extra_info("socket")
                if deadline.has_passed:
                    self._cut()

        return watch

    def _cut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # of the TCP socket: SSLSocket.shutdown would take TLS away under the reading thread
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _telling(self, deadline: _Deadline) -> Generator[None]:
        """Say what went wrong in our words: those of a library may quote an answer or a header."""
        url, timeout_s = self._service.url, self._service.timeout_s
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
            raise self._unavailable(f"{url} {reason}") from None


class _Deadline:
    """Cuts a connection after a time: the limits of httpx are for each read, and a byte resets them."""

    def __init__(self, seconds: float, cut: Callable[[], None]) -> None:
        self.seconds = seconds
        self.has_passed = False
        self._cut = cut
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def _pass(self) -> None:
        self.has_passed = True
        self._cut()


def look_at_web(settings: Settings) -> list[Note]:
    """Prove every file and secret of web servers, and say what is to be said of them.

    Raises
    ------
    ConfigurationError
        One cannot be used.
    """
    services: list[WebService] = [d for d in settings.destinations if isinstance(d, WebDestination)]
    if settings.analysis.remote is not None:
        services.append(settings.analysis.remote)
    return [note for each in services for note in _look_at(each)]


def _look_at(service: WebService) -> Iterator[Note]:
    _tls(service)
    if service.ca_file is not None:
        yield from look_at(
            DestinationTLS(
                ca_file=service.ca_file,
                certificate_file=service.certificate_file,
                key_file=service.key_file,
            )
        )
    for secret in (service.token, service.password):
        if secret is not None:
            secret.read()
            if secret.file is not None and secret.file.stat().st_mode & 0o007:
                yield Note(f"{secret.file} can be read by every user: chmod o= {secret.file}", True)
    if not service.is_encrypted:
        open_to_all = "images and secrets" if service.token or service.user else "images"
        yield Note(f"{service.url}: {open_to_all} go over the network unencrypted; use https", True)


def _system_error(error: BaseException) -> OSError | None:
    """Find what the operating system or OpenSSL said."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, OSError):
            return current
        current = current.__cause__ or current.__context__
    return None


def _basic(service: WebService) -> httpx.BasicAuth | None:
    if service.user is None or service.password is None:
        return None
    return httpx.BasicAuth(service.user, service.password.read())


def _bearer(service: WebService) -> dict[str, str]:
    return {"Authorization": f"Bearer {service.token.read()}"} if service.token else {}


def _tls(service: WebService) -> ssl.SSLContext | bool:
    if not service.is_encrypted:
        return True  # nothing to verify
    try:
        context = ssl.create_default_context(cafile=service.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"ca_file {service.ca_file}: {_said(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if service.certificate_file is not None:
        try:
            context.load_cert_chain(service.certificate_file, service.key_file)
        except (OSError, ssl.SSLError) as error:
            where = f"certificate_file {service.certificate_file}"
            raise ConfigurationError(f"{where}: {_said(error)}") from None
    return context


def _said(error: OSError) -> str:
    return "no certificates in PEM" if isinstance(error, ssl.SSLError) else str(error.strerror)


def _read(response: httpx.Response, longest_bytes: int) -> bytes | None:
    encoded = bytearray()
    for piece in response.iter_raw():
        encoded += piece
        if len(encoded) > longest_bytes:
            return None
    return bytes(encoded)
