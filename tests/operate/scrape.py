"""What a running node answers on ``operate.port``."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families


def get(port: int, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30, trust_env=False)


def sampled(port: int) -> dict[str, float]:
    """Each sample of ``/metrics`` by its name and labels."""
    return parse(get(port, "/metrics").text)


def parse(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found
