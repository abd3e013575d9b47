"""KServe's model server as a process: a real peer of the Open Inference Protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.running import free_port, process, wait_for

# Its dependencies do not go with ours (pandas, protobuf): tests/install_peers.sh makes an environment for it
PYTHON = Path(__file__).parents[2] / ".cache/kserve/bin/python"
SERVER = Path(__file__).with_name("kserve_server.py")


def need_kserve() -> Path:
    """The interpreter that has it; without it the test is skipped by name, but in CI it fails."""
    if not PYTHON.exists():
        missing = "kserve is not installed; tests/install_peers.sh does it"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return PYTHON


@contextmanager
def kserve(*bundles: Path, log: Path, port: int | None = None) -> Iterator[str]:
    """Serve the networks of bundles; gives the url."""
    port = port or free_port()
    with process(need_kserve(), SERVER, port, *bundles, log=log, port=port):
        url = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            with urlopen(f"{url}/v2/health/ready", timeout=30) as answer:  # noqa: S310
                return bool(answer.status == 200)

        wait_for(is_ready)
        yield url
