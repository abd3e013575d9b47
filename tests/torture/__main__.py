"""``make torture N=200``: kills of a working node, an audit, a table; exit status 1 on any violation."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.torture.campaign import Life, Options, Outcome, run
from tests.torture.moments import MOMENTS

LIMIT_S = 5.0  # from the start of a process until open work is taken up


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=1e6, help="no further kills after so long")
    parser.add_argument("--seed", type=int, help="the same kills again; printed at the start")
    parser.add_argument(
        "--out", type=Path, help="empty folder, kept; else one that is removed when all is well"
    )
    parser.add_argument("--shipped", action="store_true", help="with the shipped bundle and whole heads")
    parser.add_argument("--orthanc", action="store_true", help="Orthanc as a third destination")
    parser.add_argument("--only", metavar="WORDS", help="aim every kill at the moments that are called so")
    parser.add_argument("--forked", action="store_true", help="most nodes without the time for imports")
    arguments = parser.parse_args()
    moments = [moment for moment in MOMENTS if (arguments.only or "") in moment.name]
    if not moments:
        parser.error(f"--only {arguments.only}: the moments are {', '.join(m.name for m in MOMENTS)}")
    data = Path(os.environ["DICOM_NODE_DATA"]) if "DICOM_NODE_DATA" in os.environ else None
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    options = Options(
        arguments.kills,
        seed,
        arguments.out or Path(tempfile.mkdtemp(prefix="torture-")),
        minutes=arguments.minutes,
        wait_s=60.0 if arguments.shipped else 20.0,
        shipped=arguments.shipped,
        data=data,
        with_orthanc=arguments.orthanc,
        moments=moments,
        aimed=1.0 if arguments.only else Options.aimed,
        forked=arguments.forked,
    )
    say(f"seed {seed}, {options.folder}, real images: {data or 'none (DICOM_NODE_DATA)'}")
    outcome = run(options, say)
    say(table(outcome))
    if outcome.violations:
        say("\n".join(["", f"{len(outcome.violations)} VIOLATIONS", *outcome.violations]))
        say(f"all is kept in {options.folder}; the same kills again: --seed {seed}")
        return 1
    if arguments.out is None:
        shutil.rmtree(options.folder)
    return 0


def say(text: str) -> None:
    print(text, flush=True)


def table(outcome: Outcome) -> str:
    """Everything a campaign showed, as lines."""
    aimed, hits = Counter(life.aim for life in outcome.lives), Counter(_hits(outcome.lives))
    rows = [f"  {name:36}{hits[name]:4} of {count}" for name, count in sorted(aimed.items())]
    recovered = [life for life in outcome.lives if life.recovered_s is not None]
    wall = [life.recovered_s for life in recovered if life.recovered_s is not None]
    cpu = [life.first_step_cpu_s for life in recovered if life.first_step_cpu_s is not None]
    within = sum(seconds <= LIMIT_S for seconds in wall)
    return f"""
{len(outcome.lives)} kills in {outcome.seconds / 60:.1f} minutes, at
{chr(10).join(rows)}
sent          {outcome.series} series, {outcome.images} images, {outcome.acknowledgements} acknowledgements
              {outcome.conflicts} images with other content under the same UID
results       {outcome.versions} versions for {outcome.results} series
              {outcome.given_up} were given up after ten kills at work on them, and ordered again
archived      {outcome.objects} objects in {outcome.comings} stores at the recording archive
              {outcome.requests} requests for commitment
recovery      {len(recovered)} starts as a program with open work, {within} took it up within {LIMIT_S:.0f} s
  seconds     {_spread(wall)}
  processor s {_spread(cpu)}
violations    {len(outcome.violations)}"""


def _hits(lives: Sequence[Life]) -> list[str]:
    return [life.aim for life in lives if life.hit]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "none"
    ordered = sorted(values)
    late = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return (
        f"least {ordered[0]:.1f}, median {statistics.median(ordered):.1f}, 95 % {late:.1f}, "
        f"most {ordered[-1]:.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
