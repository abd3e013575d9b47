"""TLS for DICOM (PS3.15 B.12, BCP 195): contexts from files, their state, and faults in plain words.

TLS 1.2 and 1.3. Files are read for each new association, so that a renewed certificate needs no
restart. Certificate revocation lists are not looked at.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, TypeVar

import structlog

from dicom_node.errors import ConfigurationError
from dicom_node.settings import Destination, DestinationTLS, ReceiveTLS, Settings

# Of TLS 1.2 (RFC 9325 4.2): forward secrecy and authenticated encryption only. All suites of 1.3 are good
SUITES_OF_1_2 = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
_SOON_DAYS = 30

# Codes of X509_verify_cert; what is not here is a chain that does not end in ca_file
_CERTIFICATE_FAULTS = {
    7: "carries a signature that is not by the key of the CA that it names",
    9: "is not valid yet; look at its dates and at both clocks",
    10: "has expired; renew it",
    26: "is not made for this use (its extended key usage)",
    62: "is for another name; set server_name to the one that it is for",
    64: "is for another address; set server_name to the name that it is for",
}
_UNSIGNED = "is signed by nobody in ca_file; add the CA that signed it"
# Ends of OpenSSL's reasons. An alert is what the peer objects to
_FAULTS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate; give it one, or do not require it",
    "UNSUPPORTED_PROTOCOL": "it speaks nothing newer than TLS 1.1; update it",
    "PROTOCOL_VERSION": "it speaks no TLS version that we do (1.2 and 1.3); update it",
    "NO_SHARED_CIPHER": "it has no cipher suite of BCP 195 (ECDHE, AES-GCM); set its TLS profile",
    "HANDSHAKE_FAILURE": "it finds no cipher suite in common; set its TLS profile to BCP 195",
    "WRONG_VERSION_NUMBER": "it does not answer in TLS; switch TLS on there, or off here",
    "ALERT_UNKNOWN_CA": "it does not trust the CA of our certificate; add that CA there",
    "ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired; renew it",
    "ALERT_CERTIFICATE_REQUIRED": "it asks for our certificate; set certificate_file and key_file",
    "ALERT_BAD_CERTIFICATE": "it does not take our certificate; look at its log",
    "ALERT_CERTIFICATE_UNKNOWN": "it does not take our certificate; look at its log",
    "ALERT_UNSUPPORTED_CERTIFICATE": "it does not take our certificate for this use (extended key usage)",
}

C = TypeVar("C", bound=ssl.SSLContext)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be said of a file."""

    text: str
    is_warning: bool = False


class ServerTLS:
    """The context for the connections that come in.

    Raises
    ------
    ConfigurationError
        A file cannot be used.
    """

    def __init__(self, settings: ReceiveTLS) -> None:
        self._settings = settings
        self._files = (settings.certificate_file, settings.key_file, settings.ca_file)
        self._reading = threading.Lock()
        self._stamps = self._look()
        self._context = _server_context(settings)

    def context(self) -> ssl.SSLContext:
        """Return the context; the files are read again when they were changed.

        What cannot be used is told, and the context before it serves on.
        """
        with self._reading:
            stamps = self._look()
            if stamps != self._stamps:
                self._stamps = stamps
                try:
                    self._context = _server_context(self._settings)
                    _log.info("tls_files_read_again")
                except ConfigurationError as error:
                    _log.error("tls_files_unusable", reason=str(error), remedy="the files before serve on")
            return self._context

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._files if path]


class ClientContext(ssl.SSLContext):
    """A context for one connection to a destination, which keeps what went wrong.

    Attributes
    ----------
    fault : what OpenSSL or the network said, which pynetdicom does not hand on
    timeout_s : for each wait; pynetdicom would wait for ever once connected
    """

    fault: OSError | None = None
    timeout_s: float | None = None
    connection: ssl.SSLSocket | None = None

    def close(self) -> None:
        """Close the connection, which pynetdicom lets go of open when it did not come about."""
        if self.connection is not None:
            self.connection.close()


class _TellingSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        if isinstance(self.context, ClientContext):
            self.context.connection = self
        try:
            super().do_handshake(block)
        except OSError as error:
            self._keep(error)
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ssl.SSLError as error:  # in TLS 1.3 the peer judges our certificate after the handshake
            self._keep(error)
            raise

    def settimeout(self, value: float | None) -> None:
        context = self.context
        super().settimeout(
            context.timeout_s if value is None and isinstance(context, ClientContext) else value
        )

    def _keep(self, error: OSError) -> None:
        if isinstance(self.context, ClientContext):
            self.context.fault = error


