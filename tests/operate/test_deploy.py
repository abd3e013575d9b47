"""The files of ``deploy/`` and ``systemd/``: what they name exists, and their own tools find them good.

Covers the metrics that dashboard and rules name, the rules by promtool and in a running Prometheus, the units
by systemd-analyze with a bound on their exposure. Not covered: that Grafana draws it, and a systemd that runs
the units.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from dicom_node.operate.census import Census
from dicom_node.operate.endpoints import Endpoints
from dicom_node.operate.health import Report
from dicom_node.operate.listener import Listener
from dicom_node.operate.metrics import Metrics
from dicom_node.settings import Operate
from dicom_node.workflow.ledger import Sent, State
from tests.operate.test_metrics import standing
from tests.support.running import free_port, need, process, wait_for

ROOT = Path(__file__).parents[2]
DEPLOY, SYSTEMD = ROOT / "deploy", ROOT / "systemd"
UNITS = ("dicom-node.service", "dicom-node-worker@.service")
OF_PROMETHEUS = {"up"}


def exposed(tmp_path: Path) -> set[str]:
    """Every name that a node exposes, histograms by their parts."""
    metrics = Metrics(lambda _: None)
    metrics.registry.register(standing(tmp_path, lambda: Census({}, {}, 0, 0.0)))
    names = set(re.findall(r"^# TYPE (\S+)", metrics.text().decode(), re.M))
    return names | {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")} | OF_PROMETHEUS


def named_in(expression: str) -> set[str]:
    """Names of metrics in a PromQL expression: what is no function, label, keyword or number."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(by|on|ignoring|group_left)\s*\([^)]*\)', " ", expression)
    words = set(re.findall(r"[a-z_][a-z0-9_]*(?![a-z0-9_]*\s*\()", bare))
    return words - {"by", "on", "and", "or", "unless", "group_left", "le"}


