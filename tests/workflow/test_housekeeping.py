"""What deletes, alone and in a whole node. Not covered: which rule deletes what (test_retention)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom

from dicom_node.trial.archive import Archive
from dicom_node.workflow.engine import DurableEngine
from dicom_node.workflow.ledger import State
from dicom_node.workflow.retention import Housekeeping
from tests.support.running import (
    entries_of,
    free_port,
    node_process,
    say,
    send,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import image_spot
from tests.workflow.shelf import UID, Shelf


def test_a_node_deletes_what_was_delivered_and_says_how_much_is_held(
    tmp_path: Path, spot_models: Path, series_of: Callable[..., list[Path]]
) -> None:
    paths, port, folder = series_of(image_spot()), free_port(), tmp_path / "var"
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        configuration = write_configuration(
            tmp_path / "node.toml",
            port=port,
            models=spot_models,
            destinations={"archive": ("ARCHIVE", archive.port)},
        )
        with node_process(configuration, port):
            send(paths[:-1], port)
            wait_until_ended(folder)
            assert "nothing is ever deleted" in say(configuration, "clean")
            assert re.search(
                r"held: images of 1 series \(\S+ MB\), results \(\S+ MB\)", say(configuration, "status")
            )
            text = configuration.read_text().replace("[completion]\n", "[completion]\nlongest_s = 4\n")
            configuration.write_text(f"{text}[retention]\nimages_days = 1e-5\nresults_days = 1e-5\n")
            time.sleep(6)
            dry = say(configuration, "clean", "--dry-run")
            assert re.search(r"would be deleted: images of \S+: 11 files", dry)
            assert re.search(r"would be deleted: results of \S+: \d+ files", dry)
            assert len(list(folder.glob("spool/series/*/*.dcm"))) == 11
            assert re.search(r"deleted: images of .*\ndeleted: results of ", say(configuration, "clean"))
            assert "held: images of 0 series (0.0 MB), results (0.0 MB)" in say(configuration, "status")

            send(paths[-1:], port)  # late
            late, _ = wait_until_ended(folder, jobs=2)
            assert late.state is State.FAILED
            assert "send the whole series again" in say(configuration, "status", "--failed")
            send(paths, port)
            wait_for(lambda: any(e.instances == len(paths) for e in entries_of(folder)))
            whole = next(e for e in wait_until_ended(folder, jobs=3) if e.instances == len(paths))
            assert whole.state is State.DONE
        reports = [d for d in map(pydicom.dcmread, archive.folder.glob("*.dcm")) if d.Modality == "SR"]
    first, second = sorted(reports, key=lambda report: "PredecessorDocumentsSequence" in report)
    (study,) = second.PredecessorDocumentsSequence
    named = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_finished_workflows_are_forgotten_and_others_are_not(tmp_path: Path) -> None:
    engine, ran = DurableEngine(tmp_path / "workflows.sqlite"), []
    run = engine.workflow("note", ran.append)
    queue = engine.queue("notes", at_once=1)
    engine.start()
    try:
        for number in range(3):
            engine.enqueue(queue, f"job-{number}", run, number)
        engine.enqueue_at(1, 3600, queue, "job-later", run, 3)
        wait_for(lambda: engine.under_way() == {"job-later"})
        assert engine.forget_ended(datetime.now(UTC) - timedelta(days=1)) == 0
        assert engine.forget_ended(datetime.now(UTC) + timedelta(seconds=1)) == 3
        assert engine.ended("job-") is None
        assert engine.under_way() == {"job-later"}
    finally:
        engine.stop(0)


def test_housekeeping_goes_on_after_a_failure_and_ends_when_told(shelf: Callable[..., Shelf]) -> None:
    node = shelf(images_days=1e-9)
    node.receive(1)
    node.enter(State.SKIPPED)
    for path in node.spool.instances(UID):
        os.utime(path, (0, 0))

    class Engine:
        asked = 0

        def forget_ended(self, before: datetime) -> int:
            self.asked += 1
            assert datetime.now(UTC) - before >= timedelta(days=30)
            if self.asked == 1:
                raise OSError
            return 0

    engine = Engine()
    housekeeping = Housekeeping(node.settings, node.retention, engine, every_s=0.05)
    housekeeping.start()
    wait_for(lambda: engine.asked >= 2)
    housekeeping.stop()
    assert not node.spool.series()
