"""Health and readiness: what each check says, and that asking never blocks; the small listener over HTTP.

Not covered: which checks a node makes, see ``test_watched_node.py``.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from dicom_node.errors import ConfigurationError, StorageExhausted
from dicom_node.operate.endpoints import Endpoints
from dicom_node.operate.health import Checks, Proof, Report, beats, threads_live
from dicom_node.operate.listener import Listener
from dicom_node.operate.metrics import Metrics
from dicom_node.operate.operations import prove_writable
from dicom_node.operate.router import router_of
from dicom_node.settings import Operate
from dicom_node.workflow.database import Database
from dicom_node.workflow.ledger import Ledger
from tests.support.running import wait_for


def test_a_thread_that_ended_is_named_once_it_is_missing_for_long() -> None:
    now, end = [0.0], threading.Event()
    worker = threading.Thread(target=end.wait, name="worker-of-this-test")
    worker.start()
    check = threads_live(lambda: ["worker-of-this-test"], grace_s=10, clock=lambda: now[0])
    assert check() == ""
    end.set()
    worker.join()
    assert check() == ""
    now[0] = 10
    assert check() == "threads that ended: worker-of-this-test"


def test_a_thread_that_is_begun_again_in_time_is_not_missed() -> None:
    now, names = [0.0], ["nobody"]
    check = threads_live(lambda: names, grace_s=10, clock=lambda: now[0])
    check()
    names[:] = []
    now[0] = 20
    assert check() == ""


def test_silence_is_told_with_its_length() -> None:
    assert beats(lambda: 100.0, 300.0, clock=lambda: 399.0)() == ""
    assert beats(lambda: 100.0, 300.0, clock=lambda: 401.0)() == "nothing heard of it for 301 s"


def test_a_check_that_raises_is_not_passed_and_tells_no_library_text() -> None:
    def fail() -> str:
        raise ValueError("SMITH^JANE")

    report = Checks({"good": lambda: "", "bad": fail}).report()
    assert not report.is_good
    assert report.checks == {"good": "", "bad": "error ValueError, see the log"}


def test_a_proof_that_hangs_has_failed_and_asking_does_not_wait_for_it() -> None:
    now, hang = [0.0], threading.Event()
    proofs = iter([lambda: None])

    def prove() -> None:
        next(proofs, hang.wait)()

    proof = Proof("disk", prove, every_s=0.01, stale_s=40, clock=lambda: now[0])
    assert proof() == "not looked at yet"
    proof.start()
    assert proof() == ""
    now[0] = 41
    started = time.monotonic()
    assert proof() == "no answer for 41 s"
    assert time.monotonic() - started < 60  # of a proof that hangs for ever
    proof.stop()
    hang.set()


def test_a_proof_says_why_it_failed_and_recovers() -> None:
    failing = [True]

    def prove() -> None:
        if failing[0]:
            raise StorageExhausted("the book cannot be written")

    proof = Proof("database", prove, every_s=0.01)
    proof.start()
    assert proof() == "the book cannot be written"
    failing[0] = False
    wait_for(lambda: proof() == "")
    proof.stop()


def test_a_database_that_cannot_be_written_fails_its_proof(tmp_path: Path) -> None:
    database = Database.in_file(tmp_path / "ledger.sqlite")
    Ledger(database)
    prove_writable(database)
    database.close()
    read_only = Database.in_file(tmp_path / "ledger.sqlite")
    with read_only.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.commit()
    with pytest.raises(StorageExhausted, match="cannot be used"):
        prove_writable(read_only)
    read_only.close()


def test_the_listener_answers_each_path_with_its_status() -> None:
    healthy, ready = [True], [False]
    endpoints = Endpoints(
        Metrics(lambda _: None),
        lambda: Report({"threads": "" if healthy[0] else "threads that ended: completion"}),
        lambda: Report({"disk": "" if ready[0] else "less free than receive.minimum_free_mb"}),
    )
    listener = Listener(Operate(), endpoints)
    base = f"http://127.0.0.1:{listener.port}"
    try:
        with httpx.Client(base_url=base, trust_env=False) as client:
            metrics = client.get("/metrics")
            assert metrics.status_code == 200
            assert metrics.headers["content-type"].startswith("text/plain; version=")
            assert "dicom_node_associations 0.0" in metrics.text
            assert client.get("/health").status_code == 200
            told = client.get("/ready")
            assert (told.status_code, json.loads(told.text)) == (
                503,
                {"ok": False, "checks": {"disk": "less free than receive.minimum_free_mb"}},
            )
            healthy[0], ready[0] = False, True
            assert client.get("/health").status_code == 503
            assert client.get("/ready").status_code == 200
            assert client.get("/etc/passwd").status_code == 404
            assert client.post("/metrics").status_code == 501
    finally:
        listener.stop()


def test_a_port_that_is_taken_is_refused_with_its_setting() -> None:
    endpoints = Endpoints(Metrics(lambda _: None), lambda: Report({}), lambda: Report({}))
    first = Listener(Operate(), endpoints)
    try:
        with pytest.raises(ConfigurationError, match=rf"operate\.port {first.port}: cannot listen there"):
            Listener(Operate(port=first.port), endpoints)
    finally:
        first.stop()


def test_the_page_answers_the_same_on_its_port() -> None:
    app = FastAPI()
    full = Report({"disk": "it is full"})
    app.include_router(router_of(Endpoints(Metrics(lambda _: None), lambda: Report({}), lambda: full)))

    async def ask(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path)

    assert asyncio.run(ask("/metrics")).headers["content-type"].startswith("text/plain; version=")
    assert asyncio.run(ask("/health")).json() == {"ok": True, "checks": {}}
    ready = asyncio.run(ask("/ready"))
    assert (ready.status_code, ready.json()["ok"]) == (503, False)
