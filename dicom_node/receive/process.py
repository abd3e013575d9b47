"""A process that receives: what `processes` starts, and never anybody else.

The first one loads the program, serves nobody, and makes the others out of itself: a copy is there in
milliseconds and shares its memory. Each ends with the node, at once: its orders end then, and nobody
would take note of what it receives. So signals are the node's alone.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
import socket
import sys
import threading
from concurrent.futures import Future
from functools import partial
from typing import NoReturn, cast

import structlog
from structlog.typing import EventDict, WrappedLogger

from dicom_node.events import Event
from dicom_node.log import configure_logging, exception_without_text
from dicom_node.receive.admission import Load
from dicom_node.receive.connection import Service, application_entity
from dicom_node.receive.connections import Connections
from dicom_node.receive.event_report import EventReport
from dicom_node.receive.instance import StoredInstance
from dicom_node.receive.link import Beginning, Call, NewsSender, orders
from dicom_node.receive.room import RoomSent
from dicom_node.receive.spool import Spool
from dicom_node.receive.upper_layer import Address
from dicom_node.settings import Receive, ReceiveTLS
from dicom_node.tls import ServerTLS

_log = structlog.get_logger()


class NotTaken(Exception):
    """The node could not do what it was asked for."""


class Process:
    """Serves what comes with its orders, and tells the node.

    What a connection has to say about an association goes to the node in the order in which it
    happens. An image is told without waiting for an answer, but for the first of its series on an
    association: only then the node looks at the disk, and may fail.
    """

    def __init__(self, news: socket.socket, beginning: Beginning, tls: ServerTLS | None) -> None:
        self._news = NewsSender(news)
        self._numbers = itertools.count()
        self._awaited: dict[int, Future[object]] = {}
        self._awaiting = threading.Lock()
        self._begun: dict[int, set[str]] = {}
        self._is_stopping = beginning.is_stopping
        self._log()
        service = Service(
            beginning.settings,
            application_entity(beginning.settings),
            Spool(*beginning.spool, note_room=RoomSent(partial(self._news.send, "room"))),
            self._instance_stored,
            self._association_ended,
            self._event_report,
            self._load,
            partial(self._news.send, "dissociate"),
            self._tell,
            lambda: self._is_stopping,
        )
        self._connections = Connections(service, tls, partial(self._news.send, "closed"))

    def obey(self, call: Call, descriptors: list[int]) -> None:
        """Carry out an order."""
        match call.name:
            case "take":
                connection_id, peer, is_secured = cast("tuple[int, Address, bool]", call.arguments)
                accepted = socket.socket(fileno=descriptors[0])
                self._connections.take(accepted, peer, connection_id, is_secured)
            case "use":
                self._connections.use(cast("Receive", call.arguments[0]))
            case "drain":
                self._is_stopping = True
                self._connections.drain()
            case "cut":
                self._connections.cut(cast("set[int]", call.arguments[0]))
            case "answer":
                self._answer(*cast("tuple[int, bool, object]", call.arguments))

    def _instance_stored(self, instance: StoredInstance) -> None:
        begun = self._begun.setdefault(instance.association_id, set())
        if instance.series_instance_uid in begun:
            self._news.send("instance", instance)
            return
        self._ask("instance", instance)
        begun.add(instance.series_instance_uid)

    def _association_ended(self, association_id: int, released: bool) -> None:
        self._begun.pop(association_id, None)
        self._news.send("ended", association_id, released)

    def _event_report(self, report: EventReport) -> int:
        return cast("int", self._ask("event_report", report))

    def _load(self, connection_id: int) -> Load:
        return cast("Load", self._ask("load", connection_id))

    def _tell(self, event: Event) -> None:
        self._news.send("tell", event)

    def _ask(self, name: str, argument: object) -> object:
        answer: Future[object] = Future()
        with self._awaiting:
            number = next(self._numbers)
            self._awaited[number] = answer
        self._news.send(name, argument, number=number)
        return answer.result()

    def _answer(self, number: int, is_done: bool, value: object) -> None:
        with self._awaiting:
            answer = self._awaited.pop(number)
        if is_done:
            answer.set_result(value)
        else:
            answer.set_exception(NotTaken())

    def _log(self) -> None:
        """Send every line of the log to the node, which knows which are to be seen, and how."""
        configure_logging()

        def send(_logger: WrappedLogger, level: str, line: EventDict) -> EventDict:
            with contextlib.suppress(OSError):
                self._news.send("log", level, line)
            raise structlog.DropEvent

        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, exception_without_text, send],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )


def main(commands: socket.socket) -> None:
    """Make a process at each order, until the node is gone.

    The first order tells what of the settings never changes: TLS.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    tls: ServerTLS | None = None
    gc.freeze()  # what is shared stays shared
    for call, descriptors in orders(commands):
        if call.name == "tls":
            settings = cast("ReceiveTLS | None", call.arguments[0])
            tls = ServerTLS(settings) if settings else None
        elif not os.fork():
            commands.close()
            its_orders, its_news = map(_socket, descriptors)
            _serve(its_orders, its_news, cast("Beginning", call.arguments[0]), tls)
        for descriptor in descriptors:
            os.close(descriptor)


def _serve(
    its_orders: socket.socket, its_news: socket.socket, beginning: Beginning, tls: ServerTLS | None
) -> NoReturn:
    try:
        process = Process(its_news, beginning, tls)
        for call, descriptors in orders(its_orders):
            process.obey(call, descriptors)
    except Exception:  # noqa: BLE001 - all that there is to do is to say so
        _log.exception("receiver_process_failed")
    finally:
        os._exit(0)  # threads that still receive have nobody to tell


def _socket(descriptor: int) -> socket.socket:
    return socket.socket(fileno=descriptor)


if __name__ == "__main__":
    main(_socket(int(sys.argv[1])))