ClientContext.sslsocket_class = _TellingSocket


def client_context(tls: DestinationTLS, timeout_s: float) -> ClientContext:
    """Make a context for one connection; the name is checked against its ``server_hostname``.

    Raises
    ------
    ConfigurationError
        A file cannot be used.
    """
    context = _common(ClientContext(ssl.PROTOCOL_TLS_CLIENT))
    context.timeout_s = timeout_s
    context.check_hostname = tls.check_name
    if tls.certificate_file and tls.key_file:
        _load_own(context, tls.certificate_file, tls.key_file)
    _load_ca(context, tls.ca_file)
    return context


def fault_of(error: OSError) -> str:
    """Say in plain words why a handshake failed, and what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate {_CERTIFICATE_FAULTS.get(error.verify_code, _UNSIGNED)}"
    if isinstance(error, TimeoutError):
        return "it does not go on with the TLS handshake"
    if isinstance(error, ssl.SSLEOFError | ConnectionError):
        return "it closed the connection within the TLS handshake; its log may say why"
    if isinstance(error, ssl.SSLError) and error.reason:
        told = next((text for end, text in _FAULTS.items() if error.reason.endswith(end)), None)
        return told or f"the TLS handshake failed ({error.reason.replace('_', ' ').lower()})"
    return f"the TLS handshake failed ({type(error).__name__})"


def look_at_all(settings: Settings) -> list[Note]:
    """Prove every file of TLS over DICOM and of the page that the settings name.

    Raises
    ------
    ConfigurationError
        A file cannot be used.
    """
    page = settings.web.tls if settings.web.enabled else None
    outgoing = (d.tls for d in settings.destinations if isinstance(d, Destination))
    sections = [settings.receive.tls, page, *outgoing]
    notes = [note for tls in sections if tls for note in look_at(tls)]
    return list(dict.fromkeys(notes))


def look_at(tls: ReceiveTLS | DestinationTLS) -> list[Note]:
    """Prove the files that a section names, and say until when they are valid.

    Raises
    ------
    ConfigurationError
        A file cannot be used.
    """
    if isinstance(tls, ReceiveTLS):
        _server_context(tls)
    else:
        client_context(tls, 0.0)
    notes: list[Note] = []
    for what, path in (("certificate", tls.certificate_file), ("CA", tls.ca_file)):
        if path:
            notes += [_dated(f"{what} {path}", until) for until in _ends(path)]
    # The group may be one of its own, such as ssl-cert; everybody is not
    if tls.key_file and tls.key_file.stat().st_mode & 0o007:
        notes.append(Note(f"key {tls.key_file} can be read by every user: chmod o= {tls.key_file}", True))
    return notes


def _ends(path: Path) -> list[datetime]:
    from cryptography import x509

    return [each.not_valid_after_utc for each in x509.load_pem_x509_certificates(path.read_bytes())]


def _dated(what: str, until: datetime) -> Note:
    days = (until - datetime.now(UTC)).total_seconds() / 86400
    day = f"{until:%Y-%m-%d}"
    if days < 0:
        return Note(f"{what} expired on {day}: peers will refuse it; renew it", True)
    if days < _SOON_DAYS:
        return Note(f"{what} expires on {day}, in {int(days)} days: renew it", True)
    return Note(f"{what} is valid until {day}")


def _server_context(tls: ReceiveTLS) -> ssl.SSLContext:
    context = _common(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    # Each connection proves itself anew: a resumed session would outlive its certificate
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    _load_own(context, tls.certificate_file, tls.key_file)
    if tls.ca_file:
        _load_ca(context, tls.ca_file)
        required = tls.clients == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def _common(context: C) -> C:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(SUITES_OF_1_2))
    # PDUs tell where they end, and few peers say goodbye in TLS before they close
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    # What is in ca_file is trusted, also where it is the peer's own certificate
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    def refuse() -> NoReturn:
        raise ConfigurationError(f"{key} has a passphrase, which a service cannot be asked for; remove it")

    for path in (certificate, key):
        _need(path)
    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            raise ConfigurationError(f"{key} is not the key of {certificate}") from None
        what = f"{certificate} and {key} are not a certificate and its key in PEM"
        raise ConfigurationError(what) from None


def _load_ca(context: ssl.SSLContext, path: Path) -> None:
    _need(path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigurationError(f"{path} holds no certificate in PEM") from None


def _need(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
