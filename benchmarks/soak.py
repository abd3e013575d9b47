"""Whether a node that works for long stays as it is: memory, threads, descriptors, databases, spool.

A node gets one series after the other, at most a few at a time; a load balancer's health check connects
and closes each second, and a PACS asks C-ECHO each second. What was delivered is deleted after a minute
or two, so that nothing may grow but the book, by its entry for each series. A straight line is laid
through each half of each figure. In the first, caches and pools of connections fill; in the second it must
not rise by more than the limit::

    python -m benchmarks.soak --minutes 60

Exit status 1 when it does, when a health check failed, or when a series has no result.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_node.deliver.cstore import Peer, echo, send_files
from dicom_node.errors import NodeError
from dicom_node.phantom.mr_series import mr_series, write_series
from tests.support.bundles import write_spot_bundle
from tests.support.running import free_port, listens, need, process, wait_for, write_configuration
from tests.support.spot import image_spot

AT_ONCE = 3  # series that were sent and have no result yet
SAMPLE_S = 10.0
WARM_UP = 0.5  # of the time
_DAY_S = 86400.0
_RETENTION = f"""
[retention]
images_days = {60 / _DAY_S}
results_days = {90 / _DAY_S}
workflows_days = {90 / _DAY_S}
"""
# As `dicom-node serve`, but it deletes each half minute instead of each hour
_SERVE = """
import sys
from functools import partial
import dicom_node.node as node
node.Housekeeping = partial(node.Housekeeping, every_s=30.0)
from dicom_node.cli import app
app(["serve", "--config", sys.argv[1]])
"""


@dataclass(frozen=True)
class Figure:
    """Something that is measured again and again.

    Attributes
    ----------
    limit : how much it may rise in the measured time: a part of its median, and a part that is always
        permitted; in its unit
    """

    name: str
    unit: str
    measure: Callable[[], float]
    part: float
    always: float

    def limit(self, values: list[float]) -> float:
        return self.part * statistics.median(values) + self.always


@dataclass
class Counts:
    """What happened so far."""

    sent: int = 0
    results: int = 0
    failed: int = 0
    checks: int = 0
    failed_checks: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two series, at least")
    parser.add_argument("--out", type=Path, help="new folder, kept; else removed when all is well")
    arguments = parser.parse_args()
    folder = arguments.out or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    found = soak(folder, arguments.minutes * 60, arguments.every)
    if found:
        say("\n".join(["", *found, f"all is kept in {folder}"]))
        return 1
    if arguments.out is None:
        shutil.rmtree(folder)
    return 0


def soak(folder: Path, seconds: float, every_s: float) -> list[str]:
    """Run it; returns what is not as it should be."""
    port, counts, stopping = free_port(), Counts(), threading.Event()
    with ExitStack() as stack:
        archive = stack.enter_context(_archive(folder))
        node = stack.enter_context(_node(folder, port, archive))
        helpers = [
            threading.Thread(target=_send, args=(folder, port, counts, stopping, every_s)),
            threading.Thread(target=_check, args=(port, counts, stopping)),
            threading.Thread(target=_follow, args=(folder / "node.log", counts, stopping)),
        ]
        for thread in helpers:
            thread.start()
        try:
            figures = _figures(node.pid, folder / "var", counts)
            samples = _sample(figures, counts, seconds, node)
        finally:
            stopping.set()
            for thread in helpers:
                thread.join()
        ended = node.poll()
    found = _judge(figures, samples, seconds)
    if ended is not None:
        found.append(f"the node ended by itself ({ended})")
    if counts.failed or counts.sent - counts.results > AT_ONCE:
        found.append(f"{counts.failed} failed, {counts.results} results of {counts.sent} series")
    if counts.failed_checks:
        found.append(f"{counts.failed_checks} of {counts.checks} health checks failed")
    kept = _bytes(folder / "var") - _bytes(folder / "var", without=("deleted",))
    say(f"kept for good of a deleted series: {kept / max(1, counts.results) / 1e3:.1f} kB")
    return found


def _figures(pid: int, var: Path, counts: Counts) -> list[Figure]:
    def memory(process: Path) -> float:
        """In MB; what is mapped from files is not its own, and is counted less the more programs use them."""
        lines = (process / "smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:")) / 1e3

    def database(name: str) -> float:
        return sum(path.stat().st_size for path in var.glob(f"{name}.sqlite*")) / 1e6

    return [
        Figure("processes", "", lambda: len(_family(pid)), part=0, always=1),
        Figure("memory", "MB", lambda: _sum(memory, pid), part=0.05, always=5),
        Figure("threads", "", lambda: _sum(lambda p: len([*p.glob("task/*")]), pid), part=0, always=2),
        Figure("descriptors", "", lambda: _sum(lambda p: len([*p.glob("fd/*")]), pid), part=0.1, always=3),
        Figure("workflows", "MB", lambda: database("workflows"), part=0.25, always=2),
        # Entries stay, so it grows with the series
        Figure("book", "kB/series", lambda: 1e3 * database("ledger") / max(1, counts.results), 0.25, 2),
        Figure("spool", "MB", lambda: _bytes(var / "spool", ("deleted",)) / 1e6, part=0.5, always=5),
        Figure("results", "MB", lambda: _bytes(var / "results", ("deleted",)) / 1e6, part=0.5, always=5),
    ]


def _family(pid: int) -> list[Path]:
    """Folders in ``/proc`` of a process and of those that it started."""
    found = [Path(f"/proc/{pid}")]
    for each in found:
        with suppress(OSError):
            for children in each.glob("task/*/children"):
                found += [Path(f"/proc/{child}") for child in children.read_text().split()]
    return found


def _sum(measure: Callable[[Path], float], pid: int) -> float:
    """Sum up over a node's processes, without those that end meanwhile."""
    found = 0.0
    for each in _family(pid):
        with suppress(OSError):
            found += measure(each)
    return found


