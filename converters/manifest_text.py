"""Write a manifest as TOML text; the standard library only reads TOML."""

from __future__ import annotations

import json
from pathlib import Path

from dicom_node.analysis.manifest import FILE_NAME, Manifest, read_manifest

Value = str | bool | int | float | list["Value"]
Table = dict[str, "Value | Table"]


def _value(value: Value) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)  # a JSON string, boolean or integer is TOML too


def toml_text(table: Table, prefix: str = "") -> str:
    """Give the text of nested tables whose keys are bare (letters, digits, ``_`` and ``-``)."""
    lines, tables = [], []
    for key, value in table.items():
        if isinstance(value, dict):
            tables.append(f"\n[{prefix}{key}]\n{toml_text(value, f'{prefix}{key}.')}")
        else:
            lines.append(f"{key} = {_value(value)}\n")
    return "".join(lines + tables)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write ``folder/manifest.toml`` and read it back, as the node will.

    Raises
    ------
    BundleError
        When the text written does not give the same manifest.
    """
    text = toml_text(manifest.model_dump(mode="json"))
    path = folder / FILE_NAME
    path.write_text(text, encoding="utf-8")
    if read_manifest(folder) != manifest:
        raise AssertionError(f"{path} does not read back as it was written")
