"""Archives that refuse some SOP classes, and what they have of a result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.uid import UID

from dicom_node.results.result_set import Kind, ResultSet
from dicom_node.settings import Destination
from dicom_node.workflow.acceptance import Acceptance
from dicom_node.workflow.database import Database
from dicom_node.workflow.parcel import pack, send
from tests.results.result_cases import Case
from tests.support.running import free_port, need, process

CLASSES = {
    "SEG": "SegmentationStorage",
    "PM": "1.2.840.10008.5.1.4.1.1.30",
    "SC": "SecondaryCaptureImageStorage",
    "KOS": "KeyObjectSelectionDocumentStorage",
    "3D SR": "1.2.840.10008.5.1.4.1.1.88.34",
    "Comprehensive SR": "ComprehensiveSRStorage",
    "Enhanced SR": "EnhancedSRStorage",
}
_PROFILE = """
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LittleEndianExplicit
[[PresentationContexts]]
[Taken]
{contexts}
[[Profiles]]
[Archive]
PresentationContexts = Taken
"""


@contextmanager
def archive(folder: Path, *refuses: str) -> Iterator[int]:
    """A storescp that refuses some SOP classes; gives its port."""
    folder.mkdir()
    taken = [uid for name, uid in CLASSES.items() if name not in refuses]
    contexts = "\n".join(f"PresentationContext{i} = {uid}\\Uncompressed" for i, uid in enumerate(taken, 1))
    profile = folder.with_suffix(".cfg")
    profile.write_text(_PROFILE.format(contexts=contexts))
    port = free_port()
    command = (need("storescp"), "-xf", profile, "Archive", "-aet", "ARCHIVE", "-od", folder, port)
    with process(*command, log=folder.with_suffix(".log"), port=port):
        yield port


def deliver(
    result: ResultSet,
    folder: Path,
    *refuses: str,
    outputs: Sequence[Kind],
    wanted: Sequence[Kind] | None = None,
    acceptance: Acceptance | None = None,
) -> dict[str, Dataset]:
    """Send a result as a job does; gives what arrived, by the name of its class.

    Parameters
    ----------
    acceptance : of earlier deliveries to this archive, if there were any
    """
    acceptance = acceptance or Acceptance(Database.in_file(folder.with_suffix(".sqlite")))
    with archive(folder, *refuses) as port:
        allowed = None if wanted is None else tuple(wanted)
        to = Destination(
            name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port, timeout_s=60, outputs=allowed
        )
        for parcel in pack(result.objects, outputs, [to]).values():
            list(send(to, json.loads(parcel), acceptance))
    arrived = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    names = {UID(_uid(uid)).name: name for name, uid in CLASSES.items()}
    assert len({made.SOPClassUID for made in arrived}) == len(arrived)
    return {names[made.SOPClassUID.name]: made for made in arrived}


def _uid(name: str) -> str:
    return name if name[0].isdigit() else str(getattr(pydicom.uid, name))


def dangling(arrived: dict[str, Dataset], case: Case, *known: Dataset) -> set[str]:
    """References to instances that the archive has neither from the scanner nor from us."""
    there = {str(header.SOPInstanceUID) for header in case.volume.headers}
    there |= {str(made.SOPInstanceUID) for made in (*arrived.values(), *known)}
    named = {
        str(e.value)
        for made in arrived.values()
        for e in made.iterall()
        if e.keyword == "ReferencedSOPInstanceUID"
    }
    return named - there
