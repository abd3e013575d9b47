"""How the node is watched: metrics, audit trail, notifications."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveFloat, model_validator

from dicom_node.settings.fields import Name, Port, Secret, Section, UserName, need_together

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _hook_address(value: str) -> str:
    wanted = "https://HOST/PATH, or http:// to this machine"
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    is_secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not is_secure or not parts.hostname or parts.fragment:
        raise ValueError(wanted)
    if "@" in parts.netloc:
        raise ValueError("no user or password in it; the receiver checks the signature")
    return value


def _mailbox(value: str) -> str:
    local, at, domain = value.rpartition("@")
    if not (at and local and domain and value.isascii() and value.isprintable() and " " not in value):
        raise ValueError("an address such as reading-room@hospital.example")
    return value


HookAddress = Annotated[str, AfterValidator(_hook_address)]
Mailbox = Annotated[str, AfterValidator(_mailbox)]
Occasion = Literal["finding", "failure", "dead letter"]


class Operate(Section):
    """A listener of its own for ``/metrics``, ``/health`` and ``/ready``, which the page has too.

    Attributes
    ----------
    host : 127.0.0.1 is this machine only
    port : without it there is no such listener
    """

    host: str = "127.0.0.1"
    port: Port | None = None


class Syslog(Section):
    """A syslog server over TLS (RFC 5425).

    Attributes
    ----------
    host, port : where it listens; its certificate must name the host
    ca_file : certificates (PEM) of those who may have signed the server's; the system's unless set
    certificate_file, key_file : ours (PEM), for a server that asks for one
    timeout_s : for connecting and for each message
    """

    host: str
    port: Port = 6514
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    timeout_s: PositiveFloat = 10.0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        need_together(self, "certificate_file", "key_file")
        return self


class Audit(Section):
    """The audit trail (PS3.15 A.5); off unless one of the two is set. It names patients.

    Attributes
    ----------
    file : one XML message a line
    source : names this node in each message
    """

    file: Path | None = None
    syslog: Syslog | None = None
    source: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,48}$")] = "dicom-node"


class Webhook(Section):
    """Gets a POST with JSON, signed.

    Attributes
    ----------
    url : https://, or http:// to this machine
    secret : of the signature (HMAC-SHA256); without it none is sent
    ca_file : certificates (PEM) of those who may have signed the server's; the system's unless set
    """

    url: HookAddress
    secret: Secret | None = None
    ca_file: Path | None = None


class Mail(Section):
    """An SMTP server and who gets the message.

    Attributes
    ----------
    host, port : of the server
    sender, to : addresses
    user, password : where the server asks for them
    security : ``none`` is for a server on this machine
    ca_file : certificates (PEM) of those who may have signed the server's; the system's unless set
    """

    host: str
    port: Port = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: Mailbox
    to: Annotated[tuple[Mailbox, ...], Field(min_length=1)]
    user: UserName | None = None
    password: Secret | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        need_together(self, "user", "password")
        if self.security == "none" and self.host not in _LOOPBACK:
            raise ValueError('security = "none" is for a server on this machine')
        return self


class Notification(Section):
    """Who is told of what.

    Attributes
    ----------
    name : in the log
    timeout_s : for connecting and for each answer
    on : a result with a lesion; an analysis that failed; a result that was given up or not committed
    subject, text : templates of a mail, with ``$name`` of each field of the message
    patient_data : whether the message has the patient's id, accession number and UIDs
    retry_first_s, retry_longest_s, retry_for_hours : exponential backoff with jitter
    """

    name: Name
    on: Annotated[tuple[Occasion, ...], Field(min_length=1)]
    webhook: Webhook | None = None
    mail: Mail | None = None
    subject: str | None = None
    text: str | None = None
    patient_data: bool = False
    timeout_s: PositiveFloat = 20.0
    retry_first_s: PositiveFloat = 5.0
    retry_longest_s: PositiveFloat = 600.0
    retry_for_hours: PositiveFloat = 72.0

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.webhook is None) == (self.mail is None):
            raise ValueError("either webhook or mail")
        if self.mail is None and (self.subject is not None or self.text is not None):
            raise ValueError("subject and text are a mail's; a webhook gets JSON")
        return self