def _sample(
    figures: list[Figure], counts: Counts, seconds: float, node: subprocess.Popen[bytes]
) -> list[tuple[float, list[float]]]:
    """Measure until the time is over; a line each minute."""
    start, samples, next_line_s = time.monotonic(), [], 0.0
    say(
        "minute " + " ".join(f"{f'{f.name} {f.unit}'.strip():>14}" for f in figures) + "  sent results checks"
    )
    while (since := time.monotonic() - start) < seconds and node.poll() is None:
        samples.append((since, [figure.measure() for figure in figures]))
        if since >= next_line_s:
            next_line_s += 60
            values = " ".join(f"{value:14.1f}" for value in samples[-1][1])
            say(f"{since / 60:6.0f} {values} {counts.sent:5} {counts.results:7} {counts.checks:6}")
        time.sleep(SAMPLE_S)
    return samples


def _judge(figures: list[Figure], samples: list[tuple[float, list[float]]], seconds: float) -> list[str]:
    """Print the slope of each figure before and after the warm-up; returns those that rise too much after."""
    before = [sample for sample in samples if sample[0] < WARM_UP * seconds]
    after = [sample for sample in samples if sample[0] >= WARM_UP * seconds]
    if min(len(before), len(after)) < 3:
        return [f"{len(before)} measurements while it warms up and {len(after)} after that are too few"]
    times_s, found = [since for since, _ in after], []
    lasted_s = times_s[-1] - times_s[0]
    say(f"\nafter {times_s[0] / 60:.0f} minutes of warm-up, in {lasted_s / 60:.0f} minutes:")
    for number, figure in enumerate(figures):
        values = [value[number] for _, value in after]
        warming, slope = (3600 * _slope(half, number) for half in (before, after))
        rise, limit = slope * lasted_s / 3600, figure.limit(values)
        unit = f" {figure.unit}" if figure.unit else ""
        text = (
            f"{figure.name:11} median {statistics.median(values):.1f}{unit}, slope {slope:+.1f}{unit} "
            f"an hour (while it warmed up {warming:+.1f}), rose by {rise:+.1f}{unit}, limit {limit:.1f}{unit}"
        )
        say(text)
        if rise > limit:
            found.append(f"RISES: {text}")
    return found


