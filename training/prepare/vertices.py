"""What the coordinates of a polygon mean; apart from the rest so that ``--help`` loads no library."""

from __future__ import annotations

from enum import StrEnum


class Vertices(StrEnum):
    """A reading of polygons.

    Attributes
    ----------
    EDGES : the first pixel reaches from 0 to 1, as COCO and most drawing tools have it
    CENTRES : the first pixel's centre is 0 and vertices are inside, as ``cv2.findContours`` has it
    """

    EDGES = "edges"
    CENTRES = "centres"
