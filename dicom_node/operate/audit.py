"""The audit trail (DICOM PS3.15 A.5): which event makes which message.

======================================  =====================================================
what happens                            message
======================================  =====================================================
the node starts, stops                  Application Activity
a result is about to be sent            Begin Transferring DICOM Instances
a result was sent, or could not be      DICOM Instances Transferred (R)
an association brought images           DICOM Instances Transferred (C), at its end
a sender is not let in, TLS fails       Security Alert: Node Authentication
the configuration was changed           Security Alert: Security Configuration
somebody logs in, or tries to           User Authentication: Login
somebody logs out                       User Authentication: Logout
somebody looks at a series on the page  DICOM Instances Accessed, once an hour and session
somebody takes a file of a result       DICOM Instances Transferred (R), to that person
a command changes a user or a token     Security Alert: User Security Attributes Changed
======================================  =====================================================

Messages are written in a thread of their own: a syslog server that is down holds up nobody. It is tried
again; what it cannot be told meanwhile is kept in memory, up to a limit, and not through a restart.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue

import structlog
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node import events
from dicom_node.errors import ConfigurationError, reason
from dicom_node.events import Event
from dicom_node.operate.audit_message import Code, Message, Outcome, Participant, Study, count, to_xml
from dicom_node.operate.audit_sink import File, Server

AGAIN_S = 5.0
MOST_KEPT = 10_000  # messages that a sink could not be told
_END_S = 5.0  # for what is left at the end
_TAGS = ["PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber", "SOPClassUID"]

log = structlog.get_logger()


class AuditTrail:
    """Listens, and writes to every sink.

    Parameters
    ----------
    source : names this node
    called : our AE titles as destinations know us, by destination; with the destination's own and its host
    count_message : gets ``written`` or ``failed``
    """

    def __init__(
        self,
        sinks: Iterable[File | Server],
        source: str,
        called: Callable[[str], tuple[str, str, str]],
        count_message: Callable[[str], None],
    ) -> None:
        self._source, self._called, self._count = source, called, count_message
        self._left: Mapping[File | Server, deque[str]] = {sink: deque() for sink in sinks}
        self._events: SimpleQueue[Event | Message | None] = SimpleQueue()
        self._open: dict[int, events.AssociationOpened] = {}
        self._brought: defaultdict[int, list[Path]] = defaultdict(list)
        self._failed_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def take(self, event: Event) -> None:
        """Note an event."""
        self._events.put(event)

    def start(self) -> None:
        """Say that the node starts."""
        self._thread.start()
        self._events.put(self._activity(Code.APPLICATION_START))

    def stop(self) -> None:
        """Say that it stops, and write what is left."""
        if self._thread.is_alive():
            self._events.put(self._activity(Code.APPLICATION_STOP))
            self._events.put(None)
            self._thread.join(_END_S)
        for sink in self._left:
            sink.close()

    def _run(self) -> None:
        while True:
            try:
                event = self._events.get(timeout=AGAIN_S)
            except Empty:
                self._write_left()
                continue
            if event is None:
                self._write_left()
                return
            try:
                made = [event] if isinstance(event, Message) else list(self._messages(event))
            except Exception:
                log.exception("audit_failed", of=type(event).__name__)
                self._count("failed")
                continue
            for message in made:
                self._write(message)

    def _write(self, message: Message) -> None:
        xml = to_xml(message, self._source)
        for left in self._left.values():
            left.append(xml)
            if len(left) > MOST_KEPT:
                left.popleft()
                self._count("failed")
        self._write_left()

    def _write_left(self) -> None:
        for sink, left in self._left.items():
            if isinstance(sink, Server) and left and time.monotonic() - self._failed_at < AGAIN_S:
                continue
            while left:
                try:
                    sink.write(left[0])
                except OSError as error:
                    self._failed_at = time.monotonic()
                    self._count("failed")
                    kind = type(sink).__name__.lower()
                    log.warning("audit_failed", to=kind, reason=reason(error), waiting=len(left))
                    break
                left.popleft()
                self._count("written")

    def _messages(self, event: Event) -> Iterable[Message]:
        match event:
            case events.AssociationOpened():
                self._open[event.association_id] = event
            case events.InstanceStored(is_new=True):
                self._brought[event.association_id].append(event.path)
            case events.AssociationClosed():
                yield from self._received(event)
            case events.AssociationRejected():
                words = f"{event.calling_ae_title} was not let in as {event.called_ae_title}: {event.reason}"
                yield self._alert(Code.NODE_AUTHENTICATION, words, event.host, Outcome.MINOR_FAILURE)
            case events.TLSRefused():
                yield self._alert(Code.NODE_AUTHENTICATION, event.fault, event.host, Outcome.MINOR_FAILURE)
            case events.Reloaded(taken=True):
                words = "destinations, rules or allow-lists were read again"
                yield self._alert(Code.SECURITY_CONFIGURATION, words, socket.gethostname(), Outcome.SUCCESS)
            case events.UserAuthenticated():
                outcome = Outcome.SUCCESS if event.succeeded else Outcome.MINOR_FAILURE
                yield _authentication(Code.LOGIN, event.user, event.host, outcome)
            case events.UserLeft():
                yield _authentication(Code.LOGOUT, event.user, event.host, Outcome.SUCCESS)
            case events.SeriesShown():
                who = (Participant(event.user, True, address=event.host), _ourselves())
                yield Message(Code.INSTANCES_ACCESSED, "R", who, studies=studies_of(event.paths))
            case events.FilesTaken():
                who = (
                    Participant(event.user, True, Code.DESTINATION, event.host),
                    _ourselves(Code.SOURCE),
                )
                yield Message(Code.INSTANCES_TRANSFERRED, "R", who, studies=studies_of(event.paths))
            case events.Sending():
                yield self._sent(Code.BEGIN_TRANSFERRING, "E", event.destination, event.paths)
            case events.Delivered():
                yield self._sent(Code.INSTANCES_TRANSFERRED, "R", event.destination, event.paths)

    def _received(self, closed: events.AssociationClosed) -> Iterable[Message]:
        opened = self._open.pop(closed.association_id, None)
        paths = self._brought.pop(closed.association_id, [])
        if opened is None or not paths:
            return
        sender = Participant(opened.calling_ae_title.strip(), True, Code.SOURCE, opened.host)
        ours = Participant(
            opened.called_ae_title.strip(), False, Code.DESTINATION, socket.gethostname(), str(os.getpid())
        )
        yield Message(Code.INSTANCES_TRANSFERRED, "C", (sender, ours), studies=studies_of(paths))

    def _sent(self, event: Code, action: str, destination: str, paths: Iterable[Path]) -> Message:
        ours, theirs, host = self._called(destination)
        who = (
            Participant(ours, True, Code.SOURCE, socket.gethostname(), str(os.getpid())),
            Participant(theirs, False, Code.DESTINATION, host),
        )
        return Message(event, action, who, studies=studies_of(paths))

    def _alert(self, kind: Code, words: str, node: str, outcome: Outcome) -> Message:
        return Message(
            Code.SECURITY_ALERT, "E", (_ourselves(),), kind=kind, outcome=outcome, alert=(words, node)
        )

    def _activity(self, kind: Code) -> Message:
        return Message(Code.APPLICATION_ACTIVITY, "E", (_ourselves(Code.APPLICATION),), kind=kind)


def write_user_change(sinks: Iterable[File | Server], source: str, words: str) -> None:
    """Write to every sink that a command has changed who may use the page; there need be no node that runs.

    Parameters
    ----------
    source : names this node
    words : what was changed; no secret

    Raises
    ------
    ConfigurationError
        A sink did not take the message; the others have it.
    """
    who = (Participant(_who_commands(), True, address=socket.gethostname()), _ourselves())
    message = Message(
        Code.SECURITY_ALERT, "E", who, kind=Code.USER_ATTRIBUTES, alert=(words, socket.gethostname())
    )
    xml = to_xml(message, source)
    faults = []
    for sink in sinks:
        try:
            sink.write(xml)
        except OSError as error:
            faults.append(reason(error))
        finally:
            sink.close()
    if faults:
        raise ConfigurationError(f"it is done, but the audit trail was not told: {'; '.join(faults)}")


def _who_commands() -> str:
    """Name the account of this machine; behind ``sudo`` the one that asked for it."""
    if "SUDO_USER" in os.environ:
        return os.environ["SUDO_USER"]
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def studies_of(paths: Iterable[Path]) -> list[Study]:
    """Read whose images these are; those that are deleted by now are left out."""
    found: defaultdict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for path in paths:
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        except (OSError, InvalidDicomError):
            continue
        whose = (
            header.get(tag) for tag in ("StudyInstanceUID", "PatientID", "PatientName", "AccessionNumber")
        )
        study, patient, name, number = (str(value or "") for value in whose)
        found[study, patient, name, number].append(str(header.get("SOPClassUID", "")))
    return [Study(*whose, sop_classes=count(classes)) for whose, classes in found.items()]


def _authentication(kind: Code, user: str, host: str, outcome: Outcome) -> Message:
    who = Participant(user, True, address=host)
    return Message(Code.USER_AUTHENTICATION, "E", (who, _ourselves()), kind=kind, outcome=outcome)


def _ourselves(role: Code | None = None) -> Participant:
    return Participant("dicom-node", False, role, socket.gethostname(), str(os.getpid()))
