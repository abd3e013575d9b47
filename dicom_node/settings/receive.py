"""What is received, from whom, and how long it is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from dicom_node.settings.fields import (
    AETitle,
    Network,
    Port,
    Priority,
    Section,
)

# By default: more only wait for the disk
_MOST_PROCESSES = 4


class CalledAE(Section):
    """One AE title that the node answers to, and who may call it (empty: anybody).

    Attributes
    ----------
    ae_title : upper and lower case are different
    calling_ae_titles : of the senders
    addresses : of the senders, or their networks
    priority : of the series sent to it, normal unless set; an urgent one overtakes those that wait
    """

    ae_title: AETitle
    calling_ae_titles: tuple[AETitle, ...] = ()
    addresses: tuple[Network, ...] = ()
    priority: Priority | None = None


class ReceiveTLS(Section):
    """TLS of the C-STORE SCP (PS3.15 B.12).

    Attributes
    ----------
    port : speaks TLS only; the same as ``receive.port``: then nothing is received without TLS
    certificate_file, key_file : ours (PEM, the key without a passphrase), the certificate with its chain
    ca_file : certificates (PEM) of those who may have signed the senders'
    clients : whether a sender must show a certificate; one that is shown must be good
    """

    port: Port = 2762
    certificate_file: Path
    key_file: Path
    ca_file: Path | None = None
    clients: Literal["required", "optional", "none"] = "required"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.clients == "none") != (self.ca_file is None):
            raise ValueError('ca_file says whose senders may come; without one, set clients = "none"')
        return self


class Receive(Section):
    """The C-STORE SCP.

    Attributes
    ----------
    host, port : it is reached at; 127.0.0.1 is this machine only, 0.0.0.0 every network that it is on
    called : its AE titles
    tls : without it nothing is encrypted
    maximum_pdu : bytes, the length that we propose and the most that we take
    maximum_associations, maximum_associations_per_host : at one time
    pdu_timeout_s : for one whole PDU once its first byte is there, and for a TLS or A-ASSOCIATE opening
    idle_timeout_s : an association without a message is aborted after it
    maximum_object_mb : a larger data set is refused with A700H
    minimum_free_mb : below it, associations are refused as transient
    processes : that receive, made as associations come at the same time; 0: the node's own, which saves
        memory, but then receiving waits whenever the node has other work; unset: as many as cores, 4 at most
    """

    host: str = "127.0.0.1"
    port: Port = 11112
    called: Annotated[tuple[CalledAE, ...], Field(min_length=1)] = (CalledAE(ae_title="DICOM_NODE"),)
    maximum_pdu: Annotated[int, Field(ge=16384, le=1 << 20)] = 262144
    maximum_associations: PositiveInt = 64
    maximum_associations_per_host: PositiveInt = 32
    pdu_timeout_s: PositiveFloat = 30.0
    idle_timeout_s: PositiveFloat = 300.0
    maximum_object_mb: PositiveInt = 2048
    minimum_free_mb: Annotated[int, Field(ge=0)] = 1024
    processes: Annotated[int, Field(ge=0, le=64)] | None = None
    tls: ReceiveTLS | None = None

    @property
    def process_count(self) -> int:
        """How many processes receive; 0: the node's own."""
        if self.processes is not None:
            return self.processes
        return min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)


class Retention(Section):
    """When what the node holds is deleted; unset: never.

    Only what nobody needs any more: images of series whose work has ended, results that every
    destination has.

    Attributes
    ----------
    images_days : received images, so long after their series was done
    results_days : result files, so long after they were delivered
    maximum_gb : of images and results together; beyond it the oldest go before their time
    workflows_days : finished entries of ``workflows.sqlite``
    """

    images_days: PositiveFloat | None = None
    results_days: PositiveFloat | None = None
    maximum_gb: PositiveFloat | None = None
    workflows_days: PositiveFloat = 30.0

    @model_validator(mode="after")
    def _results_stay_longer(self) -> Self:
        if self.results_days and self.images_days and self.results_days < self.images_days:
            raise ValueError(
                "results_days must not be less than images_days: a second version names the first"
            )
        return self


class Completion(Section):
    """When a series is complete.

    Attributes
    ----------
    quiet_s : without a new instance
    quiet_after_release_s : the same once the association was released and the slices have no gap
    longest_s : after the first instance, the series is taken as it is
    """

    quiet_s: PositiveFloat = 20.0
    quiet_after_release_s: PositiveFloat = 3.0
    longest_s: PositiveFloat = 1800.0
