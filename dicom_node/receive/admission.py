"""Who may associate: AE titles, addresses, limits and room on the disk."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum

from dicom_node.receive.part10 import AETitles
from dicom_node.settings import Receive


class Rejection(Enum):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 Table 9-21).

    A permanent one tells the peer that its configuration or ours is wrong, a transient one
    to come again.
    """

    CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 1, 3)
    CALLED_AE_TITLE_NOT_RECOGNIZED = (1, 1, 7)
    TEMPORARY_CONGESTION = (2, 3, 1)
    LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


@dataclass(frozen=True, slots=True)
class Load:
    """How many associations there are, the one that is asked for among them."""

    associations: int
    associations_of_host: int


def admit(
    settings: Receive, titles: AETitles, host: str, load: Load, *, has_room: bool, is_stopping: bool
) -> Rejection | None:
    """Return why an association is refused, or None.

    An address that is not allowed is answered like an unknown calling AE title: the
    standard has no reason of its own for it, and both mean that this caller is not one of
    those that the title is open to.
    """
    called = next((each for each in settings.called if each.ae_title == titles.called.strip()), None)
    if called is None:
        return Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED
    if called.calling_ae_titles and titles.calling.strip() not in called.calling_ae_titles:
        return Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED
    if called.addresses and not _is_within(host, called.addresses):
        return Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED
    if load.associations > settings.maximum_associations:
        return Rejection.LOCAL_LIMIT_EXCEEDED
    if load.associations_of_host > settings.maximum_associations_per_host:
        return Rejection.LOCAL_LIMIT_EXCEEDED
    if is_stopping or not has_room:
        return Rejection.TEMPORARY_CONGESTION
    return None


def _is_within(host: str, networks: tuple[str, ...]) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])  # a link-local one names its interface
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ipaddress.ip_network(network) for network in networks)
