"""Covers: kill -9 of a receiving process while several peers send: what was acknowledged is there, whole.
Does not cover: a power cut, where the disk's own cache counts (test_spool.py checks the order of flushes).
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.receive.spool import Spool
from tests.receive.images import SERIES, data_set_of, encode, mr_image
from tests.receive.wire import Peer

SERVE = """
import sys, threading
from pathlib import Path
from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.settings import Receive
spool = Spool(Path(sys.argv[1]), 0)
spool.sweep()
receiver = Receiver(Receive(), spool, lambda _: None, lambda *_: None, port=0)
receiver.start()
print(receiver.port, file=sys.stderr, flush=True)
threading.Event().wait()
"""


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path):
    acknowledged: dict[str, bytes] = {}
    for round_ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, tmp_path], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert process.stderr is not None
        port = int(process.stderr.readline())
        enough = threading.Event()

        def send(sender: int, round_: int = round_, port: int = port, enough=enough) -> None:
            with Peer(port) as peer:
                peer.associate()
                for number in range(10_000):
                    uid_end = int(f"{round_ + 1}{sender}{number:05d}")
                    image = encode(mr_image(uid_end), ExplicitVRLittleEndian)
                    try:
                        if peer.store(f"{SERIES}.{uid_end}", image, pieces=3) != 0:
                            return
                    except OSError:
                        return
                    acknowledged[f"{SERIES}.{uid_end}"] = image
                    if number == 15:
                        enough.set()

        senders = [threading.Thread(target=send, args=(sender,)) for sender in range(3)]
        for sender in senders:
            sender.start()
        assert enough.wait(60)
        process.kill()
        process.wait()
        process.stderr.close()
        for sender in senders:
            sender.join(30)

        spool = Spool(tmp_path, 0)
        spool.sweep()
        stored = {path.stem: data_set_of(path) for path in spool.instances(SERIES)}
        assert acknowledged.items() <= stored.items()
        assert len(stored) - len(acknowledged) <= 3 * (round_ + 1)
        assert not list((tmp_path / "incoming").iterdir())
