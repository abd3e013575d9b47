"""What a lesion is called and shown in, the same in the SEG, the report and the picture."""

from __future__ import annotations

from highdicom.color import CIELabColor

from dicom_node.analysis.finding_kind import FindingKind
from dicom_node.analysis.findings import Lesion
from dicom_node.results.provenance import Provenance

_COLOURS = (
    CIELabColor(54.0, 81.0, 70.0),  # red, for the largest lesion
    CIELabColor(88.0, -79.0, 81.0),  # green
    CIELabColor(97.0, -16.0, 93.0),  # yellow
    CIELabColor(91.0, -51.0, -15.0),  # cyan
    CIELabColor(60.0, 93.0, -61.0),  # magenta
    CIELabColor(75.0, 24.0, 79.0),  # orange
)


def colour_of(number: int) -> CIELabColor:
    """Recommended Display CIELab Value (PS3.3 C.10.7.1.1) of the lesion with this number."""
    return _COLOURS[(number - 1) % len(_COLOURS)]


def rgb_of(number: int) -> tuple[int, int, int]:
    """The same colour in sRGB, 0 to 255, as viewers convert it."""
    red, green, blue = colour_of(number).to_rgb(clip=True)
    return int(red), int(green), int(blue)


def tracking_identifier(lesion: Lesion, finding: FindingKind) -> str:
    """The name that a lesion has in the SEG and in the SR."""
    return f"{finding.title} {lesion.number}"


def tracking_uid(lesion: Lesion, provenance: Provenance) -> str:
    """The UID that a lesion has in the SEG and in the SR."""
    return provenance.uid(f"tracking {lesion.number}")
