"""The configuration is read again while the node runs: all of it is taken, or nothing.

What is taken at once, and what waits for a restart, is said here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.errors import ConfigurationError, NodeError, reason
from dicom_node.events import Reloaded, Tell
from dicom_node.settings import Settings, load_settings

LIVE = (
    "destinations",
    "pipelines",
    "receive.called",
    "retention",
    "notifications",
    "log.level",
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Change:
    """What came of reading the configuration again, as paths of settings.

    Attributes
    ----------
    taken : in use from now on
    waiting : changed in the file, in use after a restart
    """

    taken: tuple[str, ...]
    waiting: tuple[str, ...]


class Reload:
    """Reads, proves, and only then hands over.

    Parameters
    ----------
    path : of the file
    running : the settings in use
    prove : raises ConfigurationError when the node cannot work with such settings
    use : the parts of the node, each given the new settings; the first may still refuse them by an error,
        the others must not
    """

    def __init__(
        self,
        path: Path,
        running: Settings,
        prove: Callable[[Settings], None],
        use: Sequence[Callable[[Settings], None]],
        tell: Tell,
    ) -> None:
        self._path, self._running, self._prove, self._use, self._tell = path, running, prove, use, tell

    def __call__(self) -> Change:
        """Read the configuration again.

        Raises
        ------
        NodeError
            It cannot be used; then nothing has changed.
        """
        try:
            read = load_settings(self._path)
            wanted = overlay(self._running, read)
            self._prove(wanted)
            for use in self._use:
                use(wanted)
        except (NodeError, SQLAlchemyError) as error:
            self._tell(Reloaded(taken=False))
            log.error(  # noqa: TRY400 - its text says all
                "configuration_refused", reason=reason(error), meaning="nothing has changed"
            )
            if isinstance(error, NodeError):
                raise
            raise ConfigurationError(f"nothing has changed: {reason(error)}") from error
        change = Change(tuple(differences(self._running, wanted)), tuple(differences(wanted, read)))
        self._running = wanted
        self._tell(Reloaded(taken=True))
        log.info("configuration_taken", changed=change.taken)
        if change.waiting:
            log.warning("configuration_waits", needs_restart=change.waiting)
        return change


def overlay(running: Settings, read: Settings) -> Settings:
    """Put what may change while running over what is in use."""
    changed: dict[str, Any] = {}
    for path in LIVE:
        section, _, key = path.partition(".")
        if not key:
            changed[section] = getattr(read, section)
        else:
            value = getattr(getattr(read, section), key)
            changed[section] = getattr(running, section).model_copy(update={key: value})
    return running.model_copy(update=changed)


def differences(before: Settings, after: Settings) -> Iterator[str]:
    """Name what is not the same: ``receive.port``, ``pipelines``."""
    for name in type(before).model_fields:
        one, other = getattr(before, name), getattr(after, name)
        if one == other:
            continue
        yield from _within(name, _as_mapping(one), _as_mapping(other)) or (name,)


def _as_mapping(section: object) -> Mapping[str, object]:
    fields = getattr(type(section), "model_fields", {})
    return {name: getattr(section, name) for name in fields}


def _within(name: str, one: Mapping[str, object], other: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(f"{name}.{key}" for key in one if one[key] != other.get(key))
