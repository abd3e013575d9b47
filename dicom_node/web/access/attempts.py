"""How often a login may be tried: by name, and by address.

Kept in memory: each node counts by itself, and a restart forgets.
"""

from __future__ import annotations

import math
import time
from ipaddress import IPv6Address

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from dicom_node.web.access.addresses import address_of

BY_NAME = parse("10 per 15 minutes")
BY_ADDRESS = parse("50 per 15 minutes")
_SITE = 64  # bits of an IPv6 address; the rest is one host's choice


class Attempts:
    """Counts what was tried and did not succeed."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def wait_s(self, host: str, name: str | None = None) -> int:
        """How many seconds an attempt is too early; 0 when it may be made.

        Parameters
        ----------
        name : for which it counts at once, before it is known how it ends
        """
        place = _place(host)
        if not self._limiter.test(BY_ADDRESS, place):
            return self._left_s(BY_ADDRESS, place)
        if name is not None and not self._limiter.hit(BY_NAME, name):
            return self._left_s(BY_NAME, name)
        return 0

    def failed(self, host: str) -> None:
        """Count an attempt that failed for its address: many people may have one address."""
        self._limiter.hit(BY_ADDRESS, _place(host))

    def succeeded(self, name: str) -> None:
        """Forget what was tried under a name."""
        self._limiter.clear(BY_NAME, name)

    def _left_s(self, limit: RateLimitItem, key: str) -> int:
        return max(1, math.ceil(self._limiter.get_window_stats(limit, key).reset_time - time.time()))


def _place(host: str) -> str:
    address = address_of(host)
    if isinstance(address, IPv6Address):
        return str(int(address) >> (128 - _SITE))
    return host
