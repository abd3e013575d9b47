"""The node is started, killed and started again while series come; then it is let to end, and audited."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dicom_node.workflow.ledger import ENDED, State
from tests.peers.orthanc import Orthanc, orthanc
from tests.receive.images import data_set_of
from tests.support.bundles import write_spot_bundle
from tests.support.running import entries_of, free_port, listens, say, wait_for, write_configuration
from tests.torture.archive import Recorder, storescp
from tests.torture.audit import Evidence, violations
from tests.torture.material import Material, Series
from tests.torture.moments import MOMENTS, Moment
from tests.torture.node import Forked
from tests.torture.sender import Senders

SHIPPED = Path(__file__).parents[2] / "models" / "flair-glioma"
AT_RANDOM, AT_START = "at random, under way", "at random, at start"
_BACKLOG = 4  # series without a result
_AFTERLIFE_S = 5.0  # at most, of a node that lost a process that received for it
_START_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 900.0

_NICE = "retry_first_s = 0.2\nretry_longest_s = 1\ntimeout_s = 20"
_COMMITTING = (
    '\ncommitment = "required"\ncommitment_timeout_s = 4\ncommitment_attempts = 1000\ncommitment_hold_s = 0.1'
)


@dataclass(frozen=True)
class Options:
    """A campaign.

    Attributes
    ----------
    minutes : after which no further node is killed
    wait_s : how long a node may live that does not come to its moment
    shipped : the models of the installation and whole heads, not the bundle that sees spots
    data : folder of real images, or None
    with_orthanc : as a third destination
    moments : to be aimed at; each in turn, in random order
    aimed : the part of the kills that is aimed; of the others, each fourth comes while the node starts
    forked : most nodes are forked from a process that has imported everything, each tenth is started anew
    """

    kills: int
    seed: int
    folder: Path
    minutes: float = 1e6
    wait_s: float = 20.0
    shipped: bool = False
    data: Path | None = None
    with_orthanc: bool = False
    moments: Sequence[Moment] = MOMENTS
    aimed: float = 0.65
    forked: bool = False


@dataclass(frozen=True)
class Life:
    """One process of the node, from its start to its end; times in seconds from the start.

    Attributes
    ----------
    anew : started as a program, not forked
    aim : name of the moment, or how else it was killed
    hit : whether it came to its moment
    open_workflows : that were not waiting for a time, as it started
    first_step_s, first_step_cpu_s : when the first step ran, and the processor time until then; None: no step
    """

    aim: str
    anew: bool
    hit: bool
    lived_s: float
    listened_s: float | None
    open_workflows: int
    first_step_s: float | None
    first_step_cpu_s: float | None

    @property
    def recovered_s(self) -> float | None:
        """Until what was open was taken up, of a node that was started as operators do."""
        return self.first_step_s if self.open_workflows and self.anew else None


@dataclass
class Outcome:
    """What a campaign showed.

    Attributes
    ----------
    acknowledgements : of ``images`` different ones
    results : series that have one
    conflicts : images with other content under a SOP Instance UID that was taken
    comings : of ``objects`` different ones, at the recording archive
    requests : for storage commitment
    given_up : jobs that were killed too often and ordered again
    """

    lives: list[Life]
    violations: list[str]
    series: int
    images: int
    acknowledgements: int
    results: int
    versions: int
    conflicts: int
    objects: int
    comings: int
    requests: int
    given_up: int
    seconds: float
    evidence: Evidence


def run(options: Options, say: Callable[[str], None] = print) -> Outcome:
    """Run a campaign in a folder of its own, which is kept."""
    return _Campaign(options, say).run()


class _Campaign:
    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self._options, self._say = options, say
        # Threads have their own chance, so that the kills are the same for the same seed
        self._chance = random.Random(options.seed)
        folder = options.folder
        folder.mkdir(parents=True, exist_ok=True)
        models = folder / "models"
        if options.shipped:
            models.mkdir()
            (models / SHIPPED.name).symlink_to(SHIPPED)
        else:
            write_spot_bundle(models / "spot")
        self._models, self._port = models, free_port()
        self._configuration, self._log = folder / "node.toml", folder / "node.log"
        self._log.touch()  # a node may be killed before it writes its first line
        self._mark = folder / "killed"
        chance = random.Random(f"material {options.seed}")
        self._material = Material(folder / "sent", chance, data=options.data, heads=options.shipped)
        self._series: list[Series] = []
        self._contradicted: set[str] = set()
        self._lives: list[Life] = []

    def run(self) -> Outcome:
        options, start = self._options, time.monotonic()
        self._senders = Senders(
            self._port, options.folder / "acknowledged.log", random.Random(f"senders {options.seed}")
        )
        with ExitStack() as stack:
            stack.callback(self._senders.stop)
            recorder = Recorder(
                "ARCHIVE",
                self._port,
                folder=options.folder / "archive",
                chance=random.Random(f"archive {options.seed}"),
            )
            self._recorder = stack.enter_context(recorder)
            dcmtk = stack.enter_context(storescp(options.folder / "dcmtk", options.folder / "dcmtk.log"))
            self._orthanc: Orthanc | None = None
            destinations: dict[str, tuple[str, int] | str] = {"dcmtk": ("DCMTK", dcmtk)}
            if options.with_orthanc:
                pacs = orthanc(options.folder / "orthanc", node_port=self._port, autoroute=False)
                self._orthanc = stack.enter_context(pacs)
                destinations["orthanc"] = ("TESTPACS", self._orthanc.dicom_port)
            destinations["archive"] = (
                f'ae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {recorder.port}{_COMMITTING}'
            )
            write_configuration(
                self._configuration,
                port=self._port,
                models=self._models,
                destinations=destinations,
                waits=_NICE,
                quiet_s=3,
            )
            for number, aim in enumerate(self._aims(), 1):
                if time.monotonic() - start > options.minutes * 60:
                    break
                self._feed()
                life = self._live(aim)
                self._lives.append(life)
                self._say(self._line(number, life))
            self._end()
            return self._outcome(time.monotonic() - start)

    def _aims(self) -> list[Moment | str]:
        """Moments in random order, each as often as the others, and kills at random between them."""
        kills, chance = self._options.kills, self._chance
        aimed = round(kills * self._options.aimed)
        aims: list[Moment | str] = []
        while len(aims) < aimed:
            aims += chance.sample(self._options.moments, len(self._options.moments))
        del aims[aimed:]
        aims += [AT_START if number % 4 == 3 else AT_RANDOM for number in range(kills - aimed)]
        chance.shuffle(aims)
        return aims

    def _feed(self) -> None:
        """Give the senders a new series, sometimes a second, or a contradiction to an old one."""
        analysed = {path.parts[-3] for path in self._options.folder.glob("var/results/*/*/result.json")}
        # A node that is always killed gets behind: then there is only what the moment may need
        some = [0, 0, 1] if len(self._series) - len(analysed) > _BACKLOG else [1, 1, 2]
        for _ in range(self._chance.choice(some)):
            series = self._material.next()
            self._series.append(series)
            self._senders.send(series)
        old = [s for s in self._series if s.uid not in self._contradicted]
        if self._chance.random() < 0.1 and (ready := [s for s in old if self._senders.is_acknowledged(s)]):
            self._contradicted.add(ready[-1].uid)
            self._senders.contradict(ready[-1])

    def _live(self, aim: Moment | str) -> Life:
        """Start the node and see it killed."""
        chance, command = self._chance, []
        afterlife_s = chance.uniform(0, _AFTERLIFE_S)
        limit_s = max(self._options.wait_s, self._usual_start_s())
        if isinstance(aim, Moment):
            within_s = chance.uniform(0, aim.within_ms) / 1000
            command = [self._mark, aim.name, chance.randint(1, aim.most), within_s]
        elif aim == AT_START:
            limit_s = chance.uniform(0.2, self._usual_start_s())
        else:
            limit_s = self._usual_start_s() * chance.uniform(1, 3) + chance.uniform(0, 5)
        self._mark.unlink(missing_ok=True)
        logged = self._log.stat().st_size
        started_at, start = time.time(), time.monotonic()
        anew = not self._options.forked or len(self._lives) % 10 == 9
        process = self._start(anew, *command)
        listened_s: float | None = None
        ends_s = math.inf
        try:
            while process.poll() is None:
                lived_s = time.monotonic() - start
                if ends_s == math.inf and self._mark.exists():
                    ends_s = lived_s + afterlife_s
                if lived_s > ends_s:
                    break
                if listened_s is None and listens(self._port):
                    listened_s = lived_s
                # Counted from when it listens: a busy machine starts it slowly
                since = listened_s if isinstance(aim, Moment) else 0.0
                if (since is not None and lived_s > since + limit_s) or lived_s > _START_TIMEOUT_S:
                    break
                time.sleep(0.02)
        finally:
            process.kill()
        code = process.wait()
        if code != -signal.SIGKILL:
            raise RuntimeError(f"the node ended by itself ({code}); its log: {self._log}")
        return self._life(
            aim if isinstance(aim, str) else aim.name,
            anew,
            started_at,
            time.monotonic() - start,
            listened_s,
            self._events(logged),
        )

    def _life(
        self,
        aim: str,
        anew: bool,
        started_at: float,
        lived_s: float,
        listened_s: float | None,
        events: list[dict[str, Any]],
    ) -> Life:
        opened = next((e["workflows"] for e in events if e["event"] == "torture_open"), 0)
        first = next((e for e in events if e["event"] == "torture_first_step"), None)
        return Life(
            aim,
            anew,
            self._mark.exists() or aim in (AT_RANDOM, AT_START),
            lived_s,
            listened_s,
            opened,
            datetime.fromisoformat(first["timestamp"]).timestamp() - started_at if first else None,
            first["cpu_s"] if first else None,
        )

    def _start(self, anew: bool, *moment: object) -> subprocess.Popen[bytes] | Forked:
        environment = {"DICOM_NODE_LOG__FORMAT": "json"}
        arguments = [str(self._configuration), *map(str, moment)]
        if not anew:
            return Forked(self._log, environment, *arguments)
        command = [sys.executable, "-m", "tests.torture.node", *arguments]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})

    def _usual_start_s(self) -> float:
        known = sorted(life.listened_s for life in self._lives if life.listened_s is not None)
        return known[len(known) // 2] if known else 8.0

    def _events(self, offset: int) -> list[dict[str, Any]]:
        with self._log.open("rb") as log:
            log.seek(offset)
            lines = log.read().decode(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def _line(self, number: int, life: Life) -> str:
        came = "" if life.hit else " (did not come, killed anyway)"
        taken_up = f"worked after {life.first_step_s:.1f} s" if life.first_step_s is not None else "no work"
        return (
            f"kill {number}/{self._options.kills}  {life.aim}{came}, after {life.lived_s:.1f} s; {taken_up}; "
            f"{self._senders.acknowledgements} acknowledged of {len(self._series)} series, "
            f"{len(self._recorder.comings)} objects archived"
        )

    def _end(self) -> None:
        """Let the node do what is left, in peace; then start and stop it once more.

        What a node gave up, as it was killed ten times while it worked on it, an operator orders again.
        """
        self._recorder.is_nice = True
        folder, again = self._options.folder / "var", set[str]()
        process = self._start(True)
        try:

            def all_ended() -> bool:
                time.sleep(1)
                if process.poll() is not None:
                    raise RuntimeError(f"the node ended by itself; its log: {self._log}")
                if not self._senders.all_done():
                    return False
                entries = entries_of(folder)
                failed = {entry.job_id for entry in entries if entry.state is State.FAILED}
                if failed - again:
                    again.update(failed)
                    say(self._configuration, "retry", "--all")
                    return False
                known = {entry.series_instance_uid for entry in entries}
                latest = {entry.job_id for entry in entries}
                return (
                    all(entry.state in ENDED for entry in entries)
                    and {s.uid for s in self._series} <= known
                    and all(_whole_job(s) in latest for s in self._series)
                )

            try:
                wait_for(all_ended, _END_TIMEOUT_S)
            except pytest.fail.Exception:
                self._say(f"after {_END_TIMEOUT_S:.0f} s not all work has ended")
        finally:
            process.terminate()
            process.wait(90)
        self._given_up = len(again)
        process = self._start(True)
        wait_for(lambda: listens(self._port), _START_TIMEOUT_S)
        process.terminate()
        process.wait(90)

    def _outcome(self, seconds: float) -> Outcome:
        folder, senders, recorder = self._options.folder, self._senders, self._recorder
        archives = {
            "archive": {p.name: _digest(p.read_bytes()) for p in recorder.folder.iterdir()},
            "dcmtk": {
                p.name.partition(".")[2]: _digest(data_set_of(p)) for p in (folder / "dcmtk").iterdir()
            },
        }
        if self._orthanc:
            archives["orthanc"] = self._in_orthanc(self._orthanc)
        evidence = Evidence(self._series, senders.acknowledged, folder / "var", archives, recorder.comings)
        found = violations(evidence)
        for series in self._series:
            missing = [uid for uid in series.uids if uid not in senders.acknowledged]
            if missing:
                found.append(f"series {series.uid}: {len(missing)} images were never acknowledged")
        log = self._log.read_text(errors="replace")
        if leak := re.search(r"Torture\^", log):
            found.append(f"the log names a patient, at byte {leak.start()}")
        return Outcome(
            lives=self._lives,
            violations=found,
            series=len(self._series),
            images=len(senders.acknowledged),
            acknowledgements=senders.acknowledgements,
            results=len({result.series_uid for result in evidence.results}),
            versions=len(evidence.results),
            conflicts=len(self._contradicted),
            objects=len(recorder.comings),
            comings=sum(map(len, recorder.comings.values())),
            requests=len(recorder.asked),
            given_up=self._given_up,
            seconds=seconds,
            evidence=evidence,
        )

    def _in_orthanc(self, pacs: Orthanc) -> dict[str, str]:
        """Digests of the data sets, which Orthanc keeps as they come."""
        found = {}
        for uid, content in pacs.files().items():
            path = self._options.folder / "orthanc" / f"{uid}.dcm"
            path.write_bytes(content)
            found[uid] = _digest(data_set_of(path))
        return found


def _whole_job(series: Series) -> str:
    return f"{series.uid}-{hashlib.sha256(chr(10).join(sorted(series.uids)).encode()).hexdigest()[:16]}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
