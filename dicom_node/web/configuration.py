"""The configuration as it was read, without what is secret."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dicom_node.settings import Settings

MASKED = "(set, not shown)"
# Not secrets in themselves, but of use to somebody who wants in
_SECRET = ("salt", "password", "token", "secret", "key_file")


def lines_of(settings: Settings) -> Iterator[tuple[str, str]]:
    """List each key by its path, with its value."""
    yield from _lines("", settings.model_dump(mode="json"))


def _lines(path: str, value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - whatever a setting is
    name = path.rpartition(".")[2]
    if value is not None and any(word in name for word in _SECRET):
        yield path, MASKED
    elif isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _lines(f"{path}.{key}".lstrip("."), inner)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, inner in enumerate(value):
            yield from _lines(f"{path}[{inner.get('name', number)}]", inner)
    elif isinstance(value, list):
        yield path, ", ".join(map(str, value)) or "(none)"
    else:
        yield (
            path,
            "(not set)" if value is None else str(value).lower() if isinstance(value, bool) else str(value),
        )
