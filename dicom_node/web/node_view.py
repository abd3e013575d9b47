"""What the page and the API see of a node: the public faces of its stations and of the workflow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from dicom_node.events import Tell, nobody
from dicom_node.operate.reload import Change
from dicom_node.receive.completion import Completion
from dicom_node.receive.spool import Spool
from dicom_node.settings import Settings
from dicom_node.workflow.ledger import Ledger
from dicom_node.workflow.stations import Stations


@dataclass(frozen=True)
class NodeView:
    """A running node.

    Attributes
    ----------
    started : the settings at its start; those that hold now are ``settings``
    trials : folder of what is tried out on this node's page, and on no other's that shares its data
    reload : reads the configuration again, as SIGHUP does; None for a node that has no file of it
    tell : is told who sees what
    since : when that was
    """

    started: Settings
    stations: Stations
    ledger: Ledger
    spool: Spool
    completion: Completion
    trials: Path
    reload: Callable[[], Change] | None = None
    tell: Tell = nobody
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def settings(self) -> Settings:
        """As they were read last."""
        return self.stations.settings


def _of(request: Request) -> NodeView:
    node: NodeView = request.app.state.node
    return node


View = Annotated[NodeView, Depends(_of)]
