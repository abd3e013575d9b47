"""The cookie of a session: for this host and no script, sent by no other site's page."""

from __future__ import annotations

from fastapi.responses import Response

_NAME = "dicom-node"
_ERRAND = "-errand"
_ERRAND_S = 600  # to log in at the provider


def cookie_name(is_secure: bool) -> str:
    """With ``__Host-`` browsers take it over https only, from this very host (RFC 6265bis 4.1.3.2)."""
    return f"__Host-{_NAME}" if is_secure else _NAME


def keep(answer: Response, secret: str, *, is_secure: bool) -> None:
    """Give a browser its session; forgotten when the browser is closed."""
    answer.set_cookie(cookie_name(is_secure), secret, httponly=True, secure=is_secure, samesite="strict")


def forget(answer: Response, *, is_secure: bool) -> None:
    """Take a session from a browser."""
    answer.delete_cookie(cookie_name(is_secure), httponly=True, secure=is_secure, samesite="strict")


def errand_name(is_secure: bool) -> str:
    """Of the cookie of a browser that is at the provider."""
    return cookie_name(is_secure) + _ERRAND


def send_off(answer: Response, errand: str, *, is_secure: bool) -> None:
    """Give a browser its errand; the provider sends it back from another site, so it may not be strict."""
    answer.set_cookie(
        errand_name(is_secure), errand, _ERRAND_S, httponly=True, secure=is_secure, samesite="lax"
    )


def done(answer: Response, *, is_secure: bool) -> None:
    """Take its errand from a browser."""
    answer.delete_cookie(errand_name(is_secure), httponly=True, secure=is_secure, samesite="lax")
