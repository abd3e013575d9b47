"""How quick the page is: the list of thousands of series, and the pictures of slices.

``python -m benchmarks.web`` prints medians and the slowest of each, in ms, on the server's side: from the
request to the whole answer, without a network. The first picture of a series has to read it; the
others come from memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import sqlalchemy as sa
from fastapi.testclient import TestClient

from dicom_node.phantom.mr_series import mr_series, write_series
from dicom_node.phantom.scan import scan_phantom
from dicom_node.receive.completion import Completion
from dicom_node.receive.spool import Spool
from dicom_node.settings import Settings
from dicom_node.web.app import create_app
from dicom_node.web.node_view import NodeView
from dicom_node.workflow.book import DELIVERIES, JOBS
from dicom_node.workflow.ledger import Ledger
from dicom_node.workflow.stations import Stations

LARGE = (160, 512, 512)


def fill(path: Path, count: int) -> None:
    """Enter so many jobs, each delivered to two destinations."""
    engine = sa.create_engine(f"sqlite:///{path}")
    now = datetime.now(UTC)
    jobs, deliveries = [], []
    for number in range(1, count + 1):
        at = (now - timedelta(seconds=15 * (count - number))).isoformat()
        job_id = f"1.2.840.99.{number}-0123456789abcdef"
        fixed = {"instances": 24, "state": "done", "outcome": "findings", "pipeline": "flair-glioma"}
        jobs.append(
            {
                "job_id": job_id,
                "number": number,
                "series_instance_uid": f"1.2.840.99.{number}",
                "detail": f"{number % 4} lesions, {number % 50}.5 ml",
                "created_at": at,
                "updated_at": at,
                **fixed,
            }
        )
        deliveries += [
            {"job_id": job_id, "destination": name, "state": "sent", "attempts": 1, "detail": ""}
            for name in ("archive", "research")
        ]
    with engine.begin() as connection:
        connection.execute(JOBS.insert(), jobs)
        connection.execute(DELIVERIES.insert(), deliveries)
    engine.dispose()


def report(what: str, ask: Callable[[int], object], times: int) -> None:
    """Measure and print."""
    took_ms = []
    for turn in range(times):
        start = time.perf_counter()
        ask(turn)
        took_ms.append(1000 * (time.perf_counter() - start))
    print(f"{what:46} {median(took_ms):8.1f} {max(took_ms):8.1f}")


def _get(client: TestClient, address: str, _turn: int) -> None:
    assert client.get(address).status_code == 200  # noqa: S101


def _slice(client: TestClient, base: str, window: str, turn: int) -> None:
    _get(client, f"{base}/{turn}{window}", turn)


def _search(client: TestClient, text: str, _turn: int) -> None:
    assert client.post("/series", data={"text": text}).status_code == 200  # noqa: S101


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--series", type=int, default=5000, help="in the book")
    parser.add_argument("--times", type=int, default=20, help="of each request")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments.series, arguments.times)


def measure(folder: Path, count: int, times: int) -> None:
    settings = Settings(folder=folder)
    ledger = Ledger(folder / "ledger.sqlite")
    spool = Spool(folder / "spool", minimum_free_mb=0)
    rng = np.random.default_rng(0)
    large = rng.integers(0, 1000, LARGE).astype(np.float32)
    affine = np.diag([0.5, 0.5, 1.0, 1.0])
    kinds = {"24 x 256 x 256": scan_phantom().datasets, "160 x 512 x 512": mr_series(large, affine)}
    fill(folder / "ledger.sqlite", count)
    numbers = {}
    for name, datasets in kinds.items():
        uid = str(datasets[0].SeriesInstanceUID)
        write_series(datasets, folder / "spool" / "series" / uid)
        ledger.open_job(f"{uid}-0", uid, len(datasets))
        numbers[name] = ledger.entries(series_instance_uid=uid)[0].number
    completion = Completion(settings.completion, spool, lambda _: None)
    app = create_app(NodeView(settings, Stations(settings), ledger, spool, completion, folder / "trials"))
    client = TestClient(app, base_url="http://127.0.0.1")

    print(f"{count} series in the book{'':25} median ms   max ms")
    report("list, first page", partial(_get, client, "/series"), times)
    report("list, a page in the middle", partial(_get, client, f"/series?before={count // 2}"), times)
    report("list, search by part of the UID", partial(_search, client, f"99.{count // 3}"), times)
    report("list, search that finds nothing", partial(_search, client, "nowhere"), times)
    report("node, with plots of the day", partial(_get, client, "/node"), times)
    for name, number in numbers.items():
        base = f"/series/{number}/slice"
        report(f"{name}: first picture", partial(_get, client, f"{base}/0"), 1)
        report(f"{name}: slice", partial(_slice, client, base, ""), times)
        report(f"{name}: slice, other window", partial(_slice, client, base, "?centre=400&width=300"), times)
    ledger.close()


if __name__ == "__main__":
    main()
