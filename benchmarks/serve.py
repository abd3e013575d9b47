"""The receivers in Python, each in a process of its own: ``python -m benchmarks.serve KIND FOLDER PORT``.

``node`` is the node's receiver as `dicom_node.node` builds it, with the timer of series, and ``node-alone``
the same in one process. ``node-no-flush`` and ``node-alone-no-flush`` are those where fsync and fdatasync do
nothing: for measuring only, and there is no setting for it.
``stock`` and ``stock-chunked`` are the two ways that pynetdicom's documentation shows.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

import structlog
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import MRImageStorage  # type: ignore[attr-defined]

import dicom_node.receive.processes
from dicom_node.receive import process
from dicom_node.receive.completion import Completion
from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.settings import Completion as CompletionSettings
from dicom_node.settings import Receive


def serve_node(folder: Path, port: int, processes: int | None = None) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    settings = Receive(processes=processes)
    spool = Spool(folder, settings.minimum_free_mb, settings.maximum_object_mb)
    completion = Completion(CompletionSettings(quiet_s=1e6, longest_s=1e7), spool, lambda _: None)
    completion.start()
    Receiver(settings, spool, completion.instance_stored, completion.association_ended, port=port).start()
    threading.Event().wait()


def serve_node_without_flush(folder: Path, port: int, processes: int | None = None) -> None:
    flush_nothing()
    dicom_node.receive.processes.MODULE = "benchmarks.serve"
    serve_node(folder, port, processes)


def flush_nothing() -> None:
    os.fsync = os.fdatasync = lambda _: None  # type: ignore[assignment]


def serve_stock(folder: Path, port: int) -> None:
    def store(event: evt.Event) -> int:
        data_set = event.dataset
        data_set.file_meta = event.file_meta
        data_set.save_as(folder / f"{data_set.SOPInstanceUID}.dcm", enforce_file_format=True)
        return 0x0000

    _serve_pynetdicom(store, port)


def serve_stock_chunked(folder: Path, port: int) -> None:
    _config.STORE_RECV_CHUNKED_DATASET = True
    tempfile.tempdir = str(folder.parent)  # the same file system

    def store(event: evt.Event) -> int:
        # A second name, as the library then removes the first
        (folder / f"{event.request.AffectedSOPInstanceUID}.dcm").hardlink_to(event.dataset_path)
        return 0x0000

    _serve_pynetdicom(store, port)


def _serve_pynetdicom(store: object, port: int) -> None:
    ae = AE("DICOM_NODE")
    ae.add_supported_context(MRImageStorage)
    ae.maximum_pdu_size = Receive().maximum_pdu
    ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store)])


KINDS = {
    "node": serve_node,
    "node-no-flush": serve_node_without_flush,
    "node-alone": partial(serve_node, processes=0),
    "node-alone-no-flush": partial(serve_node_without_flush, processes=0),
    "stock": serve_stock,
    "stock-chunked": serve_stock_chunked,
}

if __name__ == "__main__":
    if len(sys.argv) == 2:  # a process that receives for the node without fsync
        flush_nothing()
        process.main(socket.socket(fileno=int(sys.argv[1])))
        sys.exit()
    KINDS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
