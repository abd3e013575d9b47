"""The demonstration: a series goes to a running node and its result comes back to an archive.

Everything is real but the hospital: the node runs as its own process, both ways are C-STORE.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from rich.progress import Progress

from dicom_node.deliver.cstore import Peer, send_files
from dicom_node.errors import ConfigurationError, NodeError, PermanentError, TransientError
from dicom_node.phantom.brain import PhantomContrast
from dicom_node.phantom.mr_series import write_series
from dicom_node.phantom.scan import scan_phantom
from dicom_node.series.find import find_series
from dicom_node.settings import Settings, Web
from dicom_node.trial.archive import Archive
from dicom_node.workflow.ledger import ENDED, Entry, Ledger, State

START_TIMEOUT_S = 60.0
RESULT_TIMEOUT_S = 600.0

_MARK = ".dicom-node-demo"

_CONFIGURATION = """\
folder = {folder}

[receive]
port = {port}

[web]
{web}

[completion]
quiet_after_release_s = 0.5

[analysis]
models = {models}

{pipelines}
[[destinations]]
name = "archive"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {archive_port}
"""

_PIPELINE = """\
[[pipelines]]
name = {bundle}
bundle = {bundle}
match = {{ contrasts = {contrasts} }}
destinations = ["archive"]
"""


@dataclass(frozen=True)
class Demonstration:
    """What the demonstration showed.

    Attributes
    ----------
    entry : the node's book on the series
    summary : ``result.json``
    archived : the result objects in the archive, in the order of the summary
    picture : PNG, MRI left, heatmap right
    timings_s : seconds in each station, in order
    """

    entry: Entry
    summary: dict[str, Any]
    archived: tuple[Path, ...]
    picture: Path
    timings_s: dict[str, float]


def demonstrate(
    out: Path,
    settings: Settings,
    series: Path | None,
    contrast: PhantomContrast = "FLAIR",
    stay: Callable[[Demonstration, str], None] | None = None,
) -> Demonstration:
    """Send a series, wait for its result in the archive, and prove it there.

    Parameters
    ----------
    out : made, or emptied when it is an earlier demonstration's
    settings : whose bundles and pipelines the node gets
    series : folder of one MR series; None for the phantom
    contrast : of the phantom
    stay : gets what was shown and the page's address while the node still runs; without it there is no page

    Raises
    ------
    ConfigurationError
        No bundle reads the phantom, or a folder will not do.
    NodeError
        When the series was skipped, or its result did not arrive or is not valid.
    """
    if series is None and not any(contrast in p.match.contrasts for p in settings.pipelines):
        raise ConfigurationError(f"no installed bundle reads {contrast}; dicom-node models lists them")
    paths = None if series is None else _one_series(series)
    _empty(out, series)
    if paths is None:
        paths = write_series(scan_phantom(contrast=contrast).datasets, out / "series")
    with Archive(out / "archive", "ARCHIVE") as archive:
        port = _free_port()
        page_port = _page_port() if stay else None
        configuration = out / "node.toml"
        pipelines = [
            _PIPELINE.format(bundle=json.dumps(p.bundle), contrasts=json.dumps(p.match.contrasts))
            for p in settings.pipelines
        ]
        configuration.write_text(
            _CONFIGURATION.format(
                folder=json.dumps(str(out / "node")),
                models=json.dumps(str(settings.analysis.models)),
                port=port,
                web=f"port = {page_port}" if page_port else "enabled = false",
                archive_port=archive.port,
                pipelines="\n".join(pipelines),
            )
        )
        with _node(configuration, out / "node.log", port):
            start = time.monotonic()
            _send(paths, Peer("DICOM_NODE", "127.0.0.1", port, "DEMO"))
            received = time.monotonic()
            entry = _wait(out / "node" / "ledger.sqlite")
            timings = {"receive": received - start, "all": time.monotonic() - received}
            shown = _shown(out, entry, paths[0], timings)
            if stay:
                stay(shown, f"http://127.0.0.1:{page_port}/series/{entry.number}")
    return shown


def _shown(out: Path, entry: Entry, image: Path, measured_s: dict[str, float]) -> Demonstration:
    """Prove what came of the series."""
    if entry.state is not State.DONE or entry.folder is None:
        raise PermanentError(f"the series was {entry.state}: {entry.detail}")
    folder = Path(entry.folder)
    summary = json.loads((folder / "result.json").read_text())
    archived = tuple(out / "archive" / f"{o['sop_instance_uid']}.dcm" for o in summary["objects"])
    _prove_arrival(folder, summary, out / "archive", dcmread(image, stop_before_pixels=True))
    shutil.copy(folder / "picture.png", out / "picture.png")
    inside = summary["timings_s"]
    timings = {"receive": measured_s["receive"], **inside}
    timings["waiting and delivery"] = measured_s["all"] - sum(inside.values())
    return Demonstration(entry, summary, archived, out / "picture.png", timings)


def _prove_arrival(folder: Path, summary: dict[str, Any], archive: Path, source: Dataset) -> None:
    """Hold what the archive has against what the node proved, and both against the source."""
    for item in summary["objects"]:
        path = archive / f"{item['sop_instance_uid']}.dcm"
        if not path.exists():
            raise PermanentError(f"the {item['kind']} did not arrive in the archive")
        arrived = dcmread(path)
        if arrived != dcmread(folder / item["file"]):
            raise PermanentError(f"the {item['kind']} in the archive is not the one that was sent")
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
            if arrived.get(keyword) != source.get(keyword):
                raise PermanentError(f"the {item['kind']} has another {keyword} than the series")


def _empty(out: Path, series: Path | None) -> None:
    """Make the folder new; only what an earlier demonstration left is removed."""
    if series is not None and out.resolve() in (series.resolve(), *series.resolve().parents):
        raise ConfigurationError(f"{out} holds the series itself; name another folder")
    if out.exists() and not (out / _MARK).exists():
        raise ConfigurationError(f"{out} is there and is no earlier demonstration; name another folder")
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / _MARK).touch()


def _one_series(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder")
    series = find_series(folder)
    if len(series) != 1:
        raise ConfigurationError(f"{folder} holds {len(series)} DICOM series; name a folder with one")
    return next(iter(series.values()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _page_port() -> int:
    """The page's usual port where it is free, so that a browser finds it again."""
    usual = Web().port
    try:
        socket.create_server(("127.0.0.1", usual)).close()
    except OSError:
        return _free_port()
    return usual


@contextmanager
def _node(configuration: Path, log: Path, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "dicom_node", "serve", "--config", str(configuration)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 - our own program
        try:
            _wait_for_port(process, port, log)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    last = log.read_text().strip().rpartition("\n")[2]
    raise NodeError(f"the node did not start: {last or f'see {log}'}")


def _send(paths: list[Path], peer: Peer) -> None:
    with Progress(transient=True) as progress:
        for _ in progress.track(send_files(peer, paths), total=len(paths), description="C-STORE"):
            pass


def _wait(book: Path) -> Entry:
    ledger = Ledger(book)
    try:
        deadline = time.monotonic() + RESULT_TIMEOUT_S
        while time.monotonic() < deadline:
            for entry in ledger.entries():
                if entry.state in ENDED:
                    return entry
            time.sleep(0.1)
    finally:
        ledger.close()
    raise TransientError(f"no result within {RESULT_TIMEOUT_S:.0f} s")
