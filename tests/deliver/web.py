"""A web destination that is a peer of bytes."""

from __future__ import annotations

from io import BytesIO

import pydicom

from dicom_node.settings import WebDestination
from tests.support.web_peer import Request, WebPeer, answer, stored

SECRET = "correct-horse-battery-staple"  # noqa: S105


def sent_uid(request: Request) -> str:
    return str(pydicom.dcmread(BytesIO(request.dicom())).SOPInstanceUID)


def takes_all(request: Request) -> bytes:
    return answer(200, stored(sent_uid(request)))


def to(peer: WebPeer, timeout_s: float = 60.0, **more: object) -> WebDestination:
    return WebDestination(name="web", url=peer.url, timeout_s=timeout_s, **more)
