"""How a connection can go wrong, and the PDU types; the errors do not leave this package.

::

    AssociationFault
    |-- ConnectionLost   the peer closed or reset the connection
    |-- Overdue          the peer let a deadline pass
    |-- NotSecured       the peer failed the TLS handshake
    `-- ProtocolError    the peer broke the protocol
"""

from __future__ import annotations

# PS3.8 9.3.1
A_ASSOCIATE_RQ, P_DATA_TF, A_RELEASE_RQ = 0x01, 0x04, 0x05
# No PDU type: the first byte of a TLS handshake (RFC 8446 5.1)
TLS_HANDSHAKE = 0x16


class AssociationFault(Exception):
    """An association ends otherwise than by release."""


class ConnectionLost(AssociationFault):
    """The peer closed or reset the connection."""


class Overdue(AssociationFault):
    """The peer let a deadline pass."""


class NotSecured(AssociationFault):
    """The peer failed the TLS handshake, so that nothing can be said to it."""


class ProtocolError(AssociationFault):
    """The peer broke the protocol."""
