"""A folder of real results to look at: ``python -m tests.viewer.gallery FOLDER``.

The phantom with and without a lesion, a series that cannot be analysed, and, where their images
are there, patients of the test split; each as the node's own files and, where OHIF and Chromium
are there, as the viewer shows them.
"""

from __future__ import annotations

import argparse
import html
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from pydicom import Dataset

from dicom_node.phantom.mr_series import write_series
from dicom_node.phantom.scan import scan_phantom
from dicom_node.results.result_set import Kind
from dicom_node.settings import Settings
from dicom_node.workflow.defaults import default_settings
from dicom_node.workflow.folder import Analysed, analyse_folder
from dicom_node.workflow.stations import Stations
from tests.conftest import DEFAULT_DATA
from tests.support.lgg import lgg_patients, lgg_series
from tests.viewer.browser import Viewer, chromium, viewer
from tests.viewer.ohif import serve_ohif
from tests.viewer.pacs import store, viewing_orthanc

MISSING_SLICE = 9
LOADED_S = 3.0  # a viewport that has not changed for so long has loaded what it shows


@dataclass(frozen=True)
class Case:
    """One series and what became of it."""

    name: str
    series: list[Path]
    study_uid: str
    one: Analysed


def series_to_show(patients: int) -> Iterator[tuple[str, list[Dataset]]]:
    """Give each case's name and images."""
    yield "phantom-positive", scan_phantom().datasets
    yield "phantom-negative", scan_phantom(lesion=False).datasets
    incomplete = scan_phantom(1).datasets
    del incomplete[MISSING_SLICE]
    yield "phantom-failed", incomplete
    data = Path(os.environ.get("DICOM_NODE_DATA", DEFAULT_DATA))
    if (data / "lgg_flair").is_dir():
        for patient in lgg_patients(data, "test")[:patients]:
            yield patient, lgg_series(data, patient).datasets
    else:
        print("no patients: DICOM_NODE_DATA does not name a folder with lgg_flair")


def with_maps(settings: Settings) -> Settings:
    """Let every pipeline make a Parametric Map, too."""
    outputs = (Kind.SEG, Kind.PM, Kind.SC, Kind.SR)
    pipelines = tuple(each.model_copy(update={"outputs": outputs}) for each in settings.pipelines)
    return settings.model_copy(update={"pipelines": pipelines})


def analyse(stations: Stations, name: str, datasets: list[Dataset], out: Path, scratch: Path) -> Case:
    """Keep the result's files in ``out/NAME`` and the series in ``scratch``."""
    series = write_series(datasets, scratch / name / "series")
    (one,) = analyse_folder(stations, scratch / name / "series", scratch / name / "result")
    shutil.copytree(one.folder, out / name)
    print(f"{name}: {one.detail}")
    return Case(name, series, str(datasets[0].StudyInstanceUID), one)


def photograph(tab: Viewer, case: Case, folder: Path) -> None:
    """Save what OHIF shows of each result."""
    findings = case.one.worked.findings if case.one.worked else None
    tab.open_study(case.study_uid)
    for modality in tab.modalities():
        if modality == "MR":
            continue
        tab.open_series(modality)
        if modality == "SR" and findings:
            tab.wait_for_text("Certainty of Finding")
        if modality == "PMAP" and findings and findings.lesions:
            tab.wait_for_colour()
        tab.settled(quiet_s=LOADED_S)
        if modality == "SEG" and findings:
            tab.scroll_to_instance(findings.key_slice + 1)
        tab.save(folder / f"ohif-{modality.lower()}.png")
    for problem in tab.problems:
        print(f"{case.name}: in the browser: {problem}")


def photograph_all(cases: list[Case], out: Path, scratch: Path) -> None:
    with ExitStack() as stack:
        try:
            pacs = stack.enter_context(viewing_orthanc(scratch / "orthanc"))
            site = stack.enter_context(serve_ohif(f"http://127.0.0.1:{pacs.http_port}"))
            browser: Browser = stack.enter_context(chromium())
        except (pytest.skip.Exception, pytest.fail.Exception, subprocess.SubprocessError) as missing:
            print(f"no screenshots: {missing}")
            return
        for case in cases:
            store(pacs, case.series)
            store(pacs, sorted(case.one.folder.glob("*.dcm")))
            with viewer(browser, site) as tab:
                photograph(tab, case, out / case.name)


def write_index(cases: list[Case], out: Path) -> Path:
    """Write one page with all pictures."""
    parts = ["<!doctype html><meta charset=utf-8><title>Gallery</title><style>img{max-width:48%}</style>"]
    for case in cases:
        parts.append(f"<h2>{html.escape(case.name)}</h2><p>{html.escape(case.one.detail)}</p>")
        parts += [
            f'<img src="{p.relative_to(out)}" alt="{p.stem}">'
            for p in sorted((out / case.name).glob("*.png"))
        ]
    index = out / "index.html"
    index.write_text("\n".join(parts))
    return index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="emptied first")
    parser.add_argument("--patients", type=int, default=4, help="of the test split, at most")
    arguments = parser.parse_args()
    out: Path = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    stations = Stations(with_maps(default_settings()))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        cases = [
            analyse(stations, name, datasets, out, scratch)
            for name, datasets in series_to_show(arguments.patients)
        ]
        photograph_all(cases, out, scratch)
        print(write_index(cases, out))


if __name__ == "__main__":
    main()
