"""Login by an OpenID Connect provider: npm's oidc-provider, a certified one, as a real peer.

Covered: the way there and back with PKCE, state and nonce; roles by groups, from the token and from the
user's description; who gets no role; answers that are forged, repeated, too late or of another login; a
provider that is down, calls itself something else or does not take our secret; tokens signed by the wrong
key. Not covered: Keycloak and Entra themselves (docs/access.md says how to set them up), the way in a browser
(test_login_in_browser), logging out at the provider, which is not done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from dicom_node.errors import ConfigurationError
from dicom_node.events import UserAuthenticated
from dicom_node.settings import OIDC
from dicom_node.web.access.provider import Errand, NotLetIn, Provider, ProviderUnavailable
from tests.support.certificates import Authority
from tests.support.identity_provider import IdentityProvider, go_through, identity_provider
from tests.support.running import free_port
from tests.web.gated import PAGE, Gated, serve_gated

pytestmark = pytest.mark.peer
ERRAND = "__Host-dicom-node-errand"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def back() -> str:
    return f"https://127.0.0.1:{free_port()}/login/provider/answer"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory, back: str) -> Iterator[IdentityProvider]:
    with identity_provider(tmp_path_factory.mktemp("provider"), back) as running:
        yield running


@pytest.fixture(scope="module")
def gated(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, provider: IdentityProvider, back: str
) -> Iterator[Gated]:
    folder = tmp_path_factory.mktemp("gated")
    with serve_gated(folder, authority, port=urlsplit(back).port, oidc=provider.settings()) as running:
        yield running


def sent_back(client: httpx.Client, name: str, to: str = "/node") -> str:
    """The address that the provider sends a browser to once somebody has logged in there."""
    start = client.get("/login/provider", params={"to": to})
    assert start.status_code == 303, start.text
    return str(go_through(client, start, name).headers["location"])


@pytest.mark.parametrize(
    ("group", "role"), [("readers", "viewer"), ("radiology", "operator"), ("admins", "admin")]
)
def test_somebody_logs_in_by_the_provider_with_the_role_of_their_group(
    group: str, role: str, gated: Gated
) -> None:
    gated.told.clear()
    with gated.client(headers=PAGE) as client:
        assert 'href="/login/provider?to=/node"' in client.get("/login?to=/node").text
        answer = client.get(sent_back(client, f"{group}@dr.anna"))
        assert answer.status_code == 200, answer.text
        assert 'content="0;url=/node"' in answer.text
        assert "SameSite=strict" in answer.headers["set-cookie"]
        assert ERRAND not in client.cookies
        page = client.get("/node").text
        assert "dr.anna" in page
        assert f"Role: {role}" in page
    assert gated.told == [UserAuthenticated("dr.anna", "127.0.0.1", succeeded=True)]


def test_what_is_sent_to_the_provider(gated: Gated, back: str) -> None:
    with gated.client(headers=PAGE) as client:
        there = client.get("/login/provider?to=//evil.example")
        cookie = there.headers["set-cookie"]
        asked = {
            name: value for name, (value,) in parse_qs(urlsplit(there.headers["location"]).query).items()
        }
        errand = Errand.of_cookie(client.cookies[ERRAND])
    assert {"HttpOnly", "Max-Age=600", "SameSite=lax", "Secure"} <= set(cookie.split("; "))
    assert errand
    assert errand.to == "/series"
    assert errand.verifier not in there.headers["location"]
    assert (asked["state"], asked["nonce"]) == (errand.state, errand.nonce)
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == back


def test_who_is_in_no_group_is_told_so_and_not_let_in(gated: Gated) -> None:
    gated.told.clear()
    with gated.client(headers=PAGE) as client:
        answer = client.get(sent_back(client, "cleaning@somebody"))
        assert answer.status_code == 403
        assert "somebody has no role here" in answer.text
        assert client.get("/node").status_code == 303
    assert [event.succeeded for event in gated.told] == [False]  # type: ignore[union-attr]


def test_an_answer_of_another_login_is_refused(gated: Gated) -> None:
    with gated.client(headers=PAGE) as thief, gated.client(headers=PAGE) as victim:
        address = sent_back(thief, "radiology@thief")
        assert victim.get(address).status_code == 400, "without an errand"
        victim.get("/login/provider")
        assert "another login" in victim.get(address).text
        assert "dicom-node" not in str(victim.cookies)


def test_an_answer_counts_once(gated: Gated) -> None:
    with gated.client(headers=PAGE) as client:
        address = sent_back(client, "readers@anna")
        errand = client.cookies[ERRAND]
        assert client.get(address).status_code == 200
        with gated.client(headers=PAGE, cookies={ERRAND: errand}) as again:
            answer = again.get(address)
        assert answer.status_code == 403
        assert "invalid_grant" in answer.text


@pytest.mark.parametrize("changed", ["nonce", "verifier"])
def test_an_answer_must_fit_what_was_sent(changed: str, gated: Gated) -> None:
    with gated.client(headers=PAGE) as client:
        address = sent_back(client, "readers@anna")
        errand = Errand.of_cookie(client.cookies[ERRAND])
        assert errand
        parts = {name: getattr(errand, name) for name in ("state", "nonce", "verifier", "to")}
        forged = Errand(**{**parts, changed: "x" * 43})
    with gated.client(headers=PAGE, cookies={ERRAND: forged.to_cookie()}) as client:
        answer = client.get(address)
    assert answer.status_code == 403
    assert ("InvalidClaimError" if changed == "nonce" else "invalid_grant") in answer.text


@pytest.mark.parametrize("cookie", ["", "x", "e30=", "bnVsbA==", Errand("a", "", "c", "/").to_cookie()])
def test_an_errand_that_is_none_is_no_fault_of_ours(cookie: str, gated: Gated) -> None:
    with gated.client(headers=PAGE, cookies={ERRAND: cookie}) as client:
        assert client.get("/login/provider/answer?code=x&state=a").status_code == 400


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({"error": "access_denied"}, "refused (access_denied)"),
        ({"code": "x", "iss": "https://evil.example"}, "another provider answers"),
        ({"code": "x"}, "invalid_grant"),
    ],
)
def test_what_the_provider_refuses_is_said(query: dict[str, str], why: str, gated: Gated) -> None:
    errand = Errand.new("/node")
    with gated.client(headers=PAGE, cookies={ERRAND: errand.to_cookie()}) as client:
        answer = client.get("/login/provider/answer", params={"state": errand.state, **query})
    assert answer.status_code == 403
    assert why in answer.text


def test_groups_in_the_token_itself_will_do(tmp_path: Path, authority: Authority) -> None:
    port = free_port()
    with (
        identity_provider(
            tmp_path / "p", f"https://127.0.0.1:{port}/login/provider/answer", in_token=True
        ) as provider,
        serve_gated(tmp_path / "n", authority, port=port, oidc=provider.settings()) as gated,
        gated.client(headers=PAGE) as client,
    ):
        assert client.get(sent_back(client, "radiology@anna")).status_code == 200
        assert "Role: operator" in client.get("/node").text


def test_a_secret_that_the_provider_does_not_take_is_said(provider: IdentityProvider, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong")
    asked = Provider(OIDC(**provider.settings(client_secret={"file": tmp_path / "wrong"})))  # type: ignore[arg-type]
    errand = Errand.new("/")
    with pytest.raises(NotLetIn, match="invalid_client"):
        asked.let_in(errand, {"state": errand.state, "code": "x"}, "https://node.example/")


def test_a_provider_that_is_down_is_named_and_the_page_lives_on(tmp_path: Path, authority: Authority) -> None:
    oidc = {"issuer": f"http://localhost:{free_port()}", "client_id": "x", "admin": ["a"]}
    with serve_gated(tmp_path, authority, oidc=oidc) as gated:
        with gated.client(headers=PAGE) as client:
            assert client.get("/login/provider").status_code == 503
            answer = client.get("/login/provider")
            assert (answer.status_code, "does not answer" in answer.text) == (503, True)
        with gated.logged_in("viewer") as client:
            assert client.get("/series").status_code == 200, "by password"


def test_a_provider_that_calls_itself_something_else_is_not_believed(provider: IdentityProvider) -> None:
    other = provider.settings(issuer=provider.issuer.replace("localhost", "127.0.0.1"))
    with pytest.raises(ProviderUnavailable, match="calls itself http://localhost"):
        Provider(OIDC(**other)).address(Errand.new("/"), "https://node.example/")  # type: ignore[arg-type]


def test_a_secret_or_file_that_is_missing_is_named_at_start(
    provider: IdentityProvider, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="the secret in"):
        Provider(OIDC(**provider.settings(client_secret={"file": tmp_path / "none"})))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"web\.oidc\.ca_file"):
        Provider(OIDC(**provider.settings(ca_file=tmp_path / "none")))  # type: ignore[arg-type]


ISSUER = "https://sso.example"
KEY, OTHER = RSAKey.generate_key(2048, {"kid": "1"}), RSAKey.generate_key(2048, {"kid": "1"})
GOOD = {"iss": ISSUER, "aud": "node", "sub": "1", "nonce": "n"}


def claims_of(token: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    asked = Provider(OIDC(issuer=ISSUER, client_id="node", admin=("a",)))
    public = KeySet.import_key_set({"keys": [KEY.as_dict(private=False)]})
    monkeypatch.setattr(asked, "_keys", lambda **_: public)
    return asked._claims(token, "n")


def signed(key: object = KEY, algorithm: str = "RS256", **changed: object) -> str:
    now = int(time.time())
    claims = {**GOOD, "iat": now, "exp": now + 60, **changed}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode({"alg": algorithm, "kid": "1"}, claims, key, algorithms=[algorithm])  # type: ignore[arg-type]


def test_a_good_token_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert claims_of(signed(), monkeypatch)["sub"] == "1"
    assert claims_of(signed(aud=["node", "other"], azp="node"), monkeypatch)["sub"] == "1"


@pytest.mark.parametrize(
    "made",
    [
        lambda: "",
        lambda: "a.b.c",
        lambda: signed(OTHER),
        lambda: signed(OctKey.import_key("a secret that the client knows, too"), "HS256"),
        lambda: signed(aud="other"),
        lambda: signed(aud=["node", "other"], azp="other"),
        lambda: signed(iss="https://evil.example"),
        lambda: signed(nonce="other"),
        lambda: signed(nonce=None),
        lambda: signed(exp=int(time.time()) - 3600),
        lambda: signed(exp=None),
        lambda: signed(sub=None),
        lambda: signed(iat=int(time.time()) + 3600),
        lambda: "eyJhbGciOiJub25lIn0." + signed().split(".")[1] + ".",
    ],
)
def test_a_token_that_is_not_for_us_or_not_the_providers_is_refused(
    made: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = made()  # now: it is good for a minute
    with pytest.raises(NotLetIn):
        claims_of(token, monkeypatch)
