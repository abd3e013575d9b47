"""Typed configuration: one TOML file, overridden by ``DICOM_NODE_SECTION__KEY`` variables, read once.

An unknown key or a bad value is refused at start with its path and what is permitted.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from dicom_node.errors import ConfigurationError
from dicom_node.results.result_set import Kind
from dicom_node.series.volume import Contrast

ENVIRONMENT_PREFIX = "DICOM_NODE_"


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


def installed_models() -> Path:
    """Find the bundles that came with the program: in the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    packaged = package / "models"
    return packaged if packaged.is_dir() else package.parent / "models"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(_Section):
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


class CalledAE(_Section):
    """One AE title that the node answers to, and who may call it (empty: anybody).

    Attributes
    ----------
    priority : of the series sent to it; an urgent one overtakes those that wait
    """

    ae_title: AETitle
    calling_ae_titles: tuple[AETitle, ...] = ()
    addresses: tuple[Network, ...] = ()
    priority: Literal["high", "normal", "low"] = "normal"


class ReceiveTLS(_Section):
    """TLS of the C-STORE SCP (PS3.15 B.12).

    Attributes
    ----------
    port : speaks TLS only; the same as ``receive.port``: then nothing is received without TLS
    certificate_file, key_file : ours (PEM, the key without a passphrase), the certificate with its chain
    ca_file : certificates (PEM) of those who may have signed the senders'
    clients : whether a sender must show a certificate; one that is shown must be good
    """

    port: Port = 2762
    certificate_file: Path
    key_file: Path
    ca_file: Path | None = None
    clients: Literal["required", "optional", "none"] = "required"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.clients == "none") != (self.ca_file is None):
            raise ValueError('ca_file says whose senders may come; without one, set clients = "none"')
        return self


class Receive(_Section):
    """The C-STORE SCP.

    Attributes
    ----------
    tls : without it nothing is encrypted
    maximum_pdu : bytes, the length that we propose and the most that we take
    maximum_associations, maximum_associations_per_host : at one time
    pdu_timeout_s : for one whole PDU once its first byte is there, and for a TLS or A-ASSOCIATE opening
    idle_timeout_s : an association without a message is aborted after it
    maximum_object_mb : a larger data set is refused with A700H
    minimum_free_mb : below it, associations are refused as transient
    """

    host: str = "127.0.0.1"
    port: Port = 11112
    called: Annotated[tuple[CalledAE, ...], Field(min_length=1)] = (CalledAE(ae_title="DICOM_NODE"),)
    maximum_pdu: Annotated[int, Field(ge=16384, le=1 << 20)] = 131072
    maximum_associations: PositiveInt = 64
    maximum_associations_per_host: PositiveInt = 32
    pdu_timeout_s: PositiveFloat = 30.0
    idle_timeout_s: PositiveFloat = 300.0
    maximum_object_mb: PositiveInt = 2048
    minimum_free_mb: Annotated[int, Field(ge=0)] = 1024
    tls: ReceiveTLS | None = None


class Retention(_Section):
    """When what the node holds is deleted; unset: never.

    Only what nobody needs any more: images of series whose work has ended, results that every
    destination has.

    Attributes
    ----------
    images_days : received images, so long after their series was done
    results_days : result files, so long after they were delivered
    maximum_gb : of images and results together; beyond it the oldest go before their time
    workflows_days : finished entries of ``workflows.sqlite``
    """

    images_days: PositiveFloat | None = None
    results_days: PositiveFloat | None = None
    maximum_gb: PositiveFloat | None = None
    workflows_days: PositiveFloat = 30.0

    @model_validator(mode="after")
    def _results_stay_longer(self) -> Self:
        if self.results_days and self.images_days and self.results_days < self.images_days:
            raise ValueError(
                "results_days must not be less than images_days: a second version names the first"
            )
        return self


class Completion(_Section):
    """When a series is complete.

    Attributes
    ----------
    quiet_s : without a new instance
    quiet_after_release_s : the same once the association was released and the slices have no gap
    longest_s : after the first instance, the series is taken as it is
    """

    quiet_s: PositiveFloat = 20.0
    quiet_after_release_s: PositiveFloat = 3.0
    longest_s: PositiveFloat = 1800.0


class DestinationTLS(_Section):
    """TLS to a C-STORE SCP (PS3.15 B.12).

    Attributes
    ----------
    ca_file : certificates (PEM) of those who may have signed the destination's
    certificate_file, key_file : ours, for a destination that asks for one (PEM)
    server_name : what the destination's certificate names; its ``host`` unless set
    check_name : false takes any certificate that is signed by one of ``ca_file``
    """

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None
    check_name: bool = True

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if self.server_name and not self.check_name:
            raise ValueError("server_name is looked at with check_name = true only")
        return self