def _slope(samples: list[tuple[float, list[float]]], number: int) -> float:
    """Rise of a figure in a second, by least squares."""
    times_s = [since for since, _ in samples]
    return statistics.linear_regression(times_s, [values[number] for _, values in samples]).slope


def _send(folder: Path, port: int, counts: Counts, stopping: threading.Event, every_s: float) -> None:
    chance = random.Random(0)  # noqa: S311
    while not stopping.wait(every_s):
        if counts.sent - counts.results - counts.failed >= AT_ONCE:
            continue
        spot = image_spot(radius_mm=chance.uniform(8, 13))
        datasets = mr_series(spot.voxels, spot.affine, seed=f"soak {chance.getrandbits(64)}")
        paths = write_series(datasets, folder / "series")
        try:
            for _ in send_files(Peer("DICOM_NODE", "127.0.0.1", port, "SOAK"), paths):
                pass
        except NodeError as error:
            say(f"not sent: {error}")
        counts.sent += 1


def _check(port: int, counts: Counts, stopping: threading.Event) -> None:
    """Do as a load balancer and a PACS do, each second."""
    while not stopping.wait(1):
        counts.checks += 1
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
            echo(Peer("DICOM_NODE", "127.0.0.1", port, "CHECK"))
        except (OSError, NodeError) as error:
            counts.failed_checks += 1
            say(f"health check: {error}")


def _follow(log: Path, counts: Counts, stopping: threading.Event) -> None:
    """Count in the node's log what became of the series."""
    with log.open() as lines:
        rest = ""
        while not stopping.wait(0.2):
            *whole, rest = (rest + lines.read()).split("\n")
            for line in whole:
                if not line.startswith("{"):
                    continue
                event = json.loads(line)
                counts.results += event["event"] == "results_sent"
                # A busy archive may not answer in time: that is tried again
                is_over = event["event"] == "delivery_failed" and event["retry_in_s"] is None
                counts.failed += is_over or event["event"] == "job_failed"


@contextmanager
def _archive(folder: Path) -> Iterator[int]:
    port = free_port()
    command = (need("storescp"), "--ignore", "-aet", "ARCHIVE", str(port))
    with process(*command, log=folder / "archive.log", port=port):
        yield port


@contextmanager
def _node(folder: Path, port: int, archive: int) -> Iterator[subprocess.Popen[bytes]]:
    write_spot_bundle(folder / "models" / "spot")
    configuration = write_configuration(
        folder / "node.toml",
        port=port,
        models=folder / "models",
        destinations={"archive": ("ARCHIVE", archive)},
        waits="",
        quiet_s=10,
    )
    text = configuration.read_text().replace("quiet_s = 10", "quiet_s = 10\nlongest_s = 30", 1)
    configuration.write_text(text + _RETENTION)
    environment = {**os.environ, "DICOM_NODE_LOG__FORMAT": "json"}
    with (folder / "node.log").open("ab") as log:
        command = [sys.executable, "-c", _SERVE, str(configuration)]
        node = subprocess.Popen(command, stdout=log, stderr=log, env=environment)  # noqa: S603
    try:
        wait_for(lambda: listens(port))
        yield node
    finally:
        if node.poll() is None:
            node.send_signal(signal.SIGTERM)
        node.wait(90)


def _bytes(folder: Path, without: tuple[str, ...] = ()) -> int:
    """Size of the files in a folder, but not below folders of some names."""
    size = 0
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in without]
        for name in names:
            try:
                size += (Path(where) / name).stat().st_size
            except FileNotFoundError:  # deleted meanwhile
                continue
    return size


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
