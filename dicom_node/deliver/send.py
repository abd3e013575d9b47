"""The order of sending, whatever the protocol: what one refusal means for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from dicom_node.errors import DeliveryRefused

_log = structlog.get_logger()


class Otherwise(NamedTuple):
    """What is sent in place of all when the first file is refused, since others refer to it.

    Attributes
    ----------
    paths, instead : as those of :func:`send_each`
    """

    paths: Sequence[Path]
    instead: Mapping[Path, Sequence[Path]]


def all_choices(
    paths: Sequence[Path], instead: Mapping[Path, Sequence[Path]], otherwise: Otherwise | None
) -> list[Path]:
    """Every file that may come to be sent."""
    choices = [choice for path in paths for choice in (path, *instead.get(path, ()))]
    if otherwise is not None:
        choices += all_choices(otherwise.paths, otherwise.instead, None)
    return list(dict.fromkeys(choices))


def send_each(
    send_one: Callable[[Path], None],
    paths: Sequence[Path],
    instead: Mapping[Path, Sequence[Path]],
    otherwise: Otherwise | None = None,
) -> Iterator[Path]:
    """Send files in order and yield what was stored: each file, or the one sent in its stead.

    Parameters
    ----------
    send_one : returns once the file is stored; raises ``DeliveryRefused`` for a file that is not wanted
    instead : for a file that is refused, the same in other SOP classes, in order
    otherwise : for the first file, which others refer to, being refused

    Raises
    ------
    DeliveryRefused
        Some files were refused; the others were sent.
    """
    refusals = []
    for path in paths:
        try:
            stored = _send_first(send_one, [path, *instead.get(path, ())])
        except DeliveryRefused as refusal:  # the others are still wanted
            if otherwise is not None and path == paths[0]:
                _log.warning("sent_otherwise", refused=path.name, reason=str(refusal))
                yield from send_each(send_one, otherwise.paths, otherwise.instead)
                return
            refusals.append(str(refusal))
        else:
            yield stored
    if refusals:
        raise DeliveryRefused("; ".join(refusals))


def _send_first(send_one: Callable[[Path], None], choices: Sequence[Path]) -> Path:
    """Send the first of the choices that is taken; the refusal of the first tells why none."""
    refusals = []
    for path in choices:
        try:
            send_one(path)
        except DeliveryRefused as refusal:
            refusals.append(refusal)
        else:
            if refusals:
                _log.info("sent_otherwise", refused=choices[0].name, sent=path.name, reason=str(refusals[0]))
            return path
    raise refusals[0]
