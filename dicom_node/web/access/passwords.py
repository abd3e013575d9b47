"""Passwords as argon2id hashes (RFC 9106, the parameters of argon2-cffi)."""

from __future__ import annotations

import secrets
import threading
import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from dicom_node.errors import ConfigurationError

SHORTEST = 12  # characters; no other rule (NIST SP 800-63B 3.1.1)
_LONGEST = 1024
_hasher = PasswordHasher()
_few = threading.BoundedSemaphore(2)  # each takes 64 MiB and all cores


def hash_of(password: str) -> str:
    """Hash a new password.

    Raises
    ------
    ConfigurationError
        It is too short, or too long.
    """
    text = _prepared(password)
    if not SHORTEST <= len(text) <= _LONGEST:
        raise ConfigurationError(f"a password has {SHORTEST} to {_LONGEST} characters")
    with _few:
        return _hasher.hash(text)


def matches(password: str, hashed: str | None) -> bool:
    """Verify a password; without a hash (there is no such user) it takes as long, and is false."""
    text = _prepared(password)
    if len(text) > _LONGEST:
        return False
    with _few:
        try:
            _hasher.verify(hashed or hash_of_nobody(), text)
        except VerificationError:
            return False
    return hashed is not None


@cache
def hash_of_nobody() -> str:
    """The hash that is verified for somebody who is not there; made before the first login."""
    return _hasher.hash(secrets.token_urlsafe(32))


def is_outdated(hashed: str) -> bool:
    """Whether a hash was made with weaker parameters than those of now."""
    return _hasher.check_needs_rehash(hashed)


def _prepared(password: str) -> str:
    """One form for what is typed on different keyboards (RFC 8265 4.2)."""
    return unicodedata.normalize("NFC", password)
