"""What check-config says of TLS files: until when they are valid, who can read the key, what is wrong.

Not covered: connections (tests/receive/test_tls.py, tests/deliver/test_cstore_tls.py).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli import app
from tests.support.certificates import Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


def check(tmp_path: Path, ca: Path, own: Pair, more: str = "") -> tuple[int, str]:
    path = tmp_path / "node.toml"
    path.write_text(
        f'[receive.tls]\ncertificate_file = "{own.certificate}"\nkey_file = "{own.key}"\n'
        f'ca_file = "{ca}"\n{more}'
        f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "10.0.0.1"\nport = 2762\n'
        f'tls = {{ ca_file = "{ca}" }}\n'
    )
    done = CliRunner().invoke(app, ["check-config", str(path)])
    return done.exit_code, done.output


def test_each_file_is_said_to_be_valid_until_its_day(authority: Authority, tmp_path: Path) -> None:
    own = authority.sign("node")
    code, said = check(tmp_path, authority.path, own)
    assert code == 0
    assert "TLS on port 2762, certificates of senders: required" in said
    assert re.search(rf"^certificate {own.certificate} is valid until \d{{4}}-\d\d-\d\d$", said, re.MULTILINE)
    assert said.count(f"CA {authority.path} is valid until") == 1
    assert "PACS@10.0.0.1:2762 over TLS" in said
    assert "WARNING" not in said


@pytest.mark.parametrize(("days", "words"), [(-0.5, "expired on"), (12.5, "in 12 days: renew it")])
def test_what_has_expired_or_soon_will_is_warned_of(
    authority: Authority, tmp_path: Path, days: float, words: str
) -> None:
    own = authority.sign("node", days=days)
    code, said = check(tmp_path, authority.path, own)
    assert code == 0
    assert re.search(rf"WARNING: certificate {own.certificate} .*{words}", said)


def test_a_key_that_everybody_can_read_is_warned_of(authority: Authority, tmp_path: Path) -> None:
    own = authority.sign("node")
    own.key.chmod(0o644)
    _, said = check(tmp_path, authority.path, own)
    assert f"WARNING: key {own.key} can be read by every user: chmod o= {own.key}" in said
    own.key.chmod(0o640)
    assert "WARNING" not in check(tmp_path, authority.path, own)[1]


def test_what_cannot_be_used_is_refused_and_named(authority: Authority, tmp_path: Path) -> None:
    own, other = authority.sign("node"), authority.sign("other")
    code, said = check(tmp_path, authority.path, Pair(own.certificate, other.key))
    assert code == 2
    assert f"{other.key} is not the key of {own.certificate}" in said
    code, said = check(tmp_path, tmp_path / "gone.pem", own)
    assert code == 2
    assert "gone.pem: No such file or directory" in said


def test_settings_that_do_not_fit_together_are_refused(authority: Authority, tmp_path: Path) -> None:
    own = authority.sign("node")
    code, said = check(tmp_path, authority.path, own, 'clients = "none"\n')
    assert code == 2
    assert "receive.tls: ca_file says whose senders may come" in said
