"""How a connection can go wrong, and the PDU types; the errors do not leave this package.

::

    AssociationFault
    |-- ConnectionLost   the peer closed or reset the connection
    |-- Overdue          the peer let a deadline pass
    `-- ProtocolError    the peer broke the protocol
"""

from __future__ import annotations

# PS3.8 9.3.1
A_ASSOCIATE_RQ, P_DATA_TF, A_RELEASE_RQ = 0x01, 0x04, 0x05


class AssociationFault(Exception):
    """An association ends otherwise than by release."""


class ConnectionLost(AssociationFault):
    """The peer closed or reset the connection."""


class Overdue(AssociationFault):
    """The peer let a deadline pass."""


class ProtocolError(AssociationFault):
    """The peer broke the protocol."""
