"""What a receiver and the processes that receive for it say to each other.

Each process has two sockets. *Orders* come to it, one a packet, and may bring a descriptor; *news* go
from it in a stream, as there may be a thousand a second, and many are read at once. Both are calls by
name; one that has a number gets an answer with that number among the orders.

What is unpickled was pickled by a process of the same node on a socket that has no name.
"""

from __future__ import annotations

import pickle
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.settings import Receive

# The kernel takes less than 200 kB in one packet; an order is settings at most
_LONGEST_ORDER_BYTES = 1 << 17
_MOST_DESCRIPTORS = 2
# As much as the socket holds
_NEWS_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Call:
    """A name, what belongs to it, and the number of the answer, if one is awaited."""

    name: str
    arguments: tuple[object, ...]
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a process begins with.

    Attributes
    ----------
    spool : arguments of its spool
    is_stopping : whether associations are rejected already
    """

    settings: Receive
    spool: tuple[Path, int, int, str]
    is_stopping: bool


class OrderSender:
    """Sends orders; from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, name: str, *arguments: object, descriptors: Sequence[int] = ()) -> None:
        """Send an order, and descriptors with it, which are still open here afterwards.

        Raises
        ------
        OSError
            Nobody is there any more.
        """
        order = pickle.dumps((name, arguments), pickle.HIGHEST_PROTOCOL)
        with self._sending:
            socket.send_fds(self._connection, [order], descriptors)

    def end(self) -> None:
        """Let the other side see the end of the orders."""
        self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Give the socket back."""
        with self._sending:
            self._connection.close()


def orders(connection: socket.socket) -> Iterator[tuple[Call, list[int]]]:
    """Read orders, each with its descriptors, until the other side is gone."""
    while True:
        order, descriptors, _, _ = socket.recv_fds(connection, _LONGEST_ORDER_BYTES, _MOST_DESCRIPTORS)
        if not order:
            return
        yield Call(*pickle.loads(order)), descriptors  # noqa: S301 - see above


class NewsSender:
    """Sends news; from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, name: str, *arguments: object, number: int | None = None) -> None:
        """Send what is new.

        Raises
        ------
        OSError
            Nobody is there any more.
        """
        news = pickle.dumps((name, arguments, number), pickle.HIGHEST_PROTOCOL)
        with self._sending:
            self._connection.sendall(news)


def news(connection: socket.socket) -> Iterator[Call]:
    """Read what is new until the other side is gone."""
    with connection.makefile("rb", buffering=_NEWS_BYTES) as stream:
        while True:
            try:
                call = Call(*pickle.load(stream))  # noqa: S301 - see above
            except (EOFError, OSError, pickle.UnpicklingError):  # the last may be cut short
                return
            yield call


def order_sockets() -> tuple[socket.socket, socket.socket]:
    """Return the sender's and the reader's end."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def news_sockets() -> tuple[socket.socket, socket.socket]:
    """Return the reader's and the sender's end."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
