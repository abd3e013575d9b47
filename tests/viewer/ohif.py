"""OHIF's published build, fetched once, and a server for it that hands DICOMweb on to a PACS."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.running import need

VERSION = "3.13.2"
SHA512 = (
    "5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3dee"
    "a3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10"
)
"""Of the package's archive; what it holds runs in the browser."""
CACHE = Path(__file__).parents[2] / ".cache"
FETCH_TIMEOUT_S = 300
PACS_TIMEOUT_S = 120

# What a hospital would put into its own app-config.js, but that nobody is asked whether to load a
# segmentation: a click less for the tests.
_CONFIGURATION = """
window.config = {
  routerBasename: '/',
  extensions: [],
  modes: [],
  showStudyList: true,
  disableConfirmationPrompts: true,
  investigationalUseDialog: { option: 'never' },
  maxNumberOfWebWorkers: 1,
  studyPrefetcher: { enabled: false },
  defaultDataSourceName: 'pacs',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
    sourceName: 'pacs',
    configuration: {
      friendlyName: 'Orthanc',
      name: 'pacs',
      wadoUriRoot: location.origin + '/dicom-web',
      qidoRoot: location.origin + '/dicom-web',
      wadoRoot: location.origin + '/dicom-web',
      qidoSupportsIncludeField: false,
      imageRendering: 'wadors',
      thumbnailRendering: 'wadors',
      enableStudyLazyLoad: true,
      supportsFuzzyMatching: false,
      supportsWildcard: true,
      bulkDataURI: { enabled: true },
      omitQuotationForMultipartRequest: true,
    },
  }],
};
"""


def fetch_ohif() -> Path:
    """Folder of the static site; fetched from the npm registry when it is not in the cache."""
    site = CACHE / f"ohif-{VERSION}"
    if not site.is_dir():
        part = CACHE / f"ohif-{VERSION}.{os.getpid()}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        pack = [need("npm"), "pack", "--silent", "--json", f"@ohif/app@{VERSION}"]
        done = subprocess.run(pack, cwd=part, check=True, timeout=FETCH_TIMEOUT_S, capture_output=True)
        package = part / json.loads(done.stdout)[0]["filename"]
        assert hashlib.sha512(package.read_bytes()).hexdigest() == SHA512, "not the package that is expected"
        with tarfile.open(package) as archive:
            kept = [m for m in archive if m.name.startswith("package/dist/") and not m.name.endswith(".map")]
            archive.extractall(part, kept, filter="data")
        # Another process may have been faster; its folder is as good.
        if not site.is_dir():
            (part / "package" / "dist").rename(site)
        shutil.rmtree(part)
    return site


class _Site(SimpleHTTPRequestHandler):
    """The files of OHIF; ``/dicom-web`` from the PACS; every other address is OHIF's first page."""

    protocol_version = "HTTP/1.1"
    pacs = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/dicom-web/"):
            self._hand_on()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", _CONFIGURATION.encode())
        else:
            # OHIF reads the address itself: /viewer is a page, not a file.
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"
            super().do_GET()

    def _hand_on(self) -> None:
        wanted = urllib.request.Request(self.pacs + self.path)  # noqa: S310 - on loopback
        wanted.add_header("Accept", self.headers.get("Accept", "*/*"))
        # Orthanc writes this into the addresses of bulk data, and the browser must find them here.
        wanted.add_header("Host", self.headers["Host"])
        try:
            with urllib.request.urlopen(wanted, timeout=PACS_TIMEOUT_S) as answer:  # noqa: S310
                self._answer(answer.status, answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, "text/plain", error.read())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: what goes wrong shows in the browser's console."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A browser that leaves in the middle of an answer is no error."""


@contextmanager
def serve_ohif(pacs: str) -> Iterator[str]:
    """Serve OHIF on 127.0.0.1 with a PACS behind it; gives the address.

    Parameters
    ----------
    pacs : ``http://HOST:PORT`` below which ``/dicom-web`` is
    """
    site = str(fetch_ohif())

    class Site(_Site):
        def __init__(self, *arguments: object, **more: object) -> None:
            super().__init__(*arguments, **more, directory=site)  # type: ignore[arg-type,misc]

    Site.pacs = pacs
    with _Server(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
