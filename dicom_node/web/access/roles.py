"""What somebody may do."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Each may also do what the ones before it may.

    ``ANYBODY`` is given to nobody: it marks what is open without login.
    """

    ANYBODY = "anybody"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what needs the other."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


GIVEN = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)  # to users and tokens
