"""Where results go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from dicom_node.results.result_set import Kind
from dicom_node.settings.fields import (
    AETitle,
    Name,
    Port,
    Section,
    WebService,
    need_together,
)


class DestinationTLS(Section):
    """TLS to a C-STORE SCP (PS3.15 B.12).

    Attributes
    ----------
    ca_file : certificates (PEM) of those who may have signed the destination's
    certificate_file, key_file : ours, for a destination that asks for one (PEM)
    server_name : what the destination's certificate names; its ``host`` unless set
    check_name : false takes any certificate that is signed by one of ``ca_file``
    """

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None
    check_name: bool = True

    @model_validator(mode="after")
    def _whole(self) -> Self:
        need_together(self, "certificate_file", "key_file")
        if self.server_name and not self.check_name:
            raise ValueError("server_name is looked at with check_name = true only")
        return self


class Outgoing(Section):
    """What every kind of destination has.

    Attributes
    ----------
    name : in pipelines and commands
    timeout_s : for connecting and for each answer
    retry_first_s, retry_longest_s : exponential backoff with jitter
    retry_for_hours, retry_attempts : after either the delivery has failed; 0 attempts: any number
    outputs : kinds of objects that it gets, of those that a pipeline makes; all unless set
    ask_again_hours : a SOP class that it refused is not offered for so long
    """

    name: Name
    outputs: Annotated[tuple[Kind, ...], Field(min_length=1)] | None = None
    timeout_s: PositiveFloat = 30.0
    retry_first_s: PositiveFloat = 2.0
    retry_longest_s: PositiveFloat = 300.0
    retry_for_hours: PositiveFloat = 72.0
    retry_attempts: Annotated[int, Field(ge=0)] = 0
    ask_again_hours: PositiveFloat = 24.0


class Destination(Outgoing):
    """A C-STORE SCP that takes results.

    Attributes
    ----------
    ae_title, host, port : where it is called
    calling_ae_title : ours, as that SCP knows it
    tls : without it nothing is encrypted
    commitment : whether it is asked to commit itself to what it stored; ``required``: a delivery without
        that has failed
    commitment_timeout_s, commitment_attempts : how long a report is waited for, and how often it is asked
    commitment_hold_s : how long the association is kept open for a report on it
    """

    ae_title: AETitle
    host: str
    port: Port
    calling_ae_title: AETitle = "DICOM_NODE"
    tls: DestinationTLS | None = None
    commitment: Literal["off", "wanted", "required"] = "off"
    commitment_timeout_s: PositiveFloat = 3600.0
    commitment_attempts: PositiveInt = 3
    commitment_hold_s: Annotated[float, Field(ge=0)] = 1.0


class WebDestination(Outgoing, WebService):
    """A DICOMweb server that takes results (STOW-RS); ``url`` is without /studies."""


def _kind_of_destination(value: object) -> str:
    has_url = "url" in value if isinstance(value, dict) else isinstance(value, WebDestination)
    return "dicomweb" if has_url else "dimse"


AnyDestination = Annotated[
    Annotated[Destination, Tag("dimse")] | Annotated[WebDestination, Tag("dicomweb")],
    Discriminator(_kind_of_destination),
]
