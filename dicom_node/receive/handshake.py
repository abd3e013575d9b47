"""The TLS handshake of an accepted connection, in its own thread and within a deadline."""

from __future__ import annotations

import socket
import ssl

from dicom_node.receive.protocol import A_ASSOCIATE_RQ, TLS_HANDSHAKE, ConnectionLost, NotSecured
from dicom_node.tls import fault_of


def await_client_hello(connection: socket.socket, timeout_s: float) -> None:
    """See that the peer begins with TLS; nothing is taken from the socket.

    Raises
    ------
    ConnectionLost
        The peer closed without a word.
    NotSecured
        The peer is silent, or speaks something else.
    """
    try:
        connection.settimeout(timeout_s)
        first = connection.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        raise NotSecured("it connected and said nothing; this port speaks TLS: switch TLS on there") from None
    except OSError:
        raise ConnectionLost("the connection was reset") from None
    if not first:
        raise ConnectionLost("the peer closed the connection")
    if first[0] == A_ASSOCIATE_RQ:
        raise NotSecured("it speaks DICOM without TLS to the TLS port; switch TLS on there")
    if first[0] != TLS_HANDSHAKE:
        raise NotSecured("it speaks neither TLS nor DICOM")


def shake_hands(secured: ssl.SSLSocket, timeout_s: float) -> None:
    """Do the handshake; the timeout is for all of it, however slowly its bytes come.

    Raises
    ------
    NotSecured
        With the reason and the remedy.
    """
    try:
        secured.settimeout(max(timeout_s, 0.001))
        secured.do_handshake()
    except OSError as error:
        raise NotSecured(fault_of(error)) from None
