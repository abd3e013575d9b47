"""Any destination, whatever it speaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dicom_node.deliver import stow
from dicom_node.deliver.cstore import Peer, echo, send_files
from dicom_node.deliver.send import NO_HOOKS, Hooks, Otherwise
from dicom_node.settings import AnyDestination, Destination, WebDestination


def send_to(
    destination: AnyDestination,
    paths: Sequence[Path],
    instead: Mapping[Path, Sequence[Path]],
    otherwise: Otherwise | None = None,
    hooks: Hooks = NO_HOOKS,
) -> Iterator[Path]:
    """Send files in order and yield what was stored, one by one.

    Parameters
    ----------
    instead : for a file that is refused, the same in other SOP classes, in order
    otherwise : in place of all where the first file is refused

    Raises
    ------
    DestinationUnavailable
        The destination may or may not have a file; send it again.
    PermanentError
        Some files will never be taken; the others were sent, unless it takes none.
    """
    if not paths:
        return iter(())
    if isinstance(destination, WebDestination):
        return stow.store(destination, paths, instead, otherwise, hooks)
    return send_files(peer_of(destination), paths, instead, otherwise, hooks)


def check(destination: AnyDestination) -> None:
    """See that a destination answers and lets us in: by C-ECHO or a query without a match.

    Raises
    ------
    DestinationUnavailable, PermanentError
    """
    if isinstance(destination, WebDestination):
        stow.check(destination)
    else:
        echo(peer_of(destination))


def describe(destination: AnyDestination) -> str:
    """Name a destination's address; no secret is in it."""
    if not isinstance(destination, WebDestination):
        return f"{peer_of(destination)}{' over TLS' if destination.tls else ''}"
    return destination.url if destination.is_encrypted else f"{destination.url} (NOT ENCRYPTED)"


def peer_of(destination: Destination) -> Peer:
    """The application entity behind a destination."""
    return Peer(
        ae_title=destination.ae_title,
        host=destination.host,
        port=destination.port,
        calling_ae_title=destination.calling_ae_title,
        timeout_s=destination.timeout_s,
        tls=destination.tls,
    )
