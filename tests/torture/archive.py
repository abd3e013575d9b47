"""An archive that outlives the node, remembers every store, and is not always nice."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pynetdicom import evt

from tests.support.committing import Asked, Committing
from tests.support.running import free_port, listens, need, process

_OUT_OF_RESOURCES = 0xA700


@dataclass
class Recorder(Committing):
    """Keeps each instance as it first came, and the digest of each coming.

    Sometimes it is out of resources, stores and gives no answer, or commits itself to all but one
    object. It asks nobody to wait: its reports come on associations of their own, once.

    Attributes
    ----------
    folder : of the data sets, without file meta information, one file for each SOP Instance UID
    comings : digests of the data sets that came, by SOP Instance UID
    """

    folder: Path = Path()
    chance: random.Random = field(default_factory=random.Random)
    comings: dict[str, list[str]] = field(default_factory=dict)
    is_nice: bool = False

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.after = type(self)._report_later

    def _store(self, event: evt.Event) -> int:
        if not self.is_nice and self.chance.random() < 0.02:
            return _OUT_OF_RESOURCES
        uid = str(event.request.AffectedSOPInstanceUID)
        data = event.request.DataSet.getvalue()
        digests = self.comings.setdefault(uid, [])
        digests.append(hashlib.sha256(data).hexdigest())
        if len(digests) == 1:
            (self.folder / uid).write_bytes(data)
        self.stored.append(uid)
        if not self.is_nice and self.chance.random() < 0.02:
            event.assoc.abort()
        return 0x0000

    def _report_later(self, asked: Asked) -> None:  # type: ignore[override]
        threading.Thread(target=self._report, args=(asked,), daemon=True).start()

    def _report(self, asked: Asked) -> None:
        time.sleep(self.chance.uniform(0, 1.5))
        kept = list(asked.uids)
        failed = {}
        if not self.is_nice and self.chance.random() < 0.1:
            failed = {kept.pop(): 0x0110}
        if listens(self.node_port):
            with suppress(AssertionError, OSError, RuntimeError, ValueError):  # it was just killed
                self.report(asked.transaction_uid, kept, failed)


@contextmanager
def storescp(folder: Path, log: Path) -> Iterator[int]:
    """Run DCMTK's archive, which keeps the bytes as they come; gives its port."""
    folder.mkdir(parents=True)
    port = free_port()
    command = (need("storescp"), "+B", "--fork", "-aet", "DCMTK", "-od", folder, str(port))
    with process(*command, log=log, port=port):
        yield port
