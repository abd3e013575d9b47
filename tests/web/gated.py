"""The page behind its login, served over real TLS by the node's own server; no models, no DICOM."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi import FastAPI

from dicom_node.events import Event
from dicom_node.operate.endpoints import Endpoints
from dicom_node.operate.health import Report
from dicom_node.operate.metrics import Metrics
from dicom_node.operate.router import router_of
from dicom_node.receive.completion import Completion
from dicom_node.receive.spool import Spool
from dicom_node.settings import Settings
from dicom_node.web.access.desk import Desk
from dicom_node.web.access.roles import GIVEN, Role
from dicom_node.web.access.store import open_store
from dicom_node.web.access.tokens import Tokens
from dicom_node.web.access.users import Users
from dicom_node.web.app import create_app
from dicom_node.web.node_view import NodeView
from dicom_node.web.server import WebServer
from dicom_node.workflow.database import Database, open_ledger
from dicom_node.workflow.ledger import Ledger
from dicom_node.workflow.stations import Stations
from tests.support.certificates import Authority
from tests.support.running import free_port, listens, wait_for

PASSWORD = "correct horse battery"  # noqa: S105
TIMEOUT_S = 60
PAGE = {"accept": "text/html"}


@dataclass(frozen=True)
class Gated:
    """A page that wants to know who asks; a user and a token of each role, called as it.

    Attributes
    ----------
    told : what the audit trail would hear
    """

    url: str
    app: FastAPI
    store: Database
    told: list[Event]
    tokens: dict[Role, str]
    trust: ssl.SSLContext | bool

    def client(self, **arguments: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.trust, timeout=TIMEOUT_S, **arguments)  # type: ignore[arg-type]

    def with_token(self, role: Role) -> httpx.Client:
        return self.client(headers={"authorization": f"Bearer {self.tokens[role]}"})

    @contextmanager
    def logged_in(self, name: str, password: str = PASSWORD) -> Iterator[httpx.Client]:
        with self.client(headers=PAGE) as client:
            answer = log_in(client, name, password)
            assert answer.status_code == 303, answer.text
            yield client


def log_in(client: httpx.Client, name: str, password: str = PASSWORD, **fields: str) -> httpx.Response:
    return client.post("/login", data={"name": name, "password": password, **fields})


def csrf_of(client: httpx.Client) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get("/series").text)
    assert found
    return found[1]


@contextmanager
def serve_gated(folder: Path, authority: Authority | None = None, **web: object) -> Iterator[Gated]:
    """Serve the page of a node; over TLS with an authority."""
    if authority:
        pair = authority.sign("page")
        web |= {"certificate_file": pair.certificate, "key_file": pair.key}
    settings = Settings(folder=folder, web={"port": free_port(), **web})  # type: ignore[arg-type]
    store = open_store(settings)
    tokens = {}
    if not Users(store).all():
        for role in GIVEN:
            Users(store).add(role, role, PASSWORD)
            tokens[role] = Tokens(store).create(role, role, None)
    book = open_ledger(settings)
    told: list[Event] = []
    desk = Desk.open(settings, book, told.append)
    assert desk
    ledger, spool = Ledger(book), Spool(folder / "spool", minimum_free_mb=0)
    completion = Completion(settings.completion, spool, lambda _: None)
    app = create_app(
        NodeView(settings, Stations(settings), ledger, spool, completion, folder / "trials"), desk
    )
    app.include_router(router_of(Endpoints(Metrics(ledger.entry), lambda: Report({}), lambda: Report({}))))
    server = WebServer(settings.web, app)
    server.start()
    trust = ssl.create_default_context(cafile=authority.path) if authority else True
    try:
        wait_for(lambda: listens(settings.web.port))
        yield Gated(server.url.rstrip("/"), app, store, told, tokens, trust)
    finally:
        server.stop()
        desk.close()
        store.close()
        ledger.close()
