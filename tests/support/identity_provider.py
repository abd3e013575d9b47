"""A real OpenID Connect provider in a process: npm's oidc-provider, with its development login."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from tests.support.running import free_port, need, process

HERE = Path(__file__).parent
MADE = HERE.parents[1] / ".cache" / "oidc"
CLIENT, SECRET = "dicom-node", "a secret of the client + 100%"


@dataclass(frozen=True)
class IdentityProvider:
    """Whoever logs in is ``GROUP@NAME``, with any password."""

    issuer: str
    secret_file: Path

    def settings(self, **others: object) -> dict[str, object]:
        """For ``[web.oidc]``, with a group for each role."""
        return {
            "issuer": self.issuer,
            "client_id": CLIENT,
            "client_secret": {"file": self.secret_file},
            "scopes": ["openid", "profile", "groups"],
            "viewer": ["readers"],
            "operator": ["radiology"],
            "admin": ["admins"],
            **others,
        }


@contextmanager
def identity_provider(folder: Path, back: str, *, in_token: bool = False) -> Iterator[IdentityProvider]:
    """Run one that sends browsers back to an address; groups are told on request, or in the token."""
    if not (MADE / "made").exists():
        if os.environ.get("CI"):
            pytest.fail("oidc-provider is not installed; tests/install_peers.sh should have done it")
        pytest.skip("oidc-provider is not installed")
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "secret"
    secret.write_text(SECRET)
    # Node.js looks for a package beside the script, which tests in another process may start just now
    script = MADE / "identity_provider.mjs"
    part = MADE / f"{os.getpid()}.part"
    part.write_text((HERE / script.name).read_text())
    part.replace(script)
    groups = "token" if in_token else "request"
    with process(
        need("node"), script, str(port), CLIENT, SECRET, groups, back, log=folder / "provider.log", port=port
    ):
        yield IdentityProvider(f"http://localhost:{port}", secret)


def go_through(client: httpx.Client, answer: httpx.Response, name: str) -> httpx.Response:
    """Log in at the provider and consent as a browser would, up to the way back."""
    for _ in range(12):
        if answer.is_redirect:
            address = urljoin(str(answer.url), answer.headers["location"])
            if "/login/provider/answer" in address:
                return answer
            answer = client.get(address)
            continue
        assert answer.status_code == 200, answer.text
        form = re.search(r'<form[^>]+action="([^"]+)"', answer.text)
        prompt = re.search(r'name="prompt" value="([^"]+)"', answer.text)
        assert form, answer.text
        assert prompt, answer.text
        filled = {"prompt": prompt[1], "login": name, "password": "any"}
        answer = client.post(urljoin(str(answer.url), form[1]), data=filled)
    raise AssertionError("the provider does not come to an end")
