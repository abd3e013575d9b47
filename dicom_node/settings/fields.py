"""What the sections of the settings are made of."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    model_validator,
)

from dicom_node.errors import ConfigurationError
from dicom_node.toml_file import Table


def wrong_ae_title(value: str) -> str | None:
    """Say why a text is no AE title; None when it is one."""
    if re.fullmatch(r"[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?", value):
        return None
    return "an AE title has 1 to 16 printable ASCII characters, no backslash (PS3.5 6.2)"


def _ae_title(value: str) -> str:
    if objection := wrong_ae_title(value):
        raise ValueError(objection)
    return value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError("an IP address or a network such as 10.1.0.0/16") from None


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from None
    return value


def _web_address(value: str) -> str:
    wanted = "https://HOST/PATH, the root of a DICOMweb service"
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(wanted)
    if "@" in parts.netloc:
        raise ValueError("no user or password in it, as it is shown; set user and password")
    return value.rstrip("/")


def _user_name(value: str) -> str:
    if ":" in value or not value.isprintable():
        raise ValueError("a name without a colon (RFC 7617)")
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]
Network = Annotated[str, AfterValidator(_network)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Port = Annotated[int, Field(ge=1, le=65535)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
UserName = Annotated[str, AfterValidator(_user_name)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Section(Table):
    """A table of the configuration."""


class Secret(Section):
    """Where a secret is kept: never in the configuration itself.

    Attributes
    ----------
    file : a file with nothing else in it; read anew whenever the secret is needed
    variable : the name of an environment variable
    """

    file: Path | None = None
    variable: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_no_text(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError('a secret does not stand here: { file = "PATH" } or { variable = "NAME" }')  # noqa: TRY004
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.variable is None):
            raise ValueError('{ file = "PATH" } or { variable = "NAME" }')
        return self

    def read(self) -> str:
        """Return the secret.

        Raises
        ------
        ConfigurationError
            It is not there, or is not one line of printable ASCII.
        """
        where = f"the secret in {self.file}" if self.file else f"the secret in the variable {self.variable}"
        try:
            value = self.file.read_text("ascii") if self.file else os.environ.get(self.variable or "")
        except OSError as error:
            raise ConfigurationError(f"{where}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{where} is not printable ASCII") from None
        value = (value or "").strip()
        if not value:
            raise ConfigurationError(f"{where} is missing or empty")
        if not (value.isascii() and value.isprintable()):
            raise ConfigurationError(f"{where} is not one line of printable ASCII")
        return value
