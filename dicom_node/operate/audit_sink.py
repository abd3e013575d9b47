"""Where audit messages go: a file, or a syslog server over TLS (RFC 5424 in the framing of RFC 5425)."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.settings import Audit, Syslog

_PRIORITY = 10 * 8 + 5  # security, notice
_NAME = "dicom-node"
_MESSAGE_ID = "DICOM+RFC3881"  # PS3.15 A.6
_BOM = "\ufeff"


class File:
    """One message a line; only its owner may read it.

    Opened for each message, so that it may be rotated away.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, xml: str) -> None:
        """Append a message.

        Raises
        ------
        OSError
        """
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            left = memoryview(f"{xml}\n".encode())
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Do nothing."""


class Server:
    """A syslog server; connected to when there is something to say, and again after an error.

    Raises
    ------
    ConfigurationError
        A file of the settings cannot be used.
    """

    def __init__(self, settings: Syslog) -> None:
        self._settings = settings
        self._context = _context(settings)
        self._connection: ssl.SSLSocket | None = None

    def write(self, xml: str) -> None:
        """Send a message.

        Raises
        ------
        OSError
            It may or may not have come.
        """
        try:
            if self._connection is None or _was_closed(self._connection):
                self.close()
                self._connection = self._connect()
            self._connection.sendall(frame(xml))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> ssl.SSLSocket:
        where, timeout_s = (self._settings.host, self._settings.port), self._settings.timeout_s
        plain = socket.create_connection(where, timeout=timeout_s)
        try:
            return self._context.wrap_socket(plain, server_hostname=self._settings.host)
        except OSError:
            plain.close()
            raise


def sinks_of(settings: Audit) -> list[File | Server]:
    """Make what the settings name; ConfigurationError if it cannot be used."""
    made: list[File | Server] = []
    if settings.file is not None:
        try:
            os.close(os.open(settings.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise ConfigurationError(f"audit.file {settings.file}: {error.strerror}") from None
        made.append(File(settings.file))
    if settings.syslog is not None:
        made.append(Server(settings.syslog))
    return made


def frame(xml: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> bytes:
    """Put a message into a syslog message, and that behind its length in octets."""
    stamp = now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    header = f"<{_PRIORITY}>1 {stamp} {socket.gethostname()} {_NAME} {os.getpid()} {_MESSAGE_ID} - "
    message = f"{header}{_BOM}{xml}".encode()
    return str(len(message)).encode() + b" " + message


def _was_closed(connection: ssl.SSLSocket) -> bool:
    """Whether the server has ended it: it never says anything else."""
    timeout_s = connection.gettimeout()
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except ssl.SSLWantReadError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(timeout_s)


def _context(settings: Syslog) -> ssl.SSLContext:
    ca, certificate = settings.ca_file, settings.certificate_file
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        if certificate is not None:
            context.load_cert_chain(certificate, settings.key_file)
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            f"audit.syslog: {ca}, {certificate} or its key cannot be used (PEM)"
        ) from None
    return context
