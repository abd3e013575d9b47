"""The C-STORE SCP: who may associate, and what becomes of the images."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import structlog
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.errors import InstanceRefused, StorageExhausted
from dicom_node.receive.contexts import supported_contexts
from dicom_node.receive.spool import Incoming, Spool, StoredInstance
from dicom_node.receive.status import Status
from dicom_node.settings import Receive

_log = structlog.get_logger()


class Receiver:
    """Listens, and answers Success once an instance is on disk."""

    def __init__(
        self,
        settings: Receive,
        spool: Spool,
        on_instance: Callable[[StoredInstance], None],
        on_association_end: Callable[[int, bool], None],
        *,
        port: int | None = None,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._on_instance = on_instance
        self._on_association_end = on_association_end
        self._port = settings.port if port is None else port
        self._server: ThreadedAssociationServer | None = None
        self._ids = itertools.count(1)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1]) if self._server else self._port

    def start(self) -> None:
        """Listen."""
        ae = AE()
        ae.supported_contexts = supported_contexts()
        ae.maximum_pdu_size = self._settings.maximum_pdu
        ae.maximum_associations = self._settings.maximum_associations
        ae.network_timeout = self._settings.idle_timeout_s
        self._server = ae.start_server(
            (self._settings.host, self._port),
            block=False,
            evt_handlers=[
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_RELEASED, self._ended, [True]),
                (evt.EVT_ABORTED, self._ended, [False]),
            ],
        )

    def stop(self, timeout_s: float) -> None:
        """Stop listening and abort what is open."""
        if self._server is not None:
            self._server.ae.shutdown()

    def _requested(self, event: Any) -> None:  # noqa: ANN401
        event.assoc.dicom_node_id = next(self._ids)
        titles = [called.ae_title for called in self._settings.called]
        if event.assoc.requestor.primitive.called_ae_title not in titles:
            event.assoc.acse.send_reject(1, 1, 7)
            event.assoc.kill()

    def _store(self, event: Any) -> Dataset:  # noqa: ANN401
        request = event.request
        answer = Dataset()
        requestor = event.assoc.requestor
        try:
            part = self._spool.begin(
                Incoming(
                    str(request.AffectedSOPClassUID),
                    str(request.AffectedSOPInstanceUID),
                    str(event.context.transfer_syntax),
                    requestor.primitive.called_ae_title,
                    requestor.primitive.calling_ae_title,
                    event.assoc.dicom_node_id,
                )
            )
            part.write(event.encoded_dataset(include_meta=False))
            self._on_instance(part.commit())
            answer.Status = Status.SUCCESS
        except InstanceRefused as error:
            answer.Status = error.status
        except StorageExhausted:
            answer.Status = Status.OUT_OF_RESOURCES
        return answer

    def _ended(self, event: Any, released: bool) -> None:  # noqa: ANN401
        self._on_association_end(event.assoc.dicom_node_id, released)
