"""``/metrics``, ``/health`` and ``/ready``, whoever serves them.

=============  ======  ===================================================================
path           status
=============  ======  ===================================================================
``/metrics``   200     Prometheus' text format
``/health``    200     the process and its threads live
               503     it is to be restarted
``/ready``     200     the node takes and does work
               503     it does not; the answer says why
=============  ======  ===================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.operate.health import Report
from dicom_node.operate.metrics import CONTENT_TYPE, Metrics

PATHS = ("/metrics", "/health", "/ready")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response."""

    status: int
    content_type: str
    body: bytes


class Endpoints:
    """Answers each path.

    Parameters
    ----------
    health, readiness : look anew each time
    """

    def __init__(
        self, metrics: Metrics, health: Callable[[], Report], readiness: Callable[[], Report]
    ) -> None:
        self._metrics, self._health, self._readiness = metrics, health, readiness

    def answer(self, path: str) -> Answer | None:
        """Answer a GET; None for a path that is not one of these."""
        match path:
            case "/metrics":
                return Answer(200, CONTENT_TYPE, self._metrics.text())
            case "/health":
                return _told(self._health())
            case "/ready":
                return _told(self._readiness())
        return None


def _told(report: Report) -> Answer:
    checks = {name: said or "ok" for name, said in report.checks.items()}
    body = json.dumps({"ok": report.is_good, "checks": checks}).encode()
    return Answer(200 if report.is_good else 503, "application/json", body)
