"""Layers and functions of somebody's own: taken from a Python file, and named when they are missing."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from converters.errors import ConversionError

_MODULE = "custom_objects_of_the_network"
_MISSING = re.compile(r"(?:Could not locate (?:class|function)|Unknown [\w ]+:) '?([\w>.]+)'?")


def read_custom_objects(path: Path | None) -> dict[str, Any]:
    """Run a Python file and return the classes and functions that it defines, by name.

    Raises
    ------
    ConversionError
        When the file is missing, fails, or defines nothing.
    """
    if path is None:
        return {}
    spec = importlib.util.spec_from_file_location(_MODULE, path) if path.suffix == ".py" else None
    if spec is None or spec.loader is None or not path.is_file():
        raise ConversionError(f"--custom-objects {path}: there is no such .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # decorators look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # somebody else's code raises anything
        raise ConversionError(f"--custom-objects {path}: {type(error).__name__}: {error}") from error
    found = {
        name: value
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == _MODULE
    }
    if not found:
        raise ConversionError(f"--custom-objects {path} defines no class and no function")
    return found


def missing_object(message: str) -> str | None:
    """Return the name of the object that Keras says it does not know, if that is what it says."""
    found = _MISSING.search(message)
    return found.group(1).rstrip(".") if found else None
