"""A TOML file held to a pydantic model: unknown keys and bad values are named, nothing is replaced."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from dicom_node.errors import NodeError

Model = TypeVar("Model", bound=BaseModel)


class Table(BaseModel):
    """A table of such a file: unknown keys are refused, and what was read does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_toml(path: Path, model: type[Model], error: type[NodeError], missing: str) -> Model:
    """Read a file.

    Parameters
    ----------
    model : what it must be
    error : raised when it is no TOML, or has unknown keys or bad values; each is named
    missing : the message when there is no such file
    """
    try:
        with path.open("rb") as file:
            return model.model_validate(tomllib.load(file))
    except FileNotFoundError:
        raise error(missing) from None
    except tomllib.TOMLDecodeError as wrong:
        raise error(f"{path} is not valid TOML: {wrong}") from None
    except ValidationError as wrong:
        named = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in wrong.errors())
        raise error(f"{path}: {named}") from None
