"""When a failed delivery is tried again.

==========  =====================================================================
attempt     waits (at most)
==========  =====================================================================
1           ``retry_first_s``
n           twice the wait before, up to ``retry_longest_s``
==========  =====================================================================

Each wait is drawn between half and all of it, so that jobs that failed together do not come
back together. After ``retry_for_hours`` the delivery has failed.
"""

from __future__ import annotations

import random

from dicom_node.settings import Outgoing


def wait_before_retry_s(destination: Outgoing, attempt: int) -> float:
    """Draw the wait after a failed attempt (from 1), in seconds."""
    doubled = destination.retry_first_s * 2.0 ** min(attempt - 1, 32)
    return min(doubled, destination.retry_longest_s) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
