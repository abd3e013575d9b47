"""Login by an OpenID Connect provider: authorization code flow with PKCE (OpenID Connect Core 3.1, RFC 9700).

What a login is about travels in a cookie of the browser that began it; nothing is kept here meanwhile.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from dicom_node.errors import ConfigurationError, PermanentError, TransientError
from dicom_node.settings import OIDC, Settings
from dicom_node.web.access.addresses import is_loopback
from dicom_node.web.access.roles import GIVEN, Role

_TIMEOUT_S = 10.0
_KNOWN_S = 3600.0  # what a provider says of itself and its keys
_AGAIN_S = 5.0  # one that does not answer is asked again
_LEEWAY_S = 60  # between its clock and ours
_NAME = 64  # characters
# Signatures by the provider's own key; never one that a client's secret could have made, nor none
_ALGORITHMS = (
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
_REMEDY = "look at [web.oidc] and at the provider's log"


class ProviderUnavailable(TransientError):
    """The provider does not answer, or not as one does."""

    remedy = "start the identity provider, or mend the way to it (web.oidc)"


class NotLetIn(PermanentError):
    """The provider's answer lets nobody in; the message says why."""

    remedy = _REMEDY


@dataclass(frozen=True, slots=True)
class Errand:
    """What a browser was sent to the provider for.

    Attributes
    ----------
    state, nonce : come back in the answer and in the signed token
    verifier : proves to the provider that the answer came back to who asked
    to : where the browser goes on
    """

    state: str
    nonce: str
    verifier: str
    to: str

    @classmethod
    def new(cls, to: str) -> Self:
        """Draw one."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state, nonce, verifier, to)

    def to_cookie(self) -> str:
        """Write it for a cookie."""
        return base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode()

    @classmethod
    def of_cookie(cls, text: str) -> Self | None:
        """Read it from a cookie; None where it is none."""
        try:
            given = json.loads(base64.urlsafe_b64decode(text))
            errand = cls(**given)
        except (ValueError, TypeError):
            return None
        return errand if all(isinstance(each, str) and each for each in given.values()) else None


class Provider:
    """The provider of the settings; asked when somebody first needs it.

    Raises
    ------
    ConfigurationError
        A file or secret cannot be used.
    """

    def __init__(self, settings: OIDC) -> None:
        self._settings = settings
        self._verify = _context(settings)
        self._asking = threading.Lock()
        self._known: dict[str, tuple[float, dict[str, Any]]] = {}
        self._failed_at = float("-inf")
        self._secret()

    def address(self, errand: Errand, back: str) -> str:
        """Where a browser is sent; ``back`` is where the provider sends it afterwards."""
        challenge = hashlib.sha256(errand.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": back,
            "scope": " ".join(self._settings.scopes),
            "state": errand.state,
            "nonce": errand.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        at = self._endpoint("authorization_endpoint")
        return f"{at}{'&' if urlsplit(at).query else '?'}{urlencode(asked)}"

    def let_in(self, errand: Errand, answer: Mapping[str, str], back: str) -> tuple[str, Role]:
        """Who it is that the provider sent back, and their role.

        Parameters
        ----------
        answer : the query of the address that it sent the browser to

        Raises
        ------
        ProviderUnavailable, NotLetIn
        """
        if not secrets.compare_digest(answer.get("state", "").encode(), errand.state.encode()):
            raise NotLetIn("the provider answers another login: begin anew")
        if answer.get("iss", self._settings.issuer) != self._settings.issuer:  # RFC 9207
            raise NotLetIn("another provider answers: begin anew")
        if "error" in answer:
            raise NotLetIn(f"the provider refused ({_word(answer['error'])}): {_REMEDY}")
        tokens = self._redeem(answer.get("code", ""), errand.verifier, back)
        claims = self._claims(str(tokens.get("id_token", "")), errand.nonce)
        names = _names(claims, self._settings.role_claim)
        if names is None and tokens.get("access_token"):
            told = self._told(str(tokens["access_token"]))
            if told.get("sub") != claims["sub"]:
                raise NotLetIn("the provider speaks of two people")
            claims = told | claims
            names = _names(claims, self._settings.role_claim)
        name = claims.get(self._settings.name_claim) or claims["sub"]
        printable = "".join(c for c in str(name) if c.isprintable()).strip()[:_NAME] or "-"
        return printable, self._role(printable, names or ())

    def _role(self, name: str, names: tuple[str, ...]) -> Role:
        for role in reversed(GIVEN):
            if set(names) & set(getattr(self._settings, role)):
                return role
        claim = self._settings.role_claim
        raise NotLetIn(
            f"{name} has no role here: the claim {claim} has none of the names in [web.oidc]; an "
            "administrator can give one"
        )

    def _redeem(self, code: str, verifier: str, back: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "client_id": self._settings.client_id,
            "code_verifier": verifier,
        }
        auth = None
        secret = self._secret()
        if secret is not None:
            ways = self._description().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
            if "client_secret_basic" in ways:  # RFC 6749 2.3.1
                auth = httpx.BasicAuth(quote(self._settings.client_id, ""), quote(secret, ""))
            else:
                form["client_secret"] = secret
        return self._ask("POST", self._endpoint("token_endpoint"), data=form, auth=auth)

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        wanted = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": self._settings.client_id},
            nonce={"essential": True, "value": nonce},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )
        try:
            try:
                read = jwt.decode(token, self._keys(), algorithms=_ALGORITHMS)
            except InvalidKeyIdError:  # the provider has changed its keys
                read = jwt.decode(token, self._keys(anew=True), algorithms=_ALGORITHMS)
            wanted.validate(read.claims)
        except (JoseError, ValueError) as error:
            raise NotLetIn(f"the provider's token is no good ({type(error).__name__}): {_REMEDY}") from None
        if read.claims.get("azp", self._settings.client_id) != self._settings.client_id:
            raise NotLetIn("the provider's token is for another client")
        return dict(read.claims)

    def _keys(self, *, anew: bool = False) -> KeySet:
        return KeySet.import_key_set(self._document(self._endpoint("jwks_uri"), anew=anew))  # type: ignore[arg-type]

    def _told(self, access_token: str) -> dict[str, Any]:
        at = self._endpoint("userinfo_endpoint")
        return self._ask("GET", at, headers={"authorization": f"Bearer {access_token}"})

    def _endpoint(self, name: str) -> str:
        address = str(self._description().get(name, ""))
        parts = urlsplit(address)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise ProviderUnavailable(f"{self._settings.issuer} names no {name}, or one without https")
        return address

    def _description(self) -> dict[str, Any]:
        issuer = self._settings.issuer
        told = self._document(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if told.get("issuer") != issuer:
            other = _word(told.get("issuer"))
            raise ProviderUnavailable(f"web.oidc.issuer {issuer}: it calls itself {other}")
        return told

    def _document(self, address: str, *, anew: bool = False) -> dict[str, Any]:
        with self._asking:
            at, known = self._known.get(address, (0.0, None))
            if known is not None and not anew and time.monotonic() - at < _KNOWN_S:
                return known
            if time.monotonic() - self._failed_at < _AGAIN_S:  # let nobody wait in a row for nothing
                raise ProviderUnavailable(f"{address} does not answer; try again")
            try:
                known = self._ask("GET", address)
            except ProviderUnavailable:
                self._failed_at = time.monotonic()
                raise
            self._known[address] = time.monotonic(), known
            return known

    def _ask(self, method: str, address: str, **how: Any) -> dict[str, Any]:  # noqa: ANN401 - of httpx
        try:
            with httpx.Client(verify=self._verify, timeout=_TIMEOUT_S) as client:
                answer = client.request(method, address, **how)
        except httpx.HTTPError as error:
            raise ProviderUnavailable(f"{address} does not answer ({type(error).__name__})") from None
        if 400 <= answer.status_code < 500 and method == "POST":
            raise NotLetIn(f"the provider gives no token ({_error_of(answer)}): {_REMEDY}")
        try:
            told = answer.raise_for_status().json()
        except (httpx.HTTPStatusError, ValueError):
            told = None
        if not isinstance(told, dict):
            raise ProviderUnavailable(
                f"{address} answers with status {answer.status_code} without a JSON object"
            )
        return told

    def _secret(self) -> str | None:
        return self._settings.client_secret.read() if self._settings.client_secret else None


def prove(settings: Settings) -> None:
    """Prove the files and secrets that ``[web.oidc]`` names; ConfigurationError where one cannot be used."""
    if settings.web.enabled and settings.web.oidc:
        Provider(settings.web.oidc)


def _context(settings: OIDC) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        said = "no certificates in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"web.oidc.ca_file {settings.ca_file}: {said}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _names(claims: Mapping[str, Any], path: str) -> tuple[str, ...] | None:
    """The names in a claim; None where there is no such claim."""
    found: Any = claims
    # A claim's own name may have dots, as those that are addresses do
    for part in [path] if path in claims else path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    if isinstance(found, str):
        return (found,)
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _error_of(answer: httpx.Response) -> str:
    try:
        return _word(answer.json().get("error"))
    except (ValueError, AttributeError):
        return f"status {answer.status_code}"


def _word(given: object) -> str:
    """A foreign word, short and harmless."""
    return "".join(c for c in str(given) if c.isprintable())[:100]
