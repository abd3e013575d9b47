"""Orthanc as the PACS of a hospital: a copy of its configuration for one test, and its REST."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.running import free_port, listens, need, process, wait_for

# Push each MR series to the node as one job and one association once it has been stable for
# StableAge seconds, but not what the node itself has sent.
_AUTOROUTE = """
function OnStableSeries(seriesId, tags, metadata)
  if tags['Modality'] == 'MR' and metadata['RemoteAET'] ~= 'DICOM_NODE' then
    RestApiPost('/modalities/node/store', DumpJson({ Resources = { seriesId }, Synchronous = false }, true))
  end
end
"""


PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc.

    Attributes
    ----------
    user, password : for its web server; None: anybody
    """

    http_port: int
    dicom_port: int
    user: str | None = None
    password: str | None = None

    def _open(self, path: str) -> bytes:
        who = (self.user, self.password or "") if self.user else None
        answer = httpx.get(f"http://127.0.0.1:{self.http_port}{path}", auth=who, timeout=30, trust_env=False)
        return answer.raise_for_status().content

    def get(self, path: str) -> Any:
        return json.loads(self._open(path))

    def file(self, instance: str) -> bytes:
        return self._open(f"/instances/{instance}/file")

    def files(self) -> dict[str, bytes]:
        """Every stored instance: its SOP Instance UID and its bytes."""
        found = self.get("/instances?expand")
        return {each["MainDicomTags"]["SOPInstanceUID"]: self.file(each["ID"]) for each in found}

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
def orthanc(
    folder: Path,
    *,
    node_port: int,
    autoroute: bool,
    dicomweb: bool = False,
    user: str | None = None,
    commitment: bool = False,
) -> Iterator[Orthanc]:
    """Start Orthanc with the node as a modality.

    Parameters
    ----------
    dicomweb : with its plugin, at ``/dicom-web``
    user : must show a password to the web server
    commitment : whether the node may ask for storage commitment
    """
    program = need("Orthanc")
    folder.mkdir()
    password = secrets.token_hex() if user else None
    started = Orthanc(free_port(), free_port(), user, password)
    (folder / "autoroute.lua").write_text(_AUTOROUTE)
    node = {"AET": "DICOM_NODE", "Host": "127.0.0.1", "Port": node_port, "AllowStorageCommitment": commitment}
    configuration = {
        "Name": "TESTPACS",
        "StorageDirectory": "db",
        "IndexDirectory": "db",
        "HttpPort": started.http_port,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": user is not None,
        "RegisteredUsers": {user: password} if user else {},
        "DicomAet": "TESTPACS",
        "DicomPort": started.dicom_port,
        "DefaultEncoding": "Utf8",
        "DicomModalities": {"node": node},
        "StableAge": 10,  # longer than the machine may stall between two images
        "OverwriteInstances": False,
        "LuaScripts": ["autoroute.lua"] if autoroute else [],
        "Plugins": [_plugin()] if dicomweb else [],
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    command = (program, "orthanc.json")
    with process(*command, log=folder / "orthanc.log", port=started.dicom_port, cwd=folder):
        wait_for(lambda: listens(started.http_port))  # which it begins after the other
        yield started


def _plugin() -> str:
    if PLUGIN.exists():
        return str(PLUGIN)
    if os.environ.get("CI"):
        pytest.fail(f"{PLUGIN} is not installed; tests/install_peers.sh should have done it")
    pytest.skip(f"{PLUGIN} is not installed")
