"""How fast images are received: ``make bench-receive``, or ``python -m benchmarks.receive --help``.

Each round sends new instances to each receiver in turn, so that what else the machine does falls on
all alike, and counts what lies in the receiver's folder (Orthanc: what its statistics say) afterwards.
A ratio is taken within a round; the table has the median over the rounds, and the lowest and the
highest. The quickest are the time from request to answer that one in twenty was below: on a machine
that is busy with other work, what comes nearest to one that is not.

``storescp``, pynetdicom and the node without fsync leave the writing to the system, Orthanc and the
node flush each instance before they answer. The line on the disk is what a plain loop that writes and
flushes the same bytes gets: the most that one association with fsync can.

The sender is our own (`benchmarks.sender`), which costs a fraction of ``storescu``, so that the receiver
is measured; ``--sender storescu`` is what a peer in the field would see.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from benchmarks.receivers import RECEIVERS, STORESCP, STORESCP_DEFAULT, Running
from benchmarks.sender import SENDERS, Shape, data_set

_SMALL, _LARGE = Shape(266), Shape(512, frames=40)


@dataclass(frozen=True)
class Case:
    """What is sent at once: so many instances on each association."""

    name: str
    shape: Shape
    associations: int
    count: int


@dataclass
class Figures:
    """Of one receiver in one case, by round.

    Attributes
    ----------
    per_second : instances stored
    cpu_ms : processor time for each
    each_ms : from a request to its answer, of all rounds
    """

    per_second: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    each_ms: list[float] = field(default_factory=list)

    @property
    def quickest_ms(self) -> float | None:
        """The time that one in twenty was below."""
        return statistics.quantiles(self.each_ms, n=20)[0] if len(self.each_ms) > 1 else None


@dataclass
class Found:
    """What a run has found: by case and receiver, and by case on the disk; memory by receiver and round."""

    figures: dict[str, dict[str, Figures]]
    disk_per_second: dict[str, list[float]]
    rss_mb: dict[str, list[float]]


def cases(images: int, large: int) -> Iterator[Case]:
    for associations in (1, 4, 8):
        name = f"{associations} association{'s' * (associations > 1)}, 142 kB"
        yield Case(name, _SMALL, associations, images // associations)
    yield Case("1 association, 20 MB", _LARGE, 1, large)


def measure(case: Case, receiver: Running, sender: str, batch: int, figures: Figures) -> None:
    cpu_s = receiver.cpu_s
    sent = SENDERS[sender](receiver.port, case.shape, batch, case.associations, case.count)
    cpu_s = receiver.cpu_s - cpu_s
    stored = receiver.stored()
    figures.per_second.append(stored / sent.took_s)
    figures.cpu_ms.append(1000 * cpu_s / max(stored, 1))
    figures.each_ms += [1000 * each for each in sent.each_s]


def flushed_per_second(folder: Path, content: bytes, count: int) -> float:
    """Write and flush as many bytes in a plain loop, into new files."""
    started = time.monotonic()
    for number in range(count):
        with (folder / f"{time.monotonic_ns()}-{number}").open("xb") as file:
            file.write(content)
            file.flush()
            os.fdatasync(file.fileno())
    per_second = count / (time.monotonic() - started)
    for path in folder.iterdir():
        os.truncate(path, 0)
    return per_second


def ratios(figures: Figures, reference: Figures | None) -> list[float]:
    if reference is None:
        return []
    return [one / other for one, other in zip(figures.per_second, reference.per_second, strict=True)]


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):5.2f} ({min(values):.2f}-{max(values):.2f})" if values else "-"


def table(case: Case, found: Found) -> str:
    figures = found.figures[case.name]
    lines = [
        f"\n{case.name}, {case.count * case.associations} a round",
        f"{'':24}{'stored/s':>9}  {'of storescp +B':18}{'of its default':18}{'CPU ms':>7}{'quickest ms':>13}",
    ]
    for name, each in figures.items():
        of_fast, of_default = (
            spread(ratios(each, figures.get(other))) for other in (STORESCP, STORESCP_DEFAULT)
        )
        lines.append(
            f"{name:24}{statistics.median(each.per_second):9.1f}  {of_fast:18}{of_default:18}"
            f"{statistics.median(each.cpu_ms):7.2f}{each.quickest_ms or float('nan'):13.2f}"
        )
    disk = statistics.median(found.disk_per_second[case.name])
    return "\n".join([*lines, f"{'disk, write and flush':24}{disk:9.1f}"])


def summary(found: Found, first: str, last: str) -> str:
    """Eight associations against one, and memory."""
    lines = [f"\n{'':24}{'8 against 1':18}RSS in MB, after the warm-up and each round"]
    for name, rss_mb in found.rss_mb.items():
        one, eight = (found.figures.get(case, {}).get(name) for case in (first, last))
        ratio = spread(ratios(eight, one)) if eight and one else "-"
        lines.append(f"{name:24}{ratio:18}{' '.join(f'{each:.0f}' for each in rss_mb)}")
    return "\n".join(lines)


def run(chosen: list[Case], names: list[str], rounds: int, sender: str, folder: Path | None) -> Found:
    found = Found({case.name: {} for case in chosen}, {case.name: [] for case in chosen}, {})
    # No UID comes twice, not even to an Orthanc that keeps what it got
    batches = itertools.count(1_000_000)
    with tempfile.TemporaryDirectory(dir=folder) as temporary, ExitStack() as stack:
        base = Path(temporary)
        (base / "disk").mkdir()
        started: dict[str, Running] = {}
        for receiver in RECEIVERS:
            if receiver.path is None:
                print(f"left out: {receiver.name}; {receiver.program} is not installed")
            elif any(name in receiver.name for name in names):
                started[receiver.name] = stack.enter_context(receiver.running(base / str(len(started))))
        for case in chosen:
            warm_up = replace(case, count=min(case.count, 5))
            for name, running in started.items():
                measure(warm_up, running, sender, next(batches), Figures())
                found.figures[case.name][name] = Figures()
        for name, running in started.items():
            found.rss_mb[name] = [running.rss_mb]
        for round_, case in itertools.product(range(rounds), chosen):
            print(f"round {round_ + 1} of {rounds}: {case.name}", file=sys.stderr)
            content = data_set(case.shape, "1.2.3", "1.2.3.1")
            count = min(case.count * case.associations, 100)
            found.disk_per_second[case.name].append(flushed_per_second(base / "disk", content, count))
            for name, running in started.items():
                measure(case, running, sender, next(batches), found.figures[case.name][name])
                if case is chosen[-1]:
                    found.rss_mb[name].append(running.rss_mb)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--images", type=int, default=400, help="142 kB images a round, over all associations"
    )
    parser.add_argument("--large", type=int, default=5, help="20 MB objects a round")
    parser.add_argument("--cases", default="", help="only those whose name has this in it, such as 142")
    parser.add_argument("--receivers", nargs="+", default=[""], help="likewise, such as storescp node")
    parser.add_argument("--sender", choices=SENDERS, default="raw")
    parser.add_argument("--folder", type=Path, help="where the receivers store (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    every = list(cases(arguments.images, arguments.large))
    chosen = [case for case in every if arguments.cases in case.name]
    found = run(chosen, arguments.receivers, arguments.rounds, arguments.sender, arguments.folder)
    for case in chosen:
        print(table(case, found))
    print(summary(found, every[0].name, every[2].name))
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
