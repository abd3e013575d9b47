"""What can be wrong with a file that somebody wants converted."""

from __future__ import annotations

from dicom_node.errors import PermanentError


class ConversionError(PermanentError):
    """A network cannot be converted; the message says why and what would help."""
