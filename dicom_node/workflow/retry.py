"""When work that met a transient error is tried again, and when it is given up.

==========  =====================================================================
attempt     is followed by a wait of at most
==========  =====================================================================
1           ``first_s``
n           twice the wait before, up to ``longest_s``
==========  =====================================================================

Each wait is drawn between half and all of it, so that jobs that failed together do not come
back together. The age of the work is the sum of its waits and of the time that the attempts
took: neither a clock that is set nor the hours in which the node was down count.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Self

from dicom_node.settings import Outgoing

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How long and how often.

    Attributes
    ----------
    first_s, longest_s : of the waits
    for_s : the age at which the work is given up
    attempts : after so many it is given up; 0 for any number
    """

    first_s: float
    longest_s: float
    for_s: float
    attempts: int = 0

    @classmethod
    def of(cls, destination: Outgoing) -> Self:
        """As the settings of a destination say."""
        return cls(
            destination.retry_first_s,
            destination.retry_longest_s,
            destination.retry_for_hours * HOUR_S,
            destination.retry_attempts,
        )

    def wait_s(self, attempt: int, age_s: float) -> float | None:
        """Draw the wait after a failed attempt (from 1); None when the work is to be given up.

        Parameters
        ----------
        age_s : of the work, this attempt included
        """
        if self.attempts and attempt >= self.attempts:
            return None
        longest_s = min(self.first_s * 2.0 ** min(attempt - 1, 32), self.longest_s)
        wait_s = longest_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        return None if age_s + wait_s > self.for_s else wait_s


OF_A_JOB = Policy(first_s=10.0, longest_s=600.0, for_s=72 * HOUR_S)
"""A job whose disk is full or failing."""