def rules() -> list[dict]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_metric_of_the_rules_exists_and_each_says_what_to_do(tmp_path: Path) -> None:
    names = exposed(tmp_path)
    for rule in rules():
        used = named_in(rule["expr"])
        assert used, rule
        assert used <= names, f"{rule['alert']}: {used - names}"
        assert rule["annotations"]["action"]
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_every_metric_of_the_dashboard_exists_and_every_panel_shows_something(tmp_path: Path) -> None:
    names = exposed(tmp_path)
    dashboard = json.loads((DEPLOY / "grafana" / "dicom-node.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert named_in(target["expr"]) <= names, (panel["title"], named_in(target["expr"]) - names)
    shown = {name for p in panels for t in p["targets"] for name in named_in(t["expr"])}
    for name in names:
        if name.startswith("dicom_node_") and not name.endswith(("_created", "_sum", "_count")):
            parts = {name, f"{name}_bucket", name.removesuffix("_bucket")}
            assert parts & shown or name in NOT_SHOWN or name.endswith("_bucket"), f"{name} is in no panel"


# By the alerts alone
NOT_SHOWN = {
    "dicom_node_start_time_seconds",
    "dicom_node_book_readable",
    "dicom_node_associations_opened_total",
}


@pytest.mark.peer
@pytest.mark.parametrize("arguments", [("rules", "rules.yml"), ("config", "prometheus.yml")])
def test_promtool_finds_rules_and_configuration_good(arguments: tuple[str, str]) -> None:
    command = [need("promtool"), "check", *arguments]
    told = subprocess.run(command, cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


@pytest.mark.peer
def test_prometheus_reads_a_node_and_can_evaluate_every_rule(tmp_path: Path) -> None:
    """The shipped configuration, with the port of the moment and without the waits.

    It is looked at in a moment at which the last scrape came through: each has a second, and a busy machine
    may take longer.
    """
    metrics = Metrics(lambda _: None)
    census = Census({State.FAILED: 1}, {("archive", Sent.FAILED): 1}, 1, 7200.0)
    metrics.registry.register(standing(tmp_path, lambda: census))
    listener = Listener(Operate(), Endpoints(metrics, lambda: Report({}), lambda: Report({})))
    folder = Path(shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus"))
    (folder / "targets.yml").write_text(f'- targets: ["127.0.0.1:{listener.port}"]\n')
    for name in ("prometheus.yml", "rules.yml"):
        text = re.sub(r"(_interval|for): \w+", r"\1: 1s", (folder / name).read_text())
        (folder / name).write_text(text)
    port = free_port()
    command = [need("prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    base = f"http://127.0.0.1:{port}/api/v1"
    try:
        with (
            process(*command, log=tmp_path / "log", port=port),
            httpx.Client(trust_env=False, timeout=60) as client,
        ):

            def known() -> list[dict] | None:
                answer = client.get(f"{base}/rules")
                if answer.status_code == 503:  # it listens before it is ready
                    return None
                told = answer.raise_for_status().json()["data"]["groups"]
                found = [rule for group in told for rule in group["rules"]]
                firing = {rule["name"] for rule in found if rule["state"] == "firing"}
                is_judged = all(rule["health"] != "unknown" for rule in found)
                expected = {"DeadLetters", "SeriesStuck"} <= firing and "NodeDown" not in firing
                return found if is_judged and expected else None

            found = wait_for(known)
            asked = client.get(f"{base}/query", params={"query": "dicom_node_dead_letters"}).json()
    finally:
        listener.stop()
    assert len(found) == len(rules())
    assert {rule["name"]: rule.get("lastError") for rule in found if rule["health"] != "ok"} == {}
    assert "NodeDown" not in {rule["name"] for rule in found if rule["state"] == "firing"}
    assert [sample["value"][1] for sample in asked["data"]["result"]] == ["1"]


@pytest.mark.peer
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong_in_a_unit(unit: str, tmp_path: Path) -> None:
    text = (SYSTEMD / unit).read_text().replace("/opt/dicom-node/.venv/bin/dicom-node", "/bin/true")
    copy = tmp_path / unit.replace("@", "@0")
    copy.write_text(text)
    told = subprocess.run(
        [need("systemd-analyze"), "verify", copy], capture_output=True, text=True, check=False
    )
    ours = [line for line in told.stderr.splitlines() if unit.split(".")[0].split("@")[0] in line]
    assert not ours, told.stderr


@pytest.mark.peer
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_may_do_little(unit: str) -> None:
    # Exposure in tenths; 10 is a service without any limit
    command = [need("systemd-analyze"), "security", "--offline=yes", "--threshold=15", SYSTEMD / unit]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout[-500:]


@pytest.mark.peer
def test_user_and_folders_are_made_as_the_unit_needs_them(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for tool, file in (
        ("systemd-sysusers", "dicom-node.sysusers"),
        ("systemd-tmpfiles", "dicom-node.tmpfiles"),
    ):
        command = [need(tool), f"--root={tmp_path}", *(["--create"] if "tmp" in tool else []), SYSTEMD / file]
        subprocess.run(command, capture_output=True, text=True, check=True)
    assert "dicom-node:" in (tmp_path / "etc" / "passwd").read_text()
    modes = {
        path: (tmp_path / path).stat().st_mode & 0o777 for path in ("var/lib/dicom-node", "etc/dicom-node")
    }
    assert modes == {"var/lib/dicom-node": 0o700, "etc/dicom-node": 0o750}
    unit = (SYSTEMD / "dicom-node.service").read_text()
    assert "User=dicom-node\n" in unit
    assert "WatchdogSec=" in unit


def test_a_unit_gives_more_time_to_stop_than_the_node_takes() -> None:
    from dicom_node.settings import Settings

    for unit in UNITS:
        (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", (SYSTEMD / unit).read_text(), re.M)
        assert int(stop_s) > Settings().stop_timeout_s
