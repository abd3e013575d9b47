"""A node with its page, as its own process, with series in each state that has an end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import httpx
import numpy as np

from dicom_node.deliver.cstore import Peer, send_files
from dicom_node.phantom.mr_series import T1CE, mr_series, write_series
from dicom_node.trial.archive import Archive
from dicom_node.workflow.entry import ENDED, Entry
from dicom_node.workflow.ledger import Ledger
from tests.support.bundles import write_spot_bundle
from tests.support.running import free_port, node_process, wait_for, write_configuration
from tests.support.spot import SPOT, Spot, affine_of, image_spot

PATIENT_NAME = "Phantom, Brain"


AUDIT = "audit.xml"


@dataclass(frozen=True)
class Site:
    """A running node.

    Attributes
    ----------
    folder : with what was sent, in a folder for each kind of series
    spot : what the series ``found`` shows
    """

    url: str
    folder: Path
    spot: Spot
    dicom_port: int

    def entries(self) -> list[Entry]:
        ledger = Ledger(self.folder / "var" / "ledger.sqlite")
        try:
            return ledger.entries()
        finally:
            ledger.close()

    def entry(self, name: str) -> Entry:
        """The latest version of a series by the name under which it was made."""
        uid = self.uid(name)
        return max((e for e in self.entries() if e.series_instance_uid == uid), key=lambda e: e.version)

    def uid(self, name: str) -> str:
        return str((self.folder / name / "uid").read_text())

    def make(self, name: str, spot: Spot, *, without: int | None = None, **arguments: object) -> list[Path]:
        """Write a series, and remember its UID."""
        datasets = mr_series(spot.voxels, spot.affine, seed=name, **arguments)  # type: ignore[arg-type]
        if without is not None:
            del datasets[without]
        paths = write_series(datasets, self.folder / name / "series")
        (self.folder / name / "uid").write_text(str(datasets[0].SeriesInstanceUID))
        return paths

    def send(self, paths: list[Path]) -> None:
        list(send_files(Peer("DICOM_NODE", "127.0.0.1", self.dicom_port, "TEST"), paths))

    def wait_until_ended(self, count: int) -> None:
        def ended() -> bool:
            entries = self.entries()
            return len(entries) >= count and all(entry.state in ENDED for entry in entries)

        wait_for(ended, timeout_s=180)

    def picture(self, name: str, slice_: int | None = None) -> Path:
        """A slice of the spot as PNG or JPEG, as one would save it from a viewer."""
        index = int(self.spot.mask.sum(axis=(1, 2)).argmax()) if slice_ is None else slice_
        image = cv2.resize(self.spot.voxels[index] / 4, (240, 288), interpolation=cv2.INTER_LINEAR)
        path = self.folder / name
        assert cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))
        return path


def nothing_found() -> Spot:
    """A head with bright points, too small for the networks of the bundle: they see half as many pixels."""
    affine = affine_of(shape=(12, 192, 160), spacing_mm=(4.0, 0.75, 0.75))
    spot = image_spot(affine, shape=(12, 192, 160), radius_mm=0.01)
    points = np.zeros(spot.voxels.shape, bool)
    points[:, ::5, ::5] = True
    voxels = np.where(points & (spot.voxels > 0), SPOT, spot.voxels).astype(np.float32)
    return replace(spot, voxels=voxels)


@contextmanager
def serve_site(folder: Path) -> Iterator[Site]:
    """Run a node with a page, and send it a series of each kind."""
    models = folder / "models"
    for name in ("spot", "spot-other"):
        write_spot_bundle(models / name)
        (models / name / "CARD.md").write_text(
            f"# {name}\n\nSees *bright* spots.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
        )
    web_port, dicom_port = free_port(), free_port()
    with Archive(folder / "archive", "ARCHIVE") as archive:
        destinations: dict[str, tuple[str, int] | str] = {
            "archive": ("ARCHIVE", archive.port),
            "down": ("DOWN", free_port()),
        }
        path = write_configuration(
            folder / "node.toml", port=dicom_port, models=models, destinations=destinations
        )
        text = path.read_text().replace("[web]\nenabled = false", f"[web]\nport = {web_port}")
        text += f'\n[audit]\nfile = "{folder / AUDIT}"\n'
        path.write_text(text.replace('name = "down"', 'name = "down"\nretry_attempts = 1'))
        with node_process(path, web_port):
            site = Site(f"http://127.0.0.1:{web_port}", folder, image_spot(), dicom_port)

            def ready() -> bool:
                try:
                    return httpx.get(f"{site.url}/ready", timeout=60).status_code == 200
                except httpx.TimeoutException:  # a loaded machine
                    return False

            wait_for(ready)
            paths = [
                *site.make("found", site.spot),
                *site.make("none", nothing_found()),
                *site.make("failed", site.spot, without=5),
                *site.make("skipped", site.spot, acquisition=T1CE),
            ]
            site.send(paths)
            site.wait_until_ended(4)
            yield site
