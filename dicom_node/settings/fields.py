"""What the sections of the settings are made of."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
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
    wanted = "https://HOST/PATH, the root of a web service"
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


def _postgres_address(value: str) -> str:
    wanted = "postgresql://USER@HOST:PORT/NAME, PORT where it is not 5432"
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    if parts.scheme not in ("postgresql", "postgresql+psycopg") or not parts.path.strip("/"):
        raise ValueError(wanted)
    if parts.password is not None:
        raise ValueError("no password in it, as it is shown; set password")
    return value


def _user_name(value: str) -> str:
    if ":" in value or not value.isprintable():
        raise ValueError("a name without a colon (RFC 7617)")
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]
Network = Annotated[str, AfterValidator(_network)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Port = Annotated[int, Field(ge=1, le=65535)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
PostgresAddress = Annotated[str, AfterValidator(_postgres_address)]
UserName = Annotated[str, AfterValidator(_user_name)]
Priority = Literal["high", "normal", "low"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Section(Table):
    """A table of the configuration."""


def need_together(section: Section, *keys: str) -> None:
    """Refuse a section that sets some of these keys and not the others."""
    if len({getattr(section, key) is None for key in keys}) > 1:
        raise ValueError(f"{' and '.join(keys)} go together")


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


class WebService(Section):
    """A web server, and how we show who we are.

    Attributes
    ----------
    url : the service's root
    timeout_s : for connecting and for each answer
    ca_file : certificates (PEM) of those who may have signed the server's; the system's unless set
    certificate_file, key_file : ours (PEM), for a server that asks for one
    token : sent as bearer token
    user, password : for basic authentication
    """

    url: WebAddress
    timeout_s: PositiveFloat = 30.0
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    token: Secret | None = None
    user: UserName | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        need_together(self, "user", "password")
        if self.token is not None and self.user is not None:
            raise ValueError("either token, or user and password")
        need_together(self, "certificate_file", "key_file")
        if not self.is_encrypted and (self.ca_file or self.certificate_file):
            raise ValueError("ca_file and certificate_file go with an https:// url")
        return self

    @property
    def is_encrypted(self) -> bool:
        """Whether images and secrets are unreadable on their way."""
        return self.url.startswith("https:")
