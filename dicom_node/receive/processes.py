"""Processes that receive for this one: how they are made, what they are given, what they tell.

A Python process uses one core, and a connection that it serves beside other work waits up to 5 ms
for its turn after each system call. So connections are accepted here and served elsewhere: each is
handed, untouched, to the process that has the fewest. A process is made when each that is there has
something to do, up to a number.

An image is on disk before it is told, and told before Success is answered; what is told is safe here
while this process lives, and when it ends the others do too. When one of them dies, what it left is
taken in, and `on_loss` is to look at the disk: an image may be there that was not told.
"""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import cast

import structlog

from dicom_node.errors import StorageExhausted
from dicom_node.events import AssociationClosed, AssociationOpened, Event
from dicom_node.receive.connection import Service
from dicom_node.receive.event_report import EventReport
from dicom_node.receive.instance import StoredInstance
from dicom_node.receive.link import Beginning, Call, OrderSender, news, news_sockets, order_sockets
from dicom_node.receive.room import Room
from dicom_node.receive.upper_layer import Address
from dicom_node.settings import Receive, ReceiveTLS

MODULE = "dicom_node.receive.process"
# For processes to end once their orders do
_END_S = 5.0
# One may die at the very moment
_TRIES = 2

_log = structlog.get_logger()


@dataclass(eq=False)
class _Process:
    """One of them, as seen from here.

    Attributes
    ----------
    number : names its folder in the spool
    connections : ids of those that it serves
    opened : ids of those whose association was told to be open
    unended : ids of those whose association has not ended
    """

    number: int
    orders: OrderSender
    news: socket.socket
    connections: set[int] = field(default_factory=set)
    opened: set[int] = field(default_factory=set)
    unended: set[int] = field(default_factory=set)
    is_gone: bool = False


