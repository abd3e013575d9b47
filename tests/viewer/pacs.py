"""Orthanc with DICOMweb, as the PACS behind a viewer."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.orthanc import Orthanc
from tests.support.running import free_port, need, process

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@contextmanager
def viewing_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Start Orthanc with what a viewer needs of it."""
    program = need("Orthanc")
    if not PLUGIN.exists():
        need("orthanc-dicomweb")  # a library, so never found as a program
    started = Orthanc(free_port(), free_port())
    folder.mkdir()
    configuration = {
        "StorageDirectory": "db",
        "IndexDirectory": "db",
        "HttpPort": started.http_port,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": started.dicom_port,
        "DefaultEncoding": "Utf8",
        "Plugins": [str(PLUGIN)],
        # with less than Full, OHIF does not show a SEG
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    command = (program, "orthanc.json")
    with process(*command, log=folder / "orthanc.log", port=started.http_port, cwd=folder):
        yield started


def store(pacs: Orthanc, paths: Iterable[Path]) -> None:
    """Store files; the way of DICOM itself is tested in tests/peers."""
    for path in paths:
        url = f"http://127.0.0.1:{pacs.http_port}/instances"
        with urllib.request.urlopen(urllib.request.Request(url, path.read_bytes()), timeout=60):
            pass
