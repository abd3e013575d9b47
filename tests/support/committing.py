"""An archive that stores, and answers a request for commitment as a test wants it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance


@dataclass(frozen=True)
class Asked:
    """A request for commitment (N-ACTION)."""

    transaction_uid: str
    objects: tuple[tuple[str, str], ...]
    association: Association

    @property
    def uids(self) -> tuple[str, ...]:
        return tuple(uid for _, uid in self.objects)


@dataclass
class Committing:
    """An archive on loopback; a context manager.

    Attributes
    ----------
    node_port : where it opens associations for its reports
    during, after : called with each request before and after it is answered; ``during`` may return a status
    stored : SOP Instance UIDs in the order of their coming
    asked : every request
    statuses : of the answers to its reports; None for none
    """

    title: str
    node_port: int
    during: Callable[[Committing, Asked], int | None] | None = None
    after: Callable[[Committing, Asked], None] | None = None
    offers_commitment: bool = True
    stored: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    statuses: list[int | None] = field(default_factory=list)

    def __enter__(self) -> Self:
        ae = AE(self.title)
        ae.supported_contexts = AllStoragePresentationContexts
        if self.offers_commitment:
            ae.add_supported_context(StorageCommitmentPushModel)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._act)]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def report(self, transaction_uid: str, kept: Iterable[str], failed: dict[str, int] | None = None) -> None:
        """Report on an association of our own."""
        ae = AE(self.title)
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = ae.associate("127.0.0.1", self.node_port, ae_title="DICOM_NODE", ext_neg=[role])
        assert association.is_established
        self.report_on(association, transaction_uid, kept, failed)
        association.release()

    def report_on(
        self,
        association: Association,
        transaction_uid: str,
        kept: Iterable[str],
        failed: dict[str, int] | None = None,
    ) -> None:
        """Report on an association."""
        information = Dataset()
        information.TransactionUID = transaction_uid
        information.ReferencedSOPSequence = [_reference(uid) for uid in kept]
        if failed:
            information.FailedSOPSequence = [_reference(uid, reason) for uid, reason in failed.items()]
        status, _ = association.send_n_event_report(
            information,
            2 if failed else 1,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        self.statuses.append(status.get("Status"))

    def _store(self, event: evt.Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _act(self, event: evt.Event) -> tuple[int, None]:
        information = event.action_information
        items = information.ReferencedSOPSequence
        objects = tuple((str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID)) for i in items)
        asked = Asked(str(information.TransactionUID), objects, event.assoc)
        self.asked.append(asked)
        status = self.during(self, asked) if self.during else None
        if self.after and not status:
            threading.Thread(target=self._later, args=(asked,), daemon=True).start()
        return status or 0x0000, None

    def _later(self, asked: Asked) -> None:
        time.sleep(0.2)  # the answer to the request goes first
        self.after(self, asked)


def _reference(uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    item.ReferencedSOPInstanceUID = uid
    if reason is not None:
        item.FailureReason = reason
    return item
