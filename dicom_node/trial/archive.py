"""A small archive for the demonstration: it stores what it is sent and answers C-ECHO.

It is a stand-in for a PACS on loopback and nothing more; the tests use real ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer


class Archive:
    """A C-STORE SCP that writes ``folder/SOP_INSTANCE_UID.dcm``; a context manager.

    Parameters
    ----------
    folder : made when missing
    ae_title : ours
    port : on 127.0.0.1; 0 for any that is free
    """

    def __init__(self, folder: Path, ae_title: str, port: int = 0) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self._port = port
        self._server: ThreadedAssociationServer | None = None

    @property
    def port(self) -> int:
        """The port on 127.0.0.1, once started."""
        if self._server is None:
            raise RuntimeError("the archive is not started")
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        ae = AE(self.ae_title)
        ae.supported_contexts = AllStoragePresentationContexts
        ae.add_supported_context(Verification)
        self._server = ae.start_server(
            ("127.0.0.1", self._port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()

    def _store(self, event: evt.Event) -> int:
        path = self.folder / f"{event.request.AffectedSOPInstanceUID}.dcm"  # type: ignore[union-attr]
        part = path.with_suffix(".part")
        part.write_bytes(event.encoded_dataset())
        part.replace(path)
        return 0x0000
