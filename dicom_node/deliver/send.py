"""The order of sending, whatever the protocol: what one refusal means for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import structlog
from pydicom.errors import InvalidDicomError

from dicom_node.errors import ClassRefused, DeliveryRefused, PermanentError, may_be_read_later

# Status and failure reasons of a store, alike in C-STORE and STOW-RS (PS3.4 B.2.3, PS3.7 C, PS3.18 I.2.2)
DUPLICATE = 0x0111  # it has the instance: done
CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = range(0xA700, 0xA800)

_log = structlog.get_logger()


class Hooks(NamedTuple):
    """Who takes part in the sending to one destination.

    Attributes
    ----------
    final : gives the file that is sent for one whose turn has come, of the same SOP class
    on_refusal : gets each SOP class that the destination does not take
    """

    final: Callable[[Path], Path] = lambda path: path
    on_refusal: Callable[[str], None] = lambda _sop_class_uid: None


NO_HOOKS = Hooks()


class Otherwise(NamedTuple):
    """What is sent in place of all when the first file is refused, since others refer to it.

    Attributes
    ----------
    paths, instead : as those of :func:`send_each`
    """

    paths: Sequence[Path]
    instead: Mapping[Path, Sequence[Path]]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell a file that will never be sent from one that a disk, or a lack of descriptors, keeps from us now.

    Raises
    ------
    PermanentError
        It is not there, or no DICOM file.
    OSError
    """
    try:
        yield
    except (InvalidDicomError, AttributeError, EOFError, OSError) as error:
        if may_be_read_later(error):
            raise
        raise PermanentError(f"{path} is no DICOM file") from None


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
    hooks: Hooks = NO_HOOKS,
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
            stored = _send_first(send_one, [path, *instead.get(path, ())], hooks)
        except DeliveryRefused as refusal:  # the others are still wanted
            if otherwise is not None and path == paths[0]:
                _log.warning("sent_otherwise", refused=path.name, reason=str(refusal))
                yield from send_each(send_one, otherwise.paths, otherwise.instead, hooks=hooks)
                return
            refusals.append(str(refusal))
        else:
            yield stored
    if refusals:
        raise DeliveryRefused("; ".join(refusals))


def _send_first(send_one: Callable[[Path], None], choices: Sequence[Path], hooks: Hooks) -> Path:
    """Send the first of the choices that is taken; the refusal of the first tells why none."""
    refusals = []
    for choice in choices:
        path = hooks.final(choice)
        try:
            send_one(path)
        except DeliveryRefused as refusal:
            refusals.append(refusal)
            if isinstance(refusal, ClassRefused):
                hooks.on_refusal(refusal.sop_class_uid)
        else:
            if refusals:
                _log.info("sent_otherwise", refused=choices[0].name, sent=path.name, reason=str(refusals[0]))
            return path
    raise refusals[0]
