"""The errors of the node.

The one split that matters to the work is *transient* (the same call may succeed
later: it is retried) or *permanent* (it never will: it is reported)::

    NodeError
    |-- TransientError
    |   |-- DestinationUnavailable   no connection, refused for now, out of resources
    |   `-- StorageExhausted         the spool has no room
    `-- PermanentError
        |-- ConfigurationError       a setting, or a file that a setting names
        |-- BundleError              a model file is missing, altered or not what its manifest says
        |-- InstanceRefused          a received instance cannot be kept (carries a DIMSE status)
        |-- SeriesRefused            a series that fits a pipeline cannot be analysed
        |-- ResultInvalid            a result object failed its proof
        `-- DeliveryRefused          a destination will never take this object

Messages name the thing and the remedy and carry no patient data: they reach logs.
"""

from __future__ import annotations


class NodeError(Exception):
    """Base of every error that the node raises on purpose."""


class TransientError(NodeError):
    """The same call may succeed later."""


class DestinationUnavailable(TransientError):
    """A destination does not answer, or refuses for now."""


class StorageExhausted(TransientError):
    """The spool's file system has no room."""


class PermanentError(NodeError):
    """The same call will never succeed."""


class ConfigurationError(PermanentError):
    """A setting, or a file named by a setting, cannot be used."""


class BundleError(PermanentError):
    """A model bundle cannot be trusted or does not do what its manifest says."""


class InstanceRefused(PermanentError):
    """A received instance cannot be kept.

    Parameters
    ----------
    status : int
        The C-STORE response status (PS3.4 Annex B.2.3, PS3.7 Annex C).
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class SeriesRefused(PermanentError):
    """A series that fits a pipeline cannot be analysed; the message is the cause in plain words."""


class ResultInvalid(PermanentError):
    """A result object failed its proof and must not leave."""


class DeliveryRefused(PermanentError):
    """A destination will never take this object."""