class Processes:
    """Has connections served by other processes; to the receiver the same as `Connections`.

    Parameters
    ----------
    service : Service
        What these processes ask for and tell.
    most : int
        How many, one at least.
    on_closed : callable
        Gets the id of each connection that is over.
    on_loss : callable
        Is called after one of them died.
    """

    def __init__(
        self, service: Service, most: int, on_closed: Callable[[int], None], on_loss: Callable[[], None]
    ) -> None:
        self._service = service
        self._settings = service.settings
        self._on_closed = on_closed
        self._on_loss = on_loss
        self._processes: list[_Process] = []
        self._readers: list[threading.Thread] = []
        self._most = most
        self._numbers = itertools.count(1)
        self._changing = threading.Lock()
        self._is_stopping = self._is_closing = False
        self._maker = _Maker(self._settings.tls)

    def use(self, settings: Receive) -> None:
        """Let in by other rules, from the next connection on."""
        self._settings = settings
        self._order("use", settings)

    def take(self, accepted: socket.socket, peer: Address, connection_id: int, is_secured: bool) -> None:
        """Have a connection served until it ends."""
        with accepted:
            for _ in range(_TRIES):
                with suppress(OSError):
                    if self._hand_on(accepted, connection_id, (connection_id, peer, is_secured)):
                        return
        _log.error("connection_lost", host=peer[0])
        self._on_closed(connection_id)

    def drain(self) -> None:
        """Let messages that have begun be answered, and end each connection after that."""
        self._is_stopping = True
        self._order("drain")

    def cut(self, connection_ids: Iterable[int]) -> None:
        """End connections now."""
        self._order("cut", set(connection_ids))

    def close(self) -> None:
        """End the processes, and wait until they are gone."""
        with self._changing:
            self._is_closing = True
            for process in self._processes:
                with suppress(OSError):
                    process.orders.end()
        for reader in self._readers:
            reader.join(_END_S)
        self._maker.close()

    def _order(self, name: str, *arguments: object) -> None:
        with self._changing:
            for process in self._processes:
                with suppress(OSError):  # it died, and its reader will know
                    process.orders.send(name, *arguments)

    def _hand_on(self, accepted: socket.socket, connection_id: int, arguments: Sequence[object]) -> bool:
        with self._changing:
            process = self._idlest()
            process.connections.add(connection_id)
            try:
                process.orders.send("take", *arguments, descriptors=[accepted.fileno()])
            except OSError:
                process.is_gone = True
                process.connections.discard(connection_id)
                return False
            return True

    def _idlest(self) -> _Process:
        alive = [process for process in self._processes if not process.is_gone]
        idlest = min(alive, key=lambda process: len(process.connections), default=None)
        if idlest is None or (idlest.connections and len(alive) < self._most):
            idlest = self._make()
        return idlest

    def _make(self) -> _Process:
        with ExitStack() as theirs:
            orders, orders_read = order_sockets()
            news_read, news_sent = news_sockets()
            for end in (orders_read, news_sent):
                theirs.enter_context(end)
            number = next(self._numbers)
            spool = self._service.spool.of_process(number)
            beginning = Beginning(self._settings, spool, self._is_stopping)
            self._maker.make(beginning, [orders_read.fileno(), news_sent.fileno()])
        process = _Process(number, OrderSender(orders), news_read)
        self._processes.append(process)
        reader = threading.Thread(
            target=self._read, args=(process,), name=f"receiver-process-{number}", daemon=True
        )
        self._readers.append(reader)
        reader.start()
        return process

    def _read(self, process: _Process) -> None:
        for call in news(process.news):
            try:
                value = self._take_note(process, call)
            except Exception as error:  # noqa: BLE001 - a fault of ours ends one association, not the node
                self._tell_fault(process, call, error)
            else:
                if call.number is not None and call.name != "event_report":
                    self._answer(process, call, value)
        self._note_end(process)

    def _take_note(self, process: _Process, call: Call) -> object:
        """Do what a process asks for, or take note of what it tells."""
        service, argument = self._service, call.arguments[0]
        match call.name:
            case "instance":
                service.on_instance(cast("StoredInstance", argument))
            case "event_report":  # it may take longer than images can wait
                threading.Thread(target=self._report, args=(process, call), daemon=True).start()
            case "load":
                return service.load(cast("int", argument))
            case "dissociate":
                service.dissociate(cast("int", argument))
            case "room":
                service.spool.note_room(cast("Room", argument))
            case "tell":
                self._tell(process, cast("Event", argument))
            case "ended":
                association_id, released = cast("tuple[int, bool]", call.arguments)
                process.unended.discard(association_id)
                service.on_association_end(association_id, released)
            case "closed":
                with self._changing:
                    process.connections.discard(cast("int", argument))
                self._on_closed(cast("int", argument))
            case "log":
                level, line = cast("tuple[str, dict[str, object]]", call.arguments)
                getattr(_log, level)(**line)
        return None

    def _tell(self, process: _Process, event: Event) -> None:
        if isinstance(event, AssociationOpened):
            process.opened.add(event.association_id)
            process.unended.add(event.association_id)
        elif isinstance(event, AssociationClosed):
            process.opened.discard(event.association_id)
        self._service.tell(event)

    def _report(self, process: _Process, call: Call) -> None:
        try:
            value = self._service.on_event_report(cast("EventReport", call.arguments[0]))
        except Exception as error:  # noqa: BLE001 - it ends that association
            self._tell_fault(process, call, error)
        else:
            self._answer(process, call, value)

    def _answer(self, process: _Process, call: Call, value: object, *, is_done: bool = True) -> None:
        with suppress(OSError):
            process.orders.send("answer", call.number, is_done, value)

    def _tell_fault(self, process: _Process, call: Call, error: Exception) -> None:
        """End the association with which something went wrong here."""
        _log.error("receiver_failed", at=call.name, error=type(error).__name__)
        if call.number is not None:
            self._answer(process, call, None, is_done=False)
        elif call.name == "instance":
            instance = cast("StoredInstance", call.arguments[0])
            with suppress(OSError):
                process.orders.send("cut", {instance.association_id})

    def _note_end(self, process: _Process) -> None:
        """Do what a process that is gone cannot do any more."""
        with self._changing:
            process.is_gone = True
            self._processes.remove(process)
            is_loss = not self._is_closing
        process.orders.close()
        process.news.close()
        for association_id in process.opened:
            self._service.tell(AssociationClosed(association_id, released=False))
        for association_id in process.unended:
            self._service.on_association_end(association_id, False)
        if is_loss:
            _log.error("receiver_process_died", connections=len(process.connections))
            self._take_over(process.number)
        for connection_id in process.connections:
            self._on_closed(connection_id)

    def _take_over(self, number: int) -> None:
        try:
            self._service.spool.sweep_after_process(number)
        except (OSError, StorageExhausted) as error:  # what is whole there was not acknowledged
            _log.error("spool_not_swept", error=type(error).__name__)
        self._on_loss()


class _Maker:
    """The process that makes the others: see `process`."""

    def __init__(self, tls: ReceiveTLS | None) -> None:
        self._tls = tls
        self._start()

    def make(self, beginning: Beginning, sockets: list[int]) -> None:
        """Make a process with these ends of its sockets.

        Raises
        ------
        OSError
        """
        try:
            self._orders.send("make", beginning, descriptors=sockets)
        except OSError:  # it was killed
            self.close()
            self._start()
            self._orders.send("make", beginning, descriptors=sockets)

    def close(self) -> None:
        """End it."""
        with suppress(OSError):
            self._orders.end()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._orders.close()

    def _start(self) -> None:
        ours, theirs = order_sockets()
        self._orders = OrderSender(ours)
        # Modules from where they are here; a library that would make threads must not, before a fork
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=os.environ | environment,
                pass_fds=[theirs.fileno()],
            )
        self._orders.send("tls", self._tls)