class Analysis(_Section):
    """The models.

    Attributes
    ----------
    models : folder of the bundles; those that came with the program unless set
    device : ``auto`` takes CUDA where it works
    threads : of the CPU, 0 for all cores
    """

    models: Path = Field(default_factory=installed_models)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0


class Match(_Section):
    """What a series must be to fit a pipeline."""

    contrasts: Annotated[tuple[Contrast, ...], Field(min_length=1)]
    minimum_slices: PositiveInt = 10
    called_ae_titles: tuple[AETitle, ...] = ()
    series_description: Pattern | None = None


class Pipeline(_Section):
    """Which series go through which bundle, what is made of them, and where it goes.

    Attributes
    ----------
    segment : slices that the segmenter sees: those the detector calls positive and their
        neighbours, or all
    minimum_lesion_ml : smaller regions are not reported
    maximum_slices : a larger series gets a failed report
    """

    name: Name
    match: Match
    bundle: str
    segment: Literal["positive", "all"] = "positive"
    minimum_lesion_ml: Annotated[float, Field(ge=0)] = 0.1
    maximum_slices: PositiveInt = 1000
    outputs: tuple[Kind, ...] = (Kind.SEG, Kind.SC, Kind.SR)
    destinations: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _always_reports(self) -> Self:
        if Kind.SR not in self.outputs:
            raise ValueError("outputs must hold 'sr': the report is the result, also when nothing is found")
        return self


class Outgoing(_Section):
    """What every kind of destination has.

    Attributes
    ----------
    timeout_s : for connecting and for each answer
    retry_first_s, retry_longest_s : exponential backoff with jitter
    retry_for_hours, retry_attempts : after either the delivery has failed; 0 attempts: any number
    """

    name: Name
    timeout_s: PositiveFloat = 30.0
    retry_first_s: PositiveFloat = 2.0
    retry_longest_s: PositiveFloat = 300.0
    retry_for_hours: PositiveFloat = 72.0
    retry_attempts: Annotated[int, Field(ge=0)] = 0


class Destination(Outgoing):
    """A C-STORE SCP that takes results.

    Attributes
    ----------
    calling_ae_title : ours, as that SCP knows it
    tls : without it nothing is encrypted
    commitment : whether it is asked to commit itself to what it stored; ``required``: a delivery without
        that has failed
    commitment_timeout_s, commitment_attempts : how long a report is waited for, and how often it is asked
    commitment_hold_s : how long the association is kept open for a report on it
    """

    ae_title: AETitle
    host: str
    port: Port
    calling_ae_title: AETitle = "DICOM_NODE"
    tls: DestinationTLS | None = None
    commitment: Literal["off", "wanted", "required"] = "off"
    commitment_timeout_s: PositiveFloat = 3600.0
    commitment_attempts: PositiveInt = 3
    commitment_hold_s: Annotated[float, Field(ge=0)] = 1.0


class WebDestination(Outgoing):
    """A DICOMweb server that takes results (STOW-RS).

    Attributes
    ----------
    url : the service's root, such as https://pacs.hospital.example/dicom-web
    ca_file : certificates (PEM) of those who may have signed the server's; the system's unless set
    certificate_file, key_file : ours (PEM), for a server that asks for one
    token : sent as bearer token
    user, password : for basic authentication
    """

    url: WebAddress
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    token: Secret | None = None
    user: UserName | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together")
        if self.token is not None and self.user is not None:
            raise ValueError("either token, or user and password")
        if (self.key_file is None) != (self.certificate_file is None):
            raise ValueError("certificate_file and key_file go together")
        if not self.is_encrypted and (self.ca_file or self.certificate_file):
            raise ValueError("ca_file and certificate_file go with an https:// url")
        return self

    @property
    def is_encrypted(self) -> bool:
        """Whether images and secrets are unreadable on their way."""
        return self.url.startswith("https:")


def _kind_of_destination(value: object) -> str:
    has_url = "url" in value if isinstance(value, dict) else isinstance(value, WebDestination)
    return "dicomweb" if has_url else "dimse"


AnyDestination = Annotated[
    Annotated[Destination, Tag("dimse")] | Annotated[WebDestination, Tag("dicomweb")],
    Discriminator(_kind_of_destination),
]


class Site(_Section):
    """The institution.

    Attributes
    ----------
    uid_salt : keeps result UIDs of two nodes apart that analyse the same images
    """

    uid_salt: str = "dicom-node"


class Logging(_Section):
    """Where the log goes: stderr, in one of two forms."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    """All that can be set; ``config/node.toml`` explains each key.

    Attributes
    ----------
    folder : of spool, workflows, book and results
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
    analysis: Analysis = Analysis()
    pipelines: tuple[Pipeline, ...] = ()
    destinations: tuple[AnyDestination, ...] = ()
    site: Site = Site()
    log: Logging = Logging()

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        known = [d.name for d in self.destinations]
        for what, names in (("destinations", known), ("pipelines", [p.name for p in self.pipelines])):
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
