"""ONNX Runtime keeps no device id and queues no report, in the node and the converters, as a user runs them.

Not covered: what another release of it may do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bundles import write_spot_bundle


@pytest.mark.parametrize("module", ["dicom_node.analysis.engine", "converters.onnx_file"])
def test_onnx_runtime_reports_to_nobody(module: str, tmp_path: Path) -> None:
    home, models = tmp_path / "home", tmp_path / "models"
    home.mkdir()
    write_spot_bundle(models)
    network = next(models.glob("*.onnx"))
    script = f"import {module} as m; m.ort.InferenceSession({str(network)!r})"
    # Not the environment of the tests: where CI is set, it reports to nobody anyway
    alone = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], env=alone, check=True)
    assert [path for path in home.rglob("*") if path.is_file()] == []
