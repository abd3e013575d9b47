"""The errors of the node, and what each asks for.

The one split that matters to the work is *transient* (the same call may succeed
later: it is retried) or *permanent* (it never will: it is reported). `is_transient`
decides, for the errors of libraries too. `reason` is the why in one sentence and
`remedy` what a person can do::

    NodeError
    |-- TransientError
    |   |-- DestinationUnavailable   no connection, refused for now, out of resources
    |   |-- DatabaseUnavailable      the database server of several nodes does not answer
    |   |-- InferenceUnavailable     the server that runs the networks does not answer, or is not ready
    |   `-- StorageExhausted         a disk of ours is full or failing
    |-- Cancelled                    an operator stopped the work, or began it anew
    `-- PermanentError
        |-- ConfigurationError       a setting, or a file that a setting names
        |   `-- DestinationUnknown     a result is to go where no destination has that name (any more)
        |-- BundleError              a model file is missing, altered or not what its manifest says
        |   `-- InferenceInvalid     the server's network is not the bundle's, or does not answer as it should
        |-- InstanceRefused          a received instance cannot be kept (carries a DIMSE status)
        |-- SeriesRefused            a series that fits a pipeline cannot be analysed
        |-- ResultInvalid            a result object failed its proof
        `-- DeliveryRefused          a destination will never take this object
            `-- ClassRefused         nor any other of its SOP class

Messages name the thing and the remedy and carry no patient data: they reach logs.
"""

from __future__ import annotations

import errno


class NodeError(Exception):
    """Base of every error that the node raises on purpose."""

    remedy = "look in the log of the node, then retry"


class TransientError(NodeError):
    """The same call may succeed later."""


class DestinationUnavailable(TransientError):
    """A destination does not answer, or refuses for now."""

    remedy = "start the destination, or mend the way to it (host, port, firewall), then retry"


class DatabaseUnavailable(TransientError):
    """The PostgreSQL that several nodes share does not answer."""

    remedy = "start the database, or mend the way to it (database.url), then retry"


class InferenceUnavailable(TransientError):
    """The server that runs a bundle's networks does not answer, or is not ready."""

    remedy = "start the inference server, or mend the way to it (url, credentials, firewall), then retry"


class StorageExhausted(TransientError):
    """A file system of the node has no room, or fails."""

    remedy = "make room on the node's disk, or mend it, then retry"


class Cancelled(NodeError):
    """The work is no longer wanted: an operator cancelled it, or began it anew."""


class PermanentError(NodeError):
    """The same call will never succeed."""


class ConfigurationError(PermanentError):
    """A setting, or a file named by a setting, cannot be used."""

    remedy = "correct the configuration, restart the node, then retry"


class DestinationUnknown(ConfigurationError):
    """A result is to go to a destination whose name is not in the configuration (any more)."""

    remedy = (
        "configure that name again, then retry; or analyse again, which sends where its pipeline sends now"
    )


class BundleError(PermanentError):
    """A model bundle cannot be trusted or does not do what its manifest says."""

    remedy = "restore the bundle, restart the node, then retry"


class InferenceInvalid(BundleError):
    """What a server runs is not the bundle's network, or does not answer as it should."""

    remedy = "let the inference server run the bundle's own files, then retry"


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

    remedy = "correct the series and send it under new SOP Instance UIDs"


class ResultInvalid(PermanentError):
    """A result object failed its proof and must not leave."""

    remedy = "a defect of the node: report it with its log; after an upgrade, retry"


class DeliveryRefused(PermanentError):
    """A destination will never take this object."""

    remedy = "let the destination take it (its log says why not; SOP classes, AE titles), then retry"


class ClassRefused(DeliveryRefused):
    """A destination does not take objects of this SOP class.

    Parameters
    ----------
    sop_class_uid : str
    """

    def __init__(self, message: str, sop_class_uid: str) -> None:
        super().__init__(message)
        self.sop_class_uid = sop_class_uid


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later: errors of disk and network, too."""
    return isinstance(error, TransientError | OSError)


def may_be_read_later(error: BaseException) -> bool:
    """Whether a file may be in order: a disk, or a lack of descriptors, keeps us from reading it now.

    What pydicom says of a damaged file is no :class:`NodeError`, or an OSError without a number.
    """
    if isinstance(error, OSError):
        return error.errno not in (None, errno.ENOENT)
    return is_transient(error)


def reason(error: BaseException) -> str:
    """Say in one sentence why, without patient data: texts of libraries may quote them."""
    if isinstance(error, NodeError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"error {type(error).__name__}, see the log"


def remedy(error: BaseException) -> str:
    """Say what a person can do."""
    if isinstance(error, NodeError):
        return error.remedy
    return StorageExhausted.remedy if isinstance(error, OSError) else NodeError.remedy
