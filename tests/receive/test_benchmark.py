"""Covers: `benchmarks.receive` runs to its end with both senders, and counts what was stored.
Does not cover: its figures, which say nothing on a machine that does something else at the time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import need


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sender", "cases"), [("raw", ""), pytest.param("storescu", "1 association, 142", marks=pytest.mark.peer)]
)
def test_the_receive_benchmark_counts_what_was_stored(tmp_path: Path, sender: str, cases: str) -> None:
    if sender == "storescu":
        need("storescu")
    figures = tmp_path / "figures.json"
    options = ["--rounds", "1", "--images", "8", "--large", "1", "--receivers", "node without"]
    options += ["--sender", sender, "--cases", cases, "--folder", str(tmp_path), "--json", str(figures)]
    subprocess.run(
        [sys.executable, "-m", "benchmarks.receive", *options],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parents[2],
    )
    found = json.loads(figures.read_text())
    assert len(found["figures"]) == (1 if cases else 4)
    for receivers in found["figures"].values():
        assert receivers["node without fsync"]["per_second"][0] > 0
    assert not list(tmp_path.glob("tmp*")), "what the receiver stored was not removed"
