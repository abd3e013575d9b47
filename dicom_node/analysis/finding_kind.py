"""What a bundle marks: its name in reports, pictures and lists, and its code."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dicom_node.toml_file import Table


class TypeCode(Table):
    """A coded concept (PS3.3 8.8), by default one of CID 7159, Lesion Segmentation Types."""

    value: Annotated[str, Field(pattern=r"^[\x21-\x5b\x5d-\x7e]{1,16}$")] = "108369006"
    scheme: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,16}$")] = "SCT"
    meaning: Annotated[str, Field(pattern=r"^[\x20-\x5b\x5d-\x7e]{1,64}$")] = "Neoplasm"


class FindingKind(Table):
    """The table ``[finding]`` of a manifest.

    Attributes
    ----------
    label : as it stands within a sentence, in ASCII, like ``enhancing tumour``; the longest series
        description that holds it still fits its 64 characters
    type : of the segments and the findings
    """

    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 -]{1,26}[A-Za-z0-9]$")] = "tumour"
    type: TypeCode = TypeCode()

    @property
    def title(self) -> str:
        """The label at the head of a line."""
        return self.label[0].upper() + self.label[1:]
