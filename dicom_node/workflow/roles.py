"""What a process of the node does: all of it, or a part where several share a database and a folder.

========  =============================================================================
receive   the C-STORE SCP; when a series is complete; reports on storage commitment
analyse   series from the queue, one at a time; the only role that loads models
deliver   results to destinations, requests for storage commitment and what follows
========  =============================================================================

What is nobody's part (orders of operators, repairs of the book, retention) is done by one of the
processes, whatever its roles.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from enum import StrEnum

from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings


class Role(StrEnum):
    """A part of the way of an image."""

    RECEIVE = "receive"
    ANALYSE = "analyse"
    DELIVER = "deliver"


Roles = frozenset[Role]
ALL: Roles = frozenset(Role)


def roles_of(words: Iterable[str]) -> Roles:
    """Read roles, each word one or several with commas between; none is all.

    Raises
    ------
    ConfigurationError
    """
    named = {part.strip() for word in words for part in word.split(",")} - {""}
    for name in sorted(named - {"all", *Role}):
        raise ConfigurationError(f"--role {name}: the roles are all, {', '.join(Role)}")
    return ALL if not named or "all" in named else frozenset(map(Role, named))


def need_server(settings: Settings, roles: Roles) -> None:
    """See that a part of the work is not done where nobody can do the rest.

    Raises
    ------
    ConfigurationError
    """
    if roles != ALL and settings.database.url is None:
        raise ConfigurationError(
            f"--role {','.join(sorted(roles))}: several processes share their work in a PostgreSQL: set "
            "database.url, or run all roles in one process"
        )


def executor_of(settings: Settings, roles: Roles) -> str:
    """Name this process among those that share a database: the same at each start, and no other's."""
    if settings.database.url is None:
        return "node"  # as ever: its workflows are in the folder's own file
    if settings.database.executor is not None:
        return settings.database.executor
    host = re.sub(r"[^a-z0-9_-]", "-", socket.gethostname().lower())
    return f"{host}-{'all' if roles == ALL else '-'.join(sorted(roles))}"


def works_on(roles: Roles, queue: str) -> bool:
    """Whether a process with these roles takes work from a queue."""
    return (Role.ANALYSE if queue == "series" else Role.DELIVER) in roles
