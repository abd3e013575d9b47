"""Login, sessions, roles, tokens and what other sites may not, over HTTP and real TLS.

Covered: each route has a role, and each role gets what is declared; what is shown to nobody; cookies; how
sessions begin, idle, end and outlive a restart; forms of another session or site; passwords that are wrong,
of nobody, tried too often; tokens; security headers; names that the page does not answer to. Not covered:
the reverse proxy and renewed certificates (test_access_serving), a real node with its browser
(test_login_in_browser), an identity provider (test_login_by_provider).
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from fastapi.routing import iter_route_contexts
from pydantic import ValidationError

from dicom_node.errors import ConfigurationError
from dicom_node.events import UserAuthenticated, UserLeft
from dicom_node.settings import Settings, Web
from dicom_node.web.access import gate
from dicom_node.web.access.attempts import BY_ADDRESS, Attempts
from dicom_node.web.access.desk import Desk
from dicom_node.web.access.gate import OPEN
from dicom_node.web.access.needs import needed_by
from dicom_node.web.access.passwords import hash_of, matches
from dicom_node.web.access.roles import GIVEN, Role
from dicom_node.web.access.store import SESSIONS, TOKENS, USERS, now
from dicom_node.web.access.tokens import PREFIX, Tokens
from dicom_node.web.access.users import Users
from dicom_node.workflow.database import open_ledger
from tests.support.certificates import Authority
from tests.web.gated import PAGE, PASSWORD, Gated, csrf_of, log_in, serve_gated

OPERATORS = ("/try", "/node/echo", "/api/v1/detect", "/api/v1/segment")
ADMINS = ("/node/reload", "/access")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Gated]:
    with serve_gated(
        tmp_path_factory.mktemp("gated"), authority, hostnames=["node.example"], login={"always": True}
    ) as running:
        yield running


def routes(gated: Gated) -> list[tuple[str, str, object]]:
    found = []
    for route in iter_route_contexts(gated.app.routes):
        for method in sorted((route.methods or set()) - {"HEAD"}):
            path = (route.path or "").replace("{layer}", "mask").replace("{kind}", "seg")
            for name in ("number", "index", "id_", "order", "name", "digest"):
                path = path.replace("{" + name + "}", "1")
            found.append((method, path, route.endpoint))
    return found


def test_each_route_declares_who_may_use_it(gated: Gated) -> None:
    assert len(routes(gated)) > 30
    for method, path, endpoint in routes(gated):
        needed = needed_by(endpoint)
        assert needed is not None, path
        assert (needed is Role.ANYBODY) == (path in OPEN), path
        if path.startswith(ADMINS):
            assert needed is Role.ADMIN, path
        elif path.startswith(OPERATORS) or (method, path) == ("POST", "/series/1/1"):
            assert needed is Role.OPERATOR, path


@pytest.mark.parametrize("role", GIVEN)
def test_each_role_gets_what_is_declared_and_no_more(role: Role, gated: Gated) -> None:
    with gated.with_token(role) as client:
        for method, path, endpoint in routes(gated):
            if path in OPEN:
                continue
            needed = needed_by(endpoint)
            status = client.request(method, path).status_code
            assert needed
            if role.covers(needed):
                assert status not in (401, 403), (method, path)
            else:
                assert status == 403, (method, path)


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/v1/detect"), ("POST", "/try")])
def test_who_may_not_send_files_is_told_before_they_are_sent(method: str, path: str, gated: Gated) -> None:
    """The body is never sent: an answer that waits for it does not come."""
    head = [
        f"{method} {path} HTTP/1.1",
        "host: 127.0.0.1",
        f"authorization: Bearer {gated.tokens[Role.VIEWER]}",
        "content-type: multipart/form-data; boundary=b",
        "content-length: 1000000",
    ]
    where = httpx.URL(gated.url)
    assert isinstance(gated.trust, ssl.SSLContext)
    with (
        socket.create_connection((where.host, where.port), timeout=60) as plain,
        gated.trust.wrap_socket(plain, server_hostname=where.host) as connection,
    ):
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        answer = connection.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 403 "), answer


def test_without_a_login_nothing_is_shown(gated: Gated) -> None:
    with gated.client() as client:
        for method, path, _ in [*routes(gated), ("GET", "/nothing", None), ("PUT", "/series", None)]:
            if path in OPEN:
                continue
            assert client.request(method, path).status_code == 401, (method, path)
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 200
        assert client.get("/static/page.css").status_code == 200
        seen = client.get("/series?group=failed", headers=PAGE)
        assert (seen.status_code, seen.headers["location"]) == (303, "/login?to=%2Fseries%3Fgroup%3Dfailed")
        assert client.get("/api/v1/models").headers["www-authenticate"] == "Bearer"


def test_a_route_that_declares_nothing_is_nobodys(gated: Gated) -> None:
    gated.app.add_api_route("/forgotten", lambda: "secret")
    try:
        with gated.with_token(Role.ADMIN) as client:
            assert client.get("/forgotten").status_code == 403
    finally:
        gated.app.router.routes.pop()


def test_somebody_logs_in_looks_and_logs_out(gated: Gated) -> None:
    gated.told.clear()
    with gated.client(headers=PAGE) as client:
        answer = log_in(client, " Viewer ", to="/node")
        assert (answer.status_code, answer.headers["location"]) == (303, "/node")
        cookie = answer.headers["set-cookie"]
        name, *rest = cookie.split("; ")
        assert name.startswith("__Host-dicom-node=")
        assert {"HttpOnly", "Path=/", "SameSite=strict", "Secure"} == set(rest)
        assert client.get("/node").status_code == 200
        kept = dict(client.cookies)
        left = client.post("/logout", data={"csrf": csrf_of(client)})
        assert (left.status_code, left.headers["location"]) == (303, "/login")
        assert not client.cookies
    with gated.client(cookies=kept) as thief:
        assert thief.get("/series").status_code == 401
    assert gated.told == [
        UserAuthenticated("viewer", "127.0.0.1", succeeded=True),
        UserLeft("viewer", "127.0.0.1"),
    ]


def test_each_login_has_a_session_of_its_own(gated: Gated) -> None:
    planted = {"__Host-dicom-node": "planted-by-somebody-else"}
    given = set()
    for _ in range(2):
        with gated.client(headers=PAGE, cookies=planted) as client:
            given.add(log_in(client, "viewer").cookies["__Host-dicom-node"])
    assert len({*given, *planted.values()}) == 3


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "x"])
def test_nobody_is_sent_to_another_site(to: str, gated: Gated) -> None:
    with gated.client(headers=PAGE) as client:
        assert log_in(client, "viewer", to=to).headers["location"] == "/series"


def test_a_wrong_password_and_a_name_of_nobody_are_told_alike(gated: Gated) -> None:
    gated.told.clear()
    with gated.client(headers=PAGE) as client:
        answers = [log_in(client, name, "not the right one") for name in ("operator", "somebody")]
        assert not client.cookies
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].text == answers[1].text
    assert "The name or the password is wrong." in answers[0].text
    assert [(e.user, e.succeeded) for e in gated.told] == [("operator", False), ("somebody", False)]  # type: ignore[union-attr]


def test_a_name_of_nobody_takes_as_long() -> None:
    def cost_s(hashed: str | None) -> float:
        began = time.process_time()
        for _ in range(3):
            assert not matches("not the right one", hashed)
        return time.process_time() - began

    real = hash_of(PASSWORD)
    matches("", None)
    assert cost_s(None) > cost_s(real) / 3


def test_a_name_can_be_tried_ten_times(gated: Gated) -> None:
    with gated.client(headers=PAGE) as client:
        statuses = [log_in(client, "guessed", f"wrong password {k}").status_code for k in range(11)]
        assert statuses == [401] * 10 + [429]
        assert int(log_in(client, "guessed").headers["retry-after"]) > 600
        assert log_in(client, "viewer").status_code == 303, "another name is not held up"


def test_an_address_can_try_fifty_times_and_a_login_makes_its_name_free() -> None:
    attempts = Attempts()
    for number in range(BY_ADDRESS.amount):
        assert attempts.wait_s("2001:db8::1", f"name{number}") == 0
        attempts.failed("2001:db8::1")
    assert attempts.wait_s("2001:db8::ffff:1", "one more") > 0, "the same site, another host in it"
    assert attempts.wait_s("2001:db8:0:1::1", "one more") == 0
    for _ in range(30):
        assert attempts.wait_s("192.0.2.1", "somebody") == 0
        attempts.succeeded("somebody")


def _sessions(gated: Gated, **changed: object) -> None:
    with gated.store.writing() as connection:
        connection.execute(SESSIONS.update().values(**changed))


def test_a_session_idles_out_and_a_page_that_asks_by_itself_does_not_keep_it(gated: Gated) -> None:
    with gated.logged_in("viewer") as client:
        before = (now() - timedelta(minutes=29)).isoformat()
        _sessions(gated, seen_at=before)
        assert client.get("/node/load", headers={"x-by-itself": "1"}).status_code == 200
        assert _seen(gated) == {before}
        assert client.get("/series").status_code == 200
        assert _seen(gated) != {before}
        _sessions(gated, seen_at=(now() - timedelta(minutes=31)).isoformat())
        assert client.get("/series").headers["location"].startswith("/login")


def _seen(gated: Gated) -> set[str]:
    with gated.store.reading() as connection:
        return set(connection.scalars(sa.select(SESSIONS.c.seen_at)))


def test_a_session_ends_after_its_hours_however_busy(gated: Gated) -> None:
    with gated.logged_in("viewer") as client:
        _sessions(gated, began_at=(now() - timedelta(hours=13)).isoformat())
        assert client.get("/series").headers["location"].startswith("/login")


def test_what_is_changed_of_a_user_holds_at_once(gated: Gated) -> None:
    users = Users(gated.store)
    users.add("anna", Role.ADMIN, PASSWORD)
    with gated.logged_in("anna") as client:
        assert "Configuration as read" in client.get("/node").text
        users.set_role("anna", Role.VIEWER)
        assert "Configuration as read" not in client.get("/node").text
        users.set_password("anna", "another good password")
        assert client.get("/node").status_code == 303
    with gated.logged_in("anna", "another good password") as client:
        users.remove("anna")
        assert client.get("/node").status_code == 303
        users.add("anna", Role.ADMIN, PASSWORD)
        assert client.get("/node").status_code == 303, "a session does not come back with the name"
        users.remove("anna")


def test_a_session_outlives_a_restart(tmp_path: Path, authority: Authority) -> None:
    with (
        serve_gated(tmp_path, authority, login={"always": True}) as first,
        first.logged_in("admin") as client,
    ):
        cookies = dict(client.cookies)
    with (
        serve_gated(tmp_path, authority, login={"always": True}) as second,
        second.client(cookies=cookies) as client,
    ):
        assert client.get("/node").status_code == 200


def test_a_form_of_another_session_or_of_none_is_refused(gated: Gated) -> None:
    with gated.logged_in("operator") as mine, gated.logged_in("operator") as other:
        foreign = csrf_of(other)
        for form in ({}, {"csrf": ""}, {"csrf": foreign}, {"csrf": "é"}):
            assert mine.post("/series", data=form).status_code == 403
        assert mine.post("/series", headers={"x-csrf-token": foreign}).status_code == 403
        files = {"files": ("a.png", b"no picture")}
        assert mine.post("/try", files=files).status_code == 403
        assert mine.post("/api/v1/detect", files=files).status_code == 403
        token = csrf_of(mine)
        assert mine.post("/series", data={"csrf": token}).status_code == 200
        assert mine.post("/try", files=files, headers={"x-csrf-token": token}).status_code == 422


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_site_may_send_nothing_not_even_a_login(headers: dict[str, str], gated: Gated) -> None:
    with gated.client(headers=headers) as client:
        assert log_in(client, "viewer").status_code == 403
    with gated.logged_in("viewer") as client:
        token = csrf_of(client)
        assert client.post("/series", data={"csrf": token}, headers=headers).status_code == 403
        assert client.post("/series", data={"csrf": token}, headers={"origin": gated.url}).status_code == 200


def test_who_comes_from_another_site_is_let_go_on_before_they_must_log_in(gated: Gated) -> None:
    """A browser keeps a strict cookie back on the way in; a page of ours gets it."""
    with gated.client(headers=PAGE | {"sec-fetch-site": "cross-site"}) as client:
        answer = client.get('/series?group="failed"')
        assert answer.status_code == 200
        assert 'content="0;url=/series?group=' in answer.text
        assert "evil" not in client.get("//evil.example/").text


def test_a_login_must_be_a_small_form(gated: Gated) -> None:
    with gated.client() as client:
        assert client.post("/login", files={"name": b"x" * 100}).status_code == 403
        assert client.post("/login", data={"name": "x" * 70_000}).status_code == 413


def test_a_form_that_does_not_come_is_not_waited_for(gated: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_FORM_S", 0.5)
    host, port = gated.url.removeprefix("https://").split(":")
    assert isinstance(gated.trust, ssl.SSLContext)
    with (
        socket.create_connection((host, int(port)), timeout=60) as raw,
        gated.trust.wrap_socket(raw, server_hostname=host) as client,
    ):
        head = f"POST /login HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n"
        client.sendall(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\nname=".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_a_token_is_known_by_its_digest_alone_and_ends_at_once(gated: Gated) -> None:
    gated.told.clear()
    tokens = Tokens(gated.store)
    secret = tokens.create("pacs", Role.VIEWER, days=1)
    assert secret.startswith(PREFIX)
    with gated.store.reading() as connection:
        kept = connection.execute(sa.select(TOKENS).where(TOKENS.c.name == "pacs")).one()
    assert secret not in str(kept)
    with gated.client(headers={"authorization": f"Bearer {secret}"}) as client:
        assert [client.get("/api/v1/models").status_code for _ in range(3)] == [200] * 3
        assert gated.told == [UserAuthenticated("pacs", "127.0.0.1", succeeded=True)], "once in a while"
        with gated.store.writing() as connection:
            past = {"expires_at": (now() - timedelta(seconds=1)).isoformat()}
            connection.execute(TOKENS.update().where(TOKENS.c.name == "pacs").values(past))
        assert client.get("/api/v1/models").status_code == 401
        tokens.revoke("pacs")
        assert client.get("/api/v1/models").status_code == 401
    assert gated.told[-1] == UserAuthenticated("(a token that is not known)", "127.0.0.1", succeeded=False)


def test_a_password_is_kept_as_argon2id(gated: Gated) -> None:
    with gated.store.reading() as connection:
        kept = set(connection.scalars(sa.select(USERS.c.password)))
    assert len(kept) == len(GIVEN), "each with a salt of its own"
    assert all(each.startswith("$argon2id$") for each in kept)


def test_every_answer_has_the_security_headers(gated: Gated) -> None:
    with gated.client(headers=PAGE) as client, gated.logged_in("viewer") as known:
        answers = [
            client.get("/login"),
            client.get("/series"),
            client.get("/static/page.css"),
            client.get("/health"),
            client.get("/login", headers={"host": "evil.example"}),
            known.get("/series"),
            known.get("/nothing"),
            known.get("/try"),
        ]
    assert [each.status_code for each in answers] == [200, 303, 200, 200, 403, 200, 404, 403]
    for each in answers:
        assert "frame-ancestors 'none'" in each.headers["content-security-policy"]
        assert each.headers["cache-control"] == "no-store"
        assert each.headers["x-content-type-options"] == "nosniff"
        assert "strict-transport-security" not in each.headers, "it would bind other services of this host"


def test_https_is_insisted_on_where_the_page_has_the_usual_port(gated: Gated) -> None:
    with gated.client() as client:
        answer = client.get("/login", headers={"host": "localhost"})
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize(
    ("host", "status"),
    [("node.example", 200), ("NODE.example:8443", 200), ("192.0.2.7", 200), ("[2001:db8::1]:8443", 200)]
    + [(host, 403) for host in ("evil.example", "node.example.evil", "127.0.0.1.evil", "", "a:b", "[::1")],
)
def test_the_page_answers_to_its_names_and_to_addresses(host: str, status: int, gated: Gated) -> None:
    with gated.client() as client:
        assert client.get("/login", headers={"host": host}).status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "node.hospital.example", "127.0.0.1.example"])  # noqa: S104
def test_an_address_that_others_can_reach_needs_encryption(host: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"can be reached from other machines.*set certificate_file"):
        Web(host=host)
    assert not Web(host=host, enabled=False).enabled
    files = {"certificate_file": tmp_path / "a", "key_file": tmp_path / "b"}
    assert Web(host=host, **files).demands_login
    assert Web(host=host, behind_proxy=("10.0.0.5",), hostnames=("node.example",)).demands_login


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_no_login_unless_it_is_asked_for(host: str) -> None:
    assert not Web(host=host).demands_login
    assert Web(host=host, login={"always": True}).demands_login
    assert Web(host=host, behind_proxy=("127.0.0.1",), hostnames=("node.example",)).demands_login


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"behind_proxy": ["10.0.0.5"]}, "behind_proxy needs hostnames"),
        ({"behind_proxy": ["proxy"], "hostnames": ["a"]}, "an IP address or a network"),
        ({"hostnames": ["https://node"]}, "a host name such as"),
        ({"certificate_file": "a.pem"}, "go together"),
        ({"oidc": {"issuer": "http://sso.example", "client_id": "x", "admin": ["a"]}}, "https://HOST/PATH"),
        ({"oidc": {"issuer": "https://sso.example", "client_id": "x"}}, "nobody would get a role"),
    ],
)
def test_settings_that_would_not_do_are_refused(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Web(**wrong)  # type: ignore[arg-type]


def test_a_login_that_nobody_could_pass_is_refused_at_start(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path, web={"login": {"always": True}})
    book = open_ledger(settings)
    with pytest.raises(ConfigurationError, match="dicom-node user add NAME --role admin"):
        Desk.open(settings, book, lambda _: None)
    book.close()
    assert Desk.open(Settings(folder=tmp_path), book, lambda _: None) is None


def test_a_store_that_is_damaged_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "access.sqlite").write_bytes(b"no database" * 100)
    settings = Settings(folder=tmp_path, web={"login": {"always": True}})
    book = open_ledger(settings)
    with pytest.raises(ConfigurationError, match=r"access\.sqlite cannot .*add users and tokens again"):
        Desk.open(settings, book, lambda _: None)
    book.close()


def test_a_program_that_asks_for_ever_with_a_bad_token_is_held_up(tmp_path: Path) -> None:
    with serve_gated(tmp_path, login={"always": True}) as gated:
        bad = {"authorization": f"Bearer {PREFIX}x"}
        with gated.client(headers=bad) as client:
            statuses = [client.get("/api/v1/models").status_code for _ in range(BY_ADDRESS.amount + 5)]
        assert statuses == [401] * BY_ADDRESS.amount + [429] * 5
        assert len(gated.told) == BY_ADDRESS.amount
        assert (
            httpx.get(f"{gated.url}/api/v1/models", headers={"authorization": "Basic eDp5"}).status_code
            == 401
        )
