"""What a bundle says of itself and no network can tell: from ``description.toml`` or from options."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from converters.errors import ConversionError
from converters.network import Role
from dicom_node.analysis.channels import Channels
from dicom_node.analysis.manifest import Calibration, Declaration, Probability

DESCRIPTION = "description.toml"
GIVEN_RULE = "given to the conversion"

# where the option is not called like the key
_OPTIONS = {"contrasts": "--contrast", "planes": "--plane", "input": "--percentiles", "version": "--release"}


class Description(Declaration):
    """What the manifest declares, and where the training data come from."""

    training_data: str
    licence: str


class Threshold(BaseModel):
    """``threshold.json`` beside a network, as a training leaves it; other keys are its own affair."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    threshold: Probability
    threshold_rule: Annotated[str, Field(min_length=1)]
    calibration: Calibration = Calibration()
    channels: Channels | None = None


def read_description(folder: Path, given: Mapping[str, Any]) -> Description:
    """Read ``description.toml``, strictly, if there is one; what was given comes before it.

    Parameters
    ----------
    folder : of the bundle; its name is the bundle's
    given : values by key of the description; None was not given

    Raises
    ------
    ConversionError
        Names each missing key with its option, and each wrong one.
    """
    path = folder / DESCRIPTION
    table: dict[str, Any] = {"name": folder.resolve().name}
    if path.exists():
        try:
            table |= tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ConversionError(f"{path} is not valid TOML: {error}") from None
    table |= {key: value for key, value in given.items() if value is not None}
    try:
        description = Description.model_validate(table)
    except ValidationError as error:
        raise ConversionError(_sentence(error, path)) from None
    if description.name != folder.resolve().name:
        raise ConversionError(f"{path} is for {description.name!r}; folder and name must agree")
    return description


def read_threshold(model_file: Path, role: Role, given: float | None) -> Threshold:
    """Return the given threshold, or that of ``threshold.json`` beside the network.

    Raises
    ------
    ConversionError
        When there is neither, or it is wrong.
    """
    path = model_file.with_name("threshold.json")
    try:
        if given is not None:
            return Threshold(threshold=given, threshold_rule=GIVEN_RULE)
        return Threshold.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConversionError(
            f"the threshold of the {role} is missing: give --{role}-threshold, "
            f"or threshold and threshold_rule in {path}"
        ) from None
    except json.JSONDecodeError as error:
        raise ConversionError(f"{path} is not valid JSON: {error}") from None
    except ValidationError as error:
        where = f"--{role}-threshold" if given is not None else str(path)
        raise ConversionError(f"{where}: {'; '.join(_wrong(item) for item in error.errors())}") from None


def _sentence(error: ValidationError, path: Path) -> str:
    items = error.errors()
    missing = [str(item["loc"][0]) for item in items if item["type"] == "missing" and len(item["loc"]) == 1]
    parts = [_wrong(item) for item in items if item["type"] != "missing" or len(item["loc"]) > 1]
    if missing:
        options = [_OPTIONS.get(key, f"--{key.replace('_', '-')}") for key in missing]
        parts.insert(
            0, f"{', '.join(missing)} missing: give {', '.join(options)}, or the same keys in {path}"
        )
    return f"the bundle's description: {'; '.join(parts)}"


def _wrong(item: Mapping[str, Any]) -> str:
    return f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
