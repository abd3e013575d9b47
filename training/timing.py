"""How long the networks of a bundle take on a CPU."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from dicom_node.analysis.bundle import load_bundle
from dicom_node.analysis.engine import Engine

THREADS = (1, 2)
SLICES = 16
REPEATS = 5


def milliseconds_per_slice(engine: Engine, slices: int = SLICES, repeats: int = REPEATS) -> float:
    """Run noise through a network and return the shortest time: what else runs can only add to it."""
    size = engine.network.size
    squares = np.random.default_rng(0).random((slices, size, size), dtype=np.float32)
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        engine.run(squares)
        taken.append(time.perf_counter() - start)
    return 1000 * min(taken) / slices


def speed(bundle_folder: Path) -> dict[str, float]:
    """Time both networks as the node runs them, without reading and resizing, in ms per slice."""
    table = {}
    for threads in THREADS:
        bundle = load_bundle(bundle_folder, "cpu", threads)
        for name, engine in (("detector", bundle.detector.engine), ("segmenter", bundle.segmenter.engine)):
            table[f"{name}_{threads}_thread{'s' * (threads > 1)}"] = milliseconds_per_slice(engine)
    return table
