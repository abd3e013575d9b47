"""A mail to those whom a rule names."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterable, Mapping
from email.message import EmailMessage
from email.utils import make_msgid
from string import Template

from dicom_node.errors import ConfigurationError, DeliveryRefused, DestinationUnavailable
from dicom_node.settings import Mail, Notification

SUBJECT = "dicom-node: $occasion, series $series"
TEXT = """$occasion at $at

job      $job
series   $series (series_id in the log)
pipeline $pipeline
outcome  $outcome
to       $destination
what     $detail
do       $remedy

Research use only. Not for diagnosis.
"""


def send(rule: Notification, message: Mapping[str, object]) -> None:
    """Hand a mail to the server.

    Raises
    ------
    DestinationUnavailable
        The server does not answer, or says to come again.
    DeliveryRefused
        It will not take the mail.
    ConfigurationError
        A file or secret cannot be used.
    """
    if rule.mail is None:
        raise ConfigurationError(f"notifications.{rule.name} has no mail")
    made = compose(rule, rule.mail, message)
    try:
        _hand_in(rule.mail, made, rule.timeout_s)
    except smtplib.SMTPResponseException as error:
        kind = DestinationUnavailable if 400 <= error.smtp_code < 500 else DeliveryRefused
        raise kind(f"the mail server answers with {error.smtp_code}") from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = {code for code, _ in error.recipients.values()}
        kind = DestinationUnavailable if min(codes) < 500 else DeliveryRefused
        raise kind(f"the mail server refuses every recipient ({min(codes)})") from None
    except (smtplib.SMTPException, ssl.SSLError) as error:
        raise DestinationUnavailable(f"the mail server cannot be used ({type(error).__name__})") from None


def compose(rule: Notification, to: Mail, message: Mapping[str, object]) -> EmailMessage:
    """Fill in the templates."""
    patient = message.get("patient") or {}
    named = patient.items() if isinstance(patient, dict) else ()
    lines = "".join(f"\n{name}: {value}" for name, value in named)
    fields = {**message, "patient": lines.strip()}
    made = EmailMessage()
    subject = Template(rule.subject or SUBJECT).substitute(fields)
    made["Subject"] = " ".join(subject.split())  # no line of a header more
    made["From"], made["To"] = to.sender, ", ".join(to.to)
    made["Message-ID"] = make_msgid(idstring=str(message["id"]), domain=to.sender.rpartition("@")[2])
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence answers it
    made.set_content(Template(rule.text or TEXT).substitute(fields) + (lines if rule.text is None else ""))
    return made


def prove(rule: Notification, fields: Iterable[str]) -> None:
    """See that templates, CA and password can be used; ConfigurationError if not."""
    known = dict.fromkeys(fields, "")
    for key, text in (("subject", rule.subject), ("text", rule.text)):
        try:
            Template(text or "").substitute(known)
        except (KeyError, ValueError) as error:
            named = ", ".join(f"${name}" for name in known)
            raise ConfigurationError(
                f"notifications.{rule.name}.{key}: {error} is no field; there are {named}"
            ) from None
    if rule.mail is not None:
        _context(rule.mail)
        if rule.mail.password is not None:
            rule.mail.password.read()


def _hand_in(to: Mail, made: EmailMessage, timeout_s: float) -> None:
    if to.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(to.host, to.port, timeout=timeout_s, context=_context(to))
    else:
        server = smtplib.SMTP(to.host, to.port, timeout=timeout_s)
    with server:
        if to.security == "starttls":
            server.starttls(context=_context(to))
        if to.user is not None and to.password is not None:
            server.login(to.user, to.password.read())
        server.send_message(made)


def _context(to: Mail) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(to.ca_file) if to.ca_file else None)
    except (OSError, ssl.SSLError):
        raise ConfigurationError(f"CA file {to.ca_file} cannot be used: certificates as PEM") from None
