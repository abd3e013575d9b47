"""The warm-up spares the first result what it is for: tables of the standard that highdicom reads once.

In a process of its own, as this one has long made results. Not covered: how long it takes.
"""

from __future__ import annotations

import subprocess
import sys

WHEN_WARM = """
import json
from dicom_node.results.warm_up import warm_up
read = []
loads = json.loads
json.loads = lambda text, **more: read.append(len(text)) or loads(text, **more)
warm_up().join()
warmed = len(read)
warm_up().join()
print(warmed, len(read))
"""


def test_what_is_read_once_is_read_before_the_first_result() -> None:
    told = subprocess.run([sys.executable, "-c", WHEN_WARM], capture_output=True, text=True, check=True)
    warmed, in_all = map(int, told.stdout.split())
    assert warmed == in_all > 0
