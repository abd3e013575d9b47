"""The bundles that are installed, as the page shows them and lets one choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from markdown_it import MarkdownIt

from dicom_node.analysis.manifest import FILE_NAME, Manifest, read_manifest
from dicom_node.errors import BundleError
from dicom_node.web.node_view import NodeView

CARD = "CARD.md"

_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True, slots=True)
class Model:
    """An installed bundle.

    Attributes
    ----------
    device : where it runs; empty while it is not loaded
    card : HTML
    """

    manifest: Manifest
    device: str
    pipelines: tuple[str, ...]
    card: str


def installed(node: NodeView) -> Iterator[Manifest]:
    """Read the manifests of all bundles; what is none is passed over."""
    folder = node.settings.analysis.models
    for path in sorted(folder.glob(f"*/{FILE_NAME}")):
        try:
            yield _manifest(path.parent, path.stat().st_mtime_ns)
        except (BundleError, OSError):
            continue


def models(node: NodeView) -> list[Model]:
    """Describe all bundles, those in use first."""
    loaded, pipelines = node.stations.bundles, node.settings.pipelines
    found = [
        Model(
            manifest,
            loaded[manifest.name].device if manifest.name in loaded else "",
            tuple(p.name for p in pipelines if p.bundle == manifest.name),
            card_of(node.settings.analysis.models / manifest.name),
        )
        for manifest in installed(node)
    ]
    return sorted(found, key=lambda model: not model.pipelines)


def bundles_for(node: NodeView, contrast: str | None) -> list[str]:
    """Name the bundles that a series of this contrast can be analysed with; of any, without one."""
    fitting = []
    for manifest in installed(node):
        taken = [p for p in node.settings.pipelines if set(p.match.contrasts) <= set(manifest.contrasts)]
        if taken and (contrast is None or contrast in manifest.contrasts):
            fitting.append(manifest.name)
    return fitting


def card_of(folder: Path) -> str:
    """Make HTML of a bundle's card; pictures and raw HTML in it are left out."""
    path = folder / CARD
    try:
        return _html_of(path, path.stat().st_mtime_ns)
    except OSError:
        return ""


@lru_cache(maxsize=64)
def _html_of(path: Path, _changed_at: int) -> str:
    text = path.read_text("utf-8")
    markdown = _without_images()
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):  # below the headings of the page
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    return str(markdown.renderer.render(tokens, markdown.options, {}))


@lru_cache(maxsize=1)
def _without_images() -> MarkdownIt:
    return _markdown.disable("image")


@lru_cache(maxsize=64)
def _manifest(folder: Path, _changed_at: int) -> Manifest:
    return read_manifest(folder)
