"""The settings as a whole: read once from one TOML file and the environment."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import PositiveFloat, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dicom_node.errors import ConfigurationError
from dicom_node.results.result_set import Kind
from dicom_node.settings.analysis import Analysis, Pipeline
from dicom_node.settings.database import Database
from dicom_node.settings.destinations import AnyDestination
from dicom_node.settings.fields import Section
from dicom_node.settings.operate import Audit, Notification, Operate
from dicom_node.settings.receive import Completion, Receive, Retention
from dicom_node.settings.web import Web

ENVIRONMENT_PREFIX = "DICOM_NODE_"


class Site(Section):
    """The institution.

    Attributes
    ----------
    uid_salt : keeps result UIDs of two nodes apart that analyse the same images
    """

    uid_salt: str = "dicom-node"


class Logging(Section):
    """What is logged, to stderr.

    Attributes
    ----------
    format : for people or, a JSON object a line, for machines
    level : the least that is told
    """

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    """All that can be set; ``config/node.toml`` explains each key.

    Attributes
    ----------
    folder : of spool and results; of workflows and book too, without ``database.url``
    stop_timeout_s : for running C-STOREs and steps to end after SIGTERM; then they are cut
    """

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    folder: Path = Path("var")
    stop_timeout_s: PositiveFloat = 50.0
    receive: Receive = Receive()
    completion: Completion = Completion()
    retention: Retention = Retention()
    database: Database = Database()
    analysis: Analysis = Analysis()
    pipelines: tuple[Pipeline, ...] = ()
    destinations: tuple[AnyDestination, ...] = ()
    site: Site = Site()
    log: Logging = Logging()
    web: Web = Web()
    operate: Operate = Operate()
    audit: Audit = Audit()
    notifications: tuple[Notification, ...] = ()

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        known = [d.name for d in self.destinations]
        of_pipelines, told = [p.name for p in self.pipelines], [n.name for n in self.notifications]
        named = (("destinations", known), ("pipelines", of_pipelines), ("notifications", told))
        for what, names in named:
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{what}: the name {twice[0]!r} is used twice")
        for pipeline in self.pipelines:
            for name in pipeline.destinations:
                if name not in known:
                    listed = ", ".join(map(repr, known)) or "none"
                    where = f"pipelines.{pipeline.name}.destinations"
                    raise ValueError(f"{where}: {name!r} is not among [[destinations]] ({listed})")
        return self

    @model_validator(mode="after")
    def _outputs_are_made(self) -> Self:
        for destination in self.destinations:
            made = {k for p in self.pipelines if destination.name in p.destinations for k in p.outputs}
            if Kind.SEG in made:
                made.add(Kind.SC)  # in its place
            if made and (never := [k for k in destination.outputs or () if k not in made]):
                where = f"destinations.{destination.name}.outputs"
                raise ValueError(
                    f"{where}: no pipeline that sends there has {str(never[0])!r} in its outputs"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file (which comes in as init values)."""
        return env_settings, init_settings


def load_settings(path: Path) -> Settings:
    """Read a TOML file and the environment.

    Relative paths in the file (``folder``, ``analysis.models``) are relative to the
    current directory, as in a command line.

    Raises
    ------
    ConfigurationError
        Names the file, each wrong key by its path, and what is permitted.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {os.strerror(error.errno or 0)}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    _refuse_unknown_variables()
    try:
        return Settings(**values)
    except ValidationError as error:
        errors = error.errors()
        # A list whose item is wrong is then also too short for pydantic: that is no news
        places = [e["loc"] for e in errors]
        first = [e for e in errors if not any(p[: len(e["loc"])] == e["loc"] != p for p in places)]
        lines = [f"  {_where(e['loc'])}{_what(e['msg'], e['type'])}" for e in first]
        raise ConfigurationError("\n".join([f"{path}: {len(lines)} wrong", *lines])) from None


def _refuse_unknown_variables() -> None:
    """Refuse what pydantic passes over: a variable whose section is no setting."""
    known = {*Settings.model_fields, "data"}  # DICOM_NODE_DATA names the images of tests and training
    for name in os.environ:
        section = name.removeprefix(ENVIRONMENT_PREFIX).partition("__")[0].lower()
        if name.startswith(ENVIRONMENT_PREFIX) and section not in known:
            raise ConfigurationError(f"the environment variable {name} is no setting")


def _where(location: tuple[int | str, ...]) -> str:
    parts = [part for part in location if part not in ("dimse", "dicomweb")]  # pydantic's tags of the kinds
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return f"{path}: " if path else ""


def _what(message: str, kind: str) -> str:
    if kind == "extra_forbidden":
        return "unknown key; remove it or correct its spelling"
    return message.removeprefix("Value error, ")
