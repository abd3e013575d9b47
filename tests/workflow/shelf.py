"""A node's folder with images, results and the book, as retention finds it, without the node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.receive.completion import look
from dicom_node.receive.instance import Incoming
from dicom_node.receive.spool import Spool
from dicom_node.settings import Completion, Destination, Settings
from dicom_node.settings import Retention as Rules
from dicom_node.workflow.intake import Intake
from dicom_node.workflow.ledger import Delivery, Entry, Ledger, Sent, State
from dicom_node.workflow.retention import Retention, What
from dicom_node.workflow.series_job import job_id_of
from dicom_node.workflow.worked import Outcome
from tests.receive.images import encode, mr_image

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=100)
UID = "1.2.826.0.1.3680043.10.1.7"
BOTH = {"images_days": 7, "results_days": 30}


class Jobs:
    """Where complete series go instead of to an analysis."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def enqueue(self, series: object) -> None:
        self.taken.append(series.instances)

    def begin(self, _entry: Entry, series: object) -> None:
        self.taken.append(series.instances)


class Shelf:
    """A node's folder, without the node."""

    def __init__(self, folder: Path, rules: dict[str, float], commitment: str = "off") -> None:
        pacs = Destination(name="pacs", ae_title="PACS", host="h", port=1, commitment=commitment)
        self.settings = Settings(
            folder=folder,
            completion=Completion(longest_s=60),
            retention=Rules(**rules),
            destinations=(pacs,),
        )
        self.spool = Spool(folder / "spool", 0)
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.jobs = Jobs()
        self.intake = Intake(self.spool, self.ledger, self.jobs)
        self.retention = Retention(self.settings, self.spool, self.ledger)

    def receive(self, *numbers: int, uid: str = UID, seed: int = 0, size: int = 32) -> None:
        for number in numbers:
            image = mr_image(number, series=uid, seed=seed, size=size)
            part = self.spool.begin(
                Incoming(image.SOPClassUID, image.SOPInstanceUID, ExplicitVRLittleEndian, "NODE", "MR", 1)
            )
            part.write(encode(image, ExplicitVRLittleEndian))
            part.commit()

    def enter(self, state: State, sent: Sent | None = None, uid: str = UID) -> str:
        """Write into the book what became of the images that are there; the job's id."""
        series = look(self.spool, uid)
        job_id = job_id_of(series)
        self.ledger.open_job(job_id, uid, series.instances)
        parcels = {"pacs": "{}"} if sent else None
        folder = self.settings.folder / "results" / uid / job_id.removeprefix(f"{uid}-")
        self.ledger.update(
            job_id, State.SENDING if sent else state, outcome=Outcome.FINDINGS, folder=folder, parcels=parcels
        )
        if sent:
            (delivery,) = self.ledger.entry(job_id).deliveries
            self.ledger.deliver(job_id, Delivery("pacs", sent, 1, "", ticket=delivery.ticket))
            folder.mkdir(parents=True)
            for kind in ("seg", "sc", "sr"):
                write_object(folder / f"{kind}.dcm", kind)
            (folder / "result.json").write_text("{}")
        return job_id

    def take(self, uid: str = UID) -> None:
        self.intake.take(look(self.spool, uid))

    def due(self, now: datetime = LATER) -> list[What]:
        return [holding.what for holding in self.retention.due(now)]


def write_object(path: Path, kind: str) -> None:
    dataset = mr_image(1)
    dataset.SeriesInstanceUID = f"{UID}.{len(kind)}"
    dataset.SeriesDate, dataset.SeriesTime = "20260101", "120000"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)
