"""Links of the pages to files outside of docs/: the site gets a page of each such file.

A hook of MkDocs, see mkdocs.yml. In the repository the links stay what they are.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
FOLDER = "repository"
_LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=(?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page of each file that a page outside or inside of docs/ leads to."""
    open_ones = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    nav = re.findall(rf"{FOLDER}/[\w./-]+", str(config.nav))
    open_ones += [name.removeprefix(f"{FOLDER}/") for name in nav]
    done: set[str] = set()
    while open_ones:
        source = open_ones.pop()
        if source in done:
            continue
        done.add(source)
        if not source.startswith("docs/"):
            files.append(File.generated(config, _page_of(source), content=_content(source)))
        if source.endswith(".md"):
            open_ones += [target for _, target in _outgoing((ROOT / source).read_text(), source)]
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to these pages."""
    source = _source_of(page.file.src_uri)
    here = posixpath.dirname(page.file.src_uri)
    for link, target in _outgoing(markdown, source):
        there = posixpath.relpath(_page_of(target), here or ".")
        markdown = re.sub(rf"(?<=\]\(){re.escape(link)}(?=[)#])", there, markdown)
    return markdown


def _outgoing(markdown: str, source: str) -> Iterator[tuple[str, str]]:
    """Links to files of the repository of which one end is outside of docs/."""
    for link in dict.fromkeys(_LINK.findall(markdown)):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        inside = source.startswith("docs/") and target.startswith("docs/")
        if not inside and (ROOT / target).is_file():
            yield link, target


def _page_of(path: str) -> str:
    """Where a file of the repository stands in the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{FOLDER}/{path}" if path.endswith(".md") else f"{FOLDER}/{path}.md"


def _source_of(page: str) -> str:
    if not page.startswith(f"{FOLDER}/"):
        return f"docs/{page}"
    path = page.removeprefix(f"{FOLDER}/")
    return path if (ROOT / path).is_file() else path.removesuffix(".md")


def _content(path: str) -> str:
    text = (ROOT / path).read_text()
    if path.endswith(".md"):
        return text
    return f"# {path}\n\n~~~~ {Path(path).suffix.lstrip('.')}\n{text}\n~~~~\n"
