"""A POST with JSON, signed so that its receiver knows who sent it and that it is fresh.

The headers: ``X-Dicom-Node-Timestamp`` is in seconds since 1970, ``X-Dicom-Node-Signature`` is ``sha256=``
and the hex digits of HMAC-SHA256 over timestamp, a full stop, and the body.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
import time

import httpx

from dicom_node.errors import ConfigurationError, DeliveryRefused, DestinationUnavailable
from dicom_node.settings import Webhook

_LATER = {408, 425, 429}


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Make the signature."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def post(hook: Webhook, body: bytes, timeout_s: float) -> None:
    """Post once.

    Raises
    ------
    DestinationUnavailable
        It does not answer, or says to come again.
    DeliveryRefused
        It will not take it.
    ConfigurationError
        A file cannot be used.
    """
    headers = {"Content-Type": "application/json"}
    if hook.secret is not None:
        now = int(time.time())
        headers["X-Dicom-Node-Timestamp"] = str(now)
        headers["X-Dicom-Node-Signature"] = sign(hook.secret.read(), now, body)
    try:
        with httpx.Client(verify=_context(hook), timeout=timeout_s, trust_env=False) as client:
            status = client.post(hook.url, content=body, headers=headers).status_code
    except httpx.HTTPError as error:
        raise DestinationUnavailable(f"the webhook does not answer ({type(error).__name__})") from None
    if status in _LATER or status >= 500:
        raise DestinationUnavailable(f"the webhook answers with status {status}")
    if not 200 <= status < 300:
        raise DeliveryRefused(f"the webhook refuses with status {status}")


def prove(hook: Webhook) -> None:
    """See that secret and CA can be read; ConfigurationError if not."""
    _context(hook)
    if hook.secret is not None:
        hook.secret.read()


def _context(hook: Webhook) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(hook.ca_file) if hook.ca_file else None)
    except (OSError, ssl.SSLError):
        raise ConfigurationError(f"CA file {hook.ca_file} cannot be used: certificates as PEM") from None
