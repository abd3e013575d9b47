"""The pictures of the page in the documentation: ``python -m tests.web.pictures docs/images``.

A node with the shipped bundles gets the phantom with and without a lesion and one of another contrast, and is
photographed in Chromium.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import cv2
import httpx
import numpy as np
from playwright.sync_api import Page, expect

from dicom_node.phantom.mr_series import write_series
from dicom_node.phantom.scan import Scan, scan_phantom
from dicom_node.series.volume import Plane
from dicom_node.trial.archive import Archive
from tests.support.running import free_port, node_process, send, wait_for, wait_until_ended
from tests.viewer.browser import chromium
from tests.web.page_checks import LOADED

WIDTH = 1400
PATIENCE_MS = 120_000
SETTINGS = """
folder = "{folder}/var"
[receive]
port = {port}
[web]
port = {web_port}
[completion]
quiet_after_release_s = 3
[[pipelines]]
name = "flair-glioma"
bundle = "flair-glioma"
match = {{ contrasts = ["FLAIR"] }}
destinations = ["archive"]
[[destinations]]
name = "archive"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {archive}
"""


def photograph(page: Page, path: Path) -> None:
    """Store the whole page, once its pictures are there."""
    page.wait_for_function(LOADED)
    page.mouse.move(0, 0)
    page.screenshot(path=path, type="jpeg", quality=80, full_page=True)


def slice_with_most(scan: Scan, path: Path) -> Path:
    """Write the slice that shows most of the lesion as one would save it from a viewer."""
    image = scan.cut.voxels[int(scan.cut.lesion.sum(axis=(1, 2)).argmax())]
    cv2.imwrite(str(path), np.clip(image / np.percentile(image, 99.8) * 255, 0, 255).astype(np.uint8))
    return path


def make_pictures(out: Path, folder: Path) -> None:
    """Photograph the list, a series with a lesion, a picture that was tried out, and the node."""
    found = scan_phantom()
    scans = [found, scan_phantom(lesion=False), scan_phantom(contrast="T1CE", plane=Plane.CORONAL)]
    configuration, port, web_port = folder / "node.toml", free_port(), free_port()
    with Archive(folder / "archive", "ARCHIVE") as archive:
        values = {"folder": folder, "port": port, "web_port": web_port, "archive": archive.port}
        configuration.write_text(SETTINGS.format(**values))
        with node_process(configuration, port):
            url = f"http://127.0.0.1:{web_port}"
            wait_for(lambda: httpx.get(f"{url}/ready", timeout=60).status_code == 200)
            for number, scan in enumerate(scans, 1):
                send(write_series(scan.datasets, folder / str(number)), port)
                wait_until_ended(folder / "var", number)
            with chromium() as browser:
                page = browser.new_page(viewport={"width": WIDTH, "height": 900}, reduced_motion="reduce")
                page.set_default_timeout(PATIENCE_MS)
                expect.set_options(timeout=PATIENCE_MS)
                page.goto(f"{url}/series")
                photograph(page, out / "web-series.jpg")
                page.goto(f"{url}/series/1")
                page.get_by_text("Rules", exact=True).click()
                photograph(page, out / "web-viewer.jpg")
                page.goto(f"{url}/try")
                page.locator("#files").set_input_files(slice_with_most(found, folder / "slice.png"))
                page.get_by_role("button", name="Analyse").click()
                page.get_by_role("button", name=re.compile("^Segment")).click()
                expect(page.locator(".answer")).to_contain_text("1 region")
                photograph(page, out / "web-try.jpg")
                page.goto(f"{url}/node")
                page.get_by_role("button", name="Ask archive").click()
                expect(page.get_by_text("answers", exact=True)).to_be_visible()
                photograph(page, out / "web-node.jpg")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        make_pictures(Path(sys.argv[1]), Path(temporary))
