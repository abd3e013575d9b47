"""Documents that state facts of the code are as the code is, links lead somewhere, and it makes a site.

The page on Orthanc is followed with a real one. Not covered: other prose; links to other hosts.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dicom_node.phantom.mr_series import write_series
from dicom_node.phantom.scan import scan_phantom
from dicom_node.workflow.ledger import Sent
from tests.peers.orthanc import Orthanc
from tests.support.running import (
    entries_of,
    free_port,
    listens,
    need,
    node_process,
    process,
    say,
    send,
    wait_for,
)

ROOT = Path(__file__).parents[1]
TOP = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("script", ["make_conformance", "make_reference"])
def test_what_is_made_from_the_code_is_as_the_code(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    for page, text in importlib.import_module(script).pages().items():
        assert page.read_text() == text, f"run: .venv/bin/python docs/{script}.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    pytest.importorskip("mkdocs", reason="the dependency group docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return folder


@pytest.mark.slow
def test_every_page_is_in_the_site(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        made = site / ("index.html" if page.stem == "index" else f"{page.stem}.html")
        assert made.exists(), f"{page.name}: say in mkdocs.yml where it stands"


class _Loaded(HTMLParser):
    """What a browser loads with a page, by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        loads = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
        if tag in loads and (address := values.get(loads[tag])):
            self.addresses.append(address)
        if tag == "link" and values.get("rel") != "canonical" and (address := values.get("href")):
            self.addresses.append(address)


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = _Loaded()
        loaded.feed(page.read_text())
        assert loaded.addresses, page
        for address in loaded.addresses:
            assert not re.match(r"(\w+:)?//", address), f"{page.name} loads {address}"
        # the theme draws these with a library from another host
        assert 'class="mermaid"' not in page.read_text(), page.name


def _warnings() -> set[str]:
    """The events of warnings and errors that the node logs."""
    said = re.compile(r"""\b_?log\.(?:warning|error|exception|critical)\(\s*"(\w+)\"""")
    return {event for path in (ROOT / "dicom_node").rglob("*.py") for event in said.findall(path.read_text())}


def test_each_warning_of_the_log_is_explained() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    missing = {event for event in _warnings() if f"`{event}`" not in page}
    assert not missing, "say in docs/troubleshooting.md what they mean and what to do"


@pytest.mark.slow
@pytest.mark.peer
def test_the_page_on_orthanc_leads_to_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its files as they stand there, but for ports and the time that a series is waited for."""
    program = need("Orthanc")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DICOM_NODE_WEB__ENABLED", "false")
    ports = {port: free_port() for port in ("4242", "8042", "11112")}  # at one go: a port may hold another
    page = (ROOT / "docs" / "orthanc.md").read_text()
    for name, language in (("orthanc.json", "json"), ("autoroute.lua", "lua"), ("node.toml", "toml")):
        text = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)[1]
        text = re.sub("|".join(ports), lambda shown: str(ports[shown[0]]), text)
        Path(name).write_text(text.replace('"StableAge": 60', '"StableAge": 10'))
    write_series(scan_phantom().datasets, Path("series"))
    pacs = Orthanc(ports["8042"], ports["4242"])
    log, configuration = tmp_path / "orthanc.log", Path("node.toml")
    with (
        process(program, "orthanc.json", log=log, port=pacs.dicom_port),
        node_process(configuration, ports["11112"]),
    ):
        wait_for(lambda: listens(pacs.http_port))
        send(sorted(Path("series").iterdir()), pacs.dicom_port, called="PACS")
        pacs.wait_for_results("SEG", "SR", "OT")

        def committed() -> bool:
            return [each.state for each in entries_of(Path("var-orthanc"))[0].deliveries] == [Sent.COMMITTED]

        assert wait_for(committed)
        assert "to pacs: committed" in say(configuration, "status")
