"""The page and the API beside the service, and who may use them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from dicom_node.settings.fields import Network, Port, Secret, Section, need_together
from dicom_node.settings.receive import ReceiveTLS
from dicom_node.web.access.addresses import is_loopback


def _host_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?", value):
        raise ValueError("a host name such as node.hospital.example, without https:// and port")
    return value.lower()


def _issuer(value: str) -> str:
    parts = urlsplit(value)
    is_secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not is_secure or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("https://HOST/PATH, as the provider calls itself")
    return value


HostName = Annotated[str, AfterValidator(_host_name)]
Issuer = Annotated[str, AfterValidator(_issuer)]


class Login(Section):
    """How long a login lasts.

    Attributes
    ----------
    always : also where only this machine can reach the page
    idle_minutes : without anything done, pages that ask by themselves not counted
    hours : after the login, in any case
    """

    always: bool = False
    idle_minutes: PositiveFloat = 30.0
    hours: PositiveFloat = 12.0


class OIDC(Section):
    """Login by an OpenID Connect provider (authorization code with PKCE).

    Attributes
    ----------
    issuer : as the provider calls itself; its description is at ``ISSUER/.well-known/openid-configuration``
    client_id, client_secret : of this node there; a public client has no secret
    ca_file : certificates (PEM) of those who may have signed the provider's; the system's unless set
    title : on the button of the login page
    scopes : asked for
    name_claim : of the user, in the page and in the audit trail
    role_claim : has the names of groups or roles; dots lead into it, as in ``realm_access.roles``
    viewer, operator, admin : which of these names give which role; somebody with none of them is not let in
    """

    issuer: Issuer
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: Secret | None = None
    ca_file: Path | None = None
    title: str = "Log in with your hospital account"
    scopes: tuple[str, ...] = ("openid", "profile")
    name_claim: str = "preferred_username"
    role_claim: str = "groups"
    viewer: tuple[str, ...] = ()
    operator: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _gives_a_role(self) -> Self:
        if not (self.viewer or self.operator or self.admin):
            raise ValueError("nobody would get a role: name groups for viewer, operator or admin")
        if "openid" not in self.scopes:
            raise ValueError("scopes: 'openid' must be among them")
        return self


class Web(Section):
    """The page and the API.

    Attributes
    ----------
    enabled : without it the node has neither
    host, port : where they are served; this machine only unless set
    certificate_file, key_file : for TLS (PEM, the key without a passphrase), the certificate with its chain
    behind_proxy : addresses or networks of reverse proxies that end TLS; nobody else is believed when they
        say for whom they ask. Login is then demanded
    hostnames : by which browsers may ask for the page, beside addresses and localhost
    login : how long it lasts
    oidc : login by an identity provider, beside users of our own
    cache_mb : of decoded series, so that going through slices is quick
    trial_hours : what was tried out is deleted so long after it was last looked at
    maximum_upload_mb : of what is tried out at once, packed and unpacked
    maximum_files : tried out at once
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 8080
    certificate_file: Path | None = None
    key_file: Path | None = None
    behind_proxy: tuple[Network, ...] = ()
    hostnames: tuple[HostName, ...] = ()
    login: Login = Login()
    oidc: OIDC | None = None
    cache_mb: PositiveInt = 512
    trial_hours: PositiveFloat = 1.0
    maximum_upload_mb: Annotated[int, Field(ge=1, le=1 << 16)] = 1024
    maximum_files: PositiveInt = 3000

    @model_validator(mode="after")
    def _may_be_reached(self) -> Self:
        need_together(self, "certificate_file", "key_file")
        if self.behind_proxy and not self.hostnames:
            raise ValueError("behind_proxy needs hostnames: by which browsers ask the proxy for the page")
        if self.enabled and not (is_loopback(self.host) or self.is_encrypted):
            raise ValueError(
                f"{self.host!r} can be reached from other machines, and passwords and images would go "
                "there unencrypted: set certificate_file and key_file, or behind_proxy to the addresses of "
                "a reverse proxy that ends TLS; or take 127.0.0.1, ::1 or localhost"
            )
        return self

    @property
    def tls(self) -> ReceiveTLS | None:
        """The files of the page's own TLS; None without."""
        if self.certificate_file is None or self.key_file is None:
            return None
        return ReceiveTLS(
            port=self.port, certificate_file=self.certificate_file, key_file=self.key_file, clients="none"
        )

    @property
    def is_encrypted(self) -> bool:
        """Whether browsers come by https, to us or to the proxy before us."""
        return bool(self.certificate_file or self.behind_proxy)

    @property
    def demands_login(self) -> bool:
        """Whether who asks must say who they are."""
        return bool(
            not is_loopback(self.host) or self.behind_proxy or self.oidc is not None or self.login.always
        )
