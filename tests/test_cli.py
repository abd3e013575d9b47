"""The commands as a user types them: what they print, write and return.

``serve`` is covered by tests/workflow/test_node.py, ``selftest`` by tests/trial/test_selftest.py; ``demo``
whole by none, as its parts are: series, node and archive.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.trial.archive import Archive
from tests.support.spot import Series, image_spot

run = CliRunner().invoke


@pytest.fixture(autouse=True)
def _bundles(spot_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE_ANALYSIS__MODELS", str(spot_models))


def test_analyse_writes_the_objects_and_says_what_was_found(series_of: Series, tmp_path: Path) -> None:
    spot = image_spot()
    series_of(spot)
    done = run(app, ["analyse", str(tmp_path / "series"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert ": analysed: 1 lesion, 5.6 ml" in done.stdout
    (folder,) = (tmp_path / "out").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert result["notice"] == "RESEARCH USE ONLY"
    assert result["series_instance_uid"] == folder.name
    assert result["bundle"]["name"] == "spot"
    assert len(result["slices"]) == 12
    (lesion,) = result["lesions"]
    assert lesion["volume_ml"] == pytest.approx(spot.volume_ml, rel=0.01)
    assert lesion["centroid_mm"] == pytest.approx(spot.centroid_mm, abs=0.5)
    assert {o["file"] for o in result["objects"]} == {"seg.dcm", "sc.dcm", "sr.dcm"}
    assert set(result["timings_s"]) == {"series", "analysis", "results"}


def test_analyse_returns_1_when_a_series_failed(series_of: Series, tmp_path: Path) -> None:
    series_of(image_spot())[4].unlink()
    done = run(app, ["analyse", str(tmp_path / "series"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert ": failed: slices 4 and 5 are 8.00 mm apart" in done.stdout


def test_analyse_returns_0_when_a_series_was_skipped(series_of: Series, tmp_path: Path) -> None:
    series_of(image_spot(), series_description="scout")
    done = run(app, ["analyse", str(tmp_path / "series"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert ": skipped: SeriesDescription says 'scout': a localizer" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["analyse", "nowhere", "--out", "out"], "nowhere is no folder"),
        (["analyse", ".", "--out", "out"], "no DICOM series in ."),
        (["analyse", ".", "--out", "out", "--config", "none.toml"], "none.toml: No such file"),
        (["serve", "--config", "none.toml"], "none.toml: No such file"),
        (["send", ".", "nonsense", "--called", "A"], "'nonsense' is no HOST:PORT"),
        (["send", ".", "127.0.0.1:1", "--called", "A"], "no DICOM files in ."),
        (["status"], "no node has run with this configuration"),
        (["check-config", "none.toml"], "none.toml: No such file"),
        (["demo", "--series", "nowhere"], "nowhere is no folder"),
    ],
)
def test_bad_usage_is_said_in_one_line_and_returns_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(app, arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_send_stores_every_file_at_the_peer(series_of: Series, tmp_path: Path) -> None:
    paths = series_of(image_spot())
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        address = f"127.0.0.1:{archive.port}"
        done = run(app, ["send", str(tmp_path / "series"), address, "--called", "ARCHIVE"])
    assert done.exit_code == 0, done.output
    assert "12 of 12 files stored by ARCHIVE@127.0.0.1" in done.stdout
    assert len(list(archive.folder.glob("*.dcm"))) == len(paths)


def test_send_returns_1_when_the_peer_does_not_answer(series_of: Series, tmp_path: Path) -> None:
    series_of(image_spot())
    done = run(app, ["send", str(tmp_path / "series"), "127.0.0.1:1", "--called", "ARCHIVE"])
    assert done.exit_code == 1
    assert "ARCHIVE@127.0.0.1:1 does not answer" in done.stderr


def test_demo_empties_no_folder_but_its_own(series_of: Series, tmp_path: Path) -> None:
    paths = series_of(image_spot())
    kept = tmp_path / "precious.txt"
    kept.write_text("kept")
    for out in (tmp_path / "series", tmp_path):
        done = run(app, ["demo", "--series", str(tmp_path / "series"), "--out", str(out)])
        assert done.exit_code == 2
        assert "holds the series itself" in done.stderr
    stranger = run(app, ["demo", "--out", str(tmp_path)])
    assert stranger.exit_code == 2
    assert "is no earlier demonstration" in stranger.stderr
    assert kept.exists()
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[receive]\nhost = "192.0.2.1"', "receive.host 192.0.2.1, receive.port 11112: cannot listen there"),
        ('folder = "{taken}"', "folder "),
    ],
)
def test_serve_says_in_one_line_why_it_cannot_start(text: str, message: str, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    path = tmp_path / "node.toml"
    folder = "" if "folder" in text else f'folder = "{tmp_path / "var"}"\n'
    path.write_text(folder + text.format(taken=taken) + "\n[web]\nenabled = false\n")
    command = [sys.executable, "-m", "dicom_node", "serve", "--config", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_check_config_names_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[[pipelines]]\nname = "a"\nbundle = "gone"\nmatch = { contrasts = ["T1"] }\n')
    done = run(app, ["check-config", str(path)])
    assert done.exit_code == 2
    assert "gone/manifest.toml is missing" in done.stderr


def test_check_config_refuses_a_contrast_that_the_bundle_was_not_trained_for(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(
        '[[pipelines]]\nname = "all"\nbundle = "spot"\nmatch = { contrasts = ["FLAIR", "T1CE"] }\n'
    )
    done = run(app, ["check-config", str(path)])
    assert done.exit_code == 2
    assert "pipelines.all.match.contrasts: bundle 'spot' was trained for FLAIR, not for T1CE;" in done.stderr
    assert "dicom-node models" in done.stderr


def test_demo_says_when_no_bundle_reads_the_contrast(tmp_path: Path) -> None:
    done = run(app, ["demo", "--contrast", "T1CE", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "no installed bundle reads T1CE" in done.stderr
    assert not (tmp_path / "out").exists()


def test_models_lists_each_bundle_with_device_contrast_and_licence() -> None:
    done = run(app, ["models"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "spot 1.0.0 on cpu",
        "  reads FLAIR, axial",
        "  weights under Apache-2.0",
    ]


def test_the_version_is_shown() -> None:
    assert run(app, ["--version"]).stdout.startswith("dicom-node ")
