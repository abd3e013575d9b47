"""The page and the API beside the service."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dicom_node.settings.fields import Port, Section
from dicom_node.web.access import objection_to


class Web(Section):
    """The page and the API.

    Attributes
    ----------
    enabled : without it the node has neither
    host, port : where they are served; this machine only unless set
    cache_mb : of decoded series, so that going through slices is quick
    trial_hours : what was tried out is deleted so long after it was last looked at
    maximum_upload_mb : of what is tried out at once, packed and unpacked
    maximum_files : tried out at once
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 8080
    cache_mb: PositiveInt = 512
    trial_hours: PositiveFloat = 1.0
    maximum_upload_mb: Annotated[int, Field(ge=1, le=1 << 16)] = 1024
    maximum_files: PositiveInt = 3000

    @model_validator(mode="after")
    def _may_be_reached(self) -> Self:
        if self.enabled and (objection := objection_to(self.host)):
            raise ValueError(objection)
        return self
