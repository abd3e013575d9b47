"""A node of its own process that demands a login, over TLS, in a real browser; and its audit trail.

Covered: it does not start where nobody could log in; logging in by password, by keyboard alone, and by an
identity provider; what each role sees; logging out, and that nothing is shown afterwards; a link from another
site; a session that an administrator ends while its page is open; the configuration read again on the page,
taken and refused; each login, failure and logout in the audit trail. Not covered: the rules (test_access),
other browsers.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from dicom_node.cli import app
from tests.support.certificates import Authority
from tests.support.identity_provider import IdentityProvider, identity_provider
from tests.support.running import free_port, node_process, wait_for, write_configuration
from tests.web.gated import PASSWORD
from tests.web.page_checks import LOW_CONTRASTS, NAMELESS

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
from playwright.sync_api import Browser, Page, expect

from tests.viewer.browser import chromium

pytestmark = [pytest.mark.ui, pytest.mark.slow]
SIZE = {"width": 1400, "height": 1000}
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass(frozen=True)
class Locked:
    """A running node that demands a login."""

    url: str
    configuration: Path
    audit: Path
    provider: IdentityProvider

    def authentications(self) -> list[tuple[str, str, str]]:
        """What the audit trail has of logins: kind, who, outcome."""
        found = []
        for line in self.audit.read_text().splitlines():
            message = ET.fromstring(line)  # noqa: S314 - our own
            event = message.find("EventIdentification")
            who = message.find("ActiveParticipant")
            assert event is not None
            assert who is not None
            if event.find("EventID[@csd-code='110114']") is None:
                continue
            kind = event.find("EventTypeCode")
            assert kind is not None
            found.append(
                (kind.get("originalText", ""), who.get("UserID", ""), event.get("EventOutcomeIndicator", ""))
            )
        return found


def command(*arguments: str, configuration: Path, text: str = "") -> str:
    done = CliRunner().invoke(app, [*arguments, "--config", str(configuration)], input=text)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    folder = tmp_path_factory.mktemp("locked")
    (folder / "models").mkdir()
    port = free_port()
    pair = Authority(folder / "ca").sign("page")
    url = f"https://127.0.0.1:{port}"
    with identity_provider(folder / "provider", f"{url}/login/provider/answer") as provider:
        path = write_configuration(
            folder / "node.toml",
            port=free_port(),
            models=folder / "models",
            destinations={"archive": ("ARCHIVE", free_port())},
        )
        oidc = provider.settings()
        del oidc["client_secret"]
        lines = f'client_secret.file = "{provider.secret_file}"\n'
        lines += "".join(f"{key} = {json.dumps(value)}\n" for key, value in oidc.items())
        text = path.read_text().replace(
            "[web]\nenabled = false\n",
            f'[web]\nport = {port}\ncertificate_file = "{pair.certificate}"\nkey_file = "{pair.key}"\n'
            f"[web.login]\nalways = true\n[web.oidc]\n{lines}"
            f'[audit]\nfile = "{folder}/audit.xml"\n',
        )
        path.write_text(text)
        for role in ("viewer", "admin"):
            command("user", "add", role, "--role", role, configuration=path, text=f"{PASSWORD}\n")
        with node_process(path, port):
            yield Locked(url, path, folder / "audit.xml", provider)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def tab(browser: Browser, node: Locked) -> Iterator[Page]:
    context = browser.new_context(viewport=SIZE, ignore_https_errors=True, base_url=node.url)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    yield page
    context.close()


def log_in(page: Page, name: str, password: str = PASSWORD) -> None:
    page.goto("/series")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def heading(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", level=1, name=name, exact=True)).to_be_visible()


def check(page: Page) -> None:
    assert page.evaluate(LOW_CONTRASTS) == []
    assert page.evaluate(NAMELESS) == []


def test_somebody_logs_in_by_keyboard_looks_and_logs_out(tab: Page, node: Locked) -> None:
    tab.goto("/node")
    heading(tab, "Log in")
    check(tab)
    assert tab.locator("header nav a").count() == 0
    tab.get_by_label("Name").focus()
    tab.keyboard.type("viewer")
    tab.keyboard.press("Tab")
    tab.keyboard.type("a wrong password")
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    check(tab)
    tab.get_by_label("Name").fill("viewer")
    tab.get_by_label("Password").fill(PASSWORD)
    tab.keyboard.press("Enter")
    heading(tab, "Node")
    check(tab)
    shown = tab.locator("header nav").inner_text()
    assert "Series" in shown
    assert "Try it" not in shown
    assert "Access" not in shown
    assert tab.get_by_role("button", name=re.compile("Ask|Read the")).count() == 0
    assert "Configuration as read" not in tab.content()
    tab.locator(".user summary").focus()
    tab.keyboard.press("Enter")
    expect(tab.locator(".user form")).to_contain_text("Role: viewer")
    check(tab)
    tab.get_by_role("button", name="Log out").click()
    heading(tab, "Log in")
    tab.go_back()
    heading(tab, "Log in")
    wait_for(lambda: ("Logout", "viewer", "0") in node.authentications())
    told = [each for each in node.authentications() if each[1] == "viewer"]
    assert told == [("Login", "viewer", "4"), ("Login", "viewer", "0"), ("Logout", "viewer", "0")]


def test_somebody_logs_in_by_the_identity_provider(tab: Page, node: Locked) -> None:
    tab.goto("/series")
    tab.get_by_role("link", name="Log in with your hospital account").click()
    tab.wait_for_url(f"{node.provider.issuer}/**")
    tab.locator("input[name=login]").fill("radiology@anna")
    tab.locator("input[name=password]").fill("any")
    tab.get_by_role("button").click()
    tab.get_by_role("button", name="Continue").click()
    heading(tab, "Series")
    expect(tab.locator(".user summary")).to_have_text("anna")
    assert "Try it" in tab.locator("header nav").inner_text()
    wait_for(lambda: ("Login", "anna", "0") in node.authentications())


def test_a_link_from_another_site_finds_somebody_logged_in(tab: Page, node: Locked) -> None:
    log_in(tab, "viewer")
    heading(tab, "Series")
    tab.goto(f"{node.provider.issuer}/.well-known/openid-configuration")
    tab.evaluate(f"location.href = '{node.url}/node?from=elsewhere'")
    heading(tab, "Node")
    assert tab.url == f"{node.url}/node?from=elsewhere"


def test_a_session_that_is_ended_closes_its_open_page(tab: Page, browser: Browser, node: Locked) -> None:
    log_in(tab, "admin")
    other = browser.new_context(ignore_https_errors=True, base_url=node.url)
    try:
        theirs = other.new_page()
        log_in(theirs, "viewer")
        heading(theirs, "Series")
        tab.goto("/access")
        heading(tab, "Access")
        check(tab)
        ending = tab.get_by_role("button", name="End the session of viewer")
        while ending.count():
            ending.first.click()
            heading(tab, "Access")
        heading(theirs, "Log in")
    finally:
        other.close()


def test_the_configuration_is_read_again_on_the_page(tab: Page, node: Locked) -> None:
    log_in(tab, "admin")
    heading(tab, "Series")
    tab.goto("/node")
    reloading = tab.get_by_role("button", name="Read the configuration again")
    said = tab.locator("#reloaded")
    reloading.click()
    expect(said).to_contain_text("Nothing to take")
    before = node.configuration.read_text()
    try:
        changed = before.replace('name = "archive"\n', 'name = "archive"\nretry_attempts = 3\n')
        node.configuration.write_text(f'{changed}\n[log]\nlevel = "warning"\n[site]\nuid_salt = "other"\n')
        reloading.click()
        expect(said.get_by_role("row", name=re.compile(r"retry_attempts.*3"))).to_be_visible()
        expect(said.get_by_role("row", name=re.compile(r"log\.level"))).to_contain_text("infowarning")
        expect(said).to_contain_text("in use after a restart: site.uid_salt")
        check(tab)
        node.configuration.write_text(before.replace("ae_title", "ae_titel"))
        reloading.click()
        expect(said).to_contain_text("Nothing was changed.")
        expect(said).to_contain_text("ae_titel")
        check(tab)
    finally:
        node.configuration.write_text(before)
    reloading.click()
    expect(said).to_contain_text("In use from now on")


def test_a_node_that_nobody_could_log_in_to_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f'folder = "{tmp_path / "var"}"\n[web.login]\nalways = true\n')
    serve = [sys.executable, "-m", "dicom_node", "serve", "--config", path]
    done = subprocess.run(serve, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2, done.stderr
    assert "dicom-node user add NAME --role admin" in done.stderr
    assert "Traceback" not in done.stderr
