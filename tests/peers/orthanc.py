"""Orthanc as the PACS of a hospital: a copy of its configuration for one test, and its REST."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.running import free_port, need, process, wait_for

# Push each MR series to the node as one job and one association once it has been stable for
# StableAge seconds, but not what the node itself has sent.
_AUTOROUTE = """
function OnStableSeries(seriesId, tags, metadata)
  if tags['Modality'] == 'MR' and metadata['RemoteAET'] ~= 'DICOM_NODE' then
    RestApiPost('/modalities/node/store', DumpJson({ Resources = { seriesId }, Synchronous = false }, true))
  end
end
"""


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    http_port: int
    dicom_port: int

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=30) as answer:
            return json.load(answer)

    def file(self, instance: str) -> bytes:
        url = f"http://127.0.0.1:{self.http_port}/instances/{instance}/file"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return bytes(answer.read())

    def modalities(self) -> dict[str, list[str]]:
        """Orthanc ids of the series of each modality."""
        found: dict[str, list[str]] = {}
        for series in self.get("/series?expand"):
            found.setdefault(series["MainDicomTags"]["Modality"], []).append(series["ID"])
        return found

    def wait_for_results(self, *modalities: str) -> dict[str, list[str]]:
        def arrived() -> dict[str, list[str]] | None:
            found = self.modalities()
            return found if set(modalities) <= found.keys() else None

        return wait_for(arrived, 120)


@contextmanager
def orthanc(folder: Path, *, node_port: int, autoroute: bool) -> Iterator[Orthanc]:
    """Start Orthanc with the node as a modality."""
    program = need("Orthanc")
    started = Orthanc(free_port(), free_port())
    folder.mkdir()
    (folder / "autoroute.lua").write_text(_AUTOROUTE)
    configuration = {
        "Name": "TESTPACS",
        "StorageDirectory": "db",
        "IndexDirectory": "db",
        "HttpPort": started.http_port,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "TESTPACS",
        "DicomPort": started.dicom_port,
        "DefaultEncoding": "Utf8",
        "DicomModalities": {"node": {"AET": "DICOM_NODE", "Host": "127.0.0.1", "Port": node_port}},
        "StableAge": 2,
        "LuaScripts": ["autoroute.lua"] if autoroute else [],
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    command = (program, "orthanc.json")
    with process(*command, log=folder / "orthanc.log", port=started.dicom_port, cwd=folder):
        yield started
