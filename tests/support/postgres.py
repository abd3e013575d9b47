"""A real PostgreSQL of the test's own: in a folder, on a free port, with one database and a password."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.support.running import free_port

USER, NAME, PASSWORD = "node", "imaging", "s3cret-of-the-database"
_UNPRIVILEGED = "nobody"  # PostgreSQL does not run as root
# Quick to make and without the machine's limits; durability is PostgreSQL's own matter
_OPTIONS = "-c max_connections=150 -c shared_buffers=32MB -c fsync=off -c unix_socket_directories=''"


class Postgres:
    """A server that can be stopped and started again.

    Parameters
    ----------
    folder : to be owned by an account that PostgreSQL accepts; emptied by nobody
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self._data, self._programs = folder / "data", programs
        self.log, self.port = folder / "log", free_port()
        secret = folder / "password"
        secret.write_text(PASSWORD)
        for path in (folder, secret):
            if os.geteuid() == 0:
                shutil.chown(path, _UNPRIVILEGED)
        self._run(
            "initdb", "-U", USER, f"--pwfile={secret}", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync"
        )
        self.start()
        self.make_database(NAME)

    @property
    def url(self) -> str:
        """As it stands in a configuration."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{NAME}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._run("pg_ctl", "start", "-w", "-t", "120", "-l", self.log, "-o", f"-p {self.port} {_OPTIONS}")

    def stop(self) -> None:
        """Stop and cut every session."""
        self._run("pg_ctl", "stop", "-w", "-t", "120", "-m", "immediate")

    def make_database(self, name: str) -> None:
        self.say(f'CREATE DATABASE "{name}"', database="postgres")

    def say(self, statement: str, database: str = NAME) -> str:
        """Run a statement; what it gives, a row a line."""
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database]
        command = [str(self._programs / "psql"), *address, "-At", "-c", statement]
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        told = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert told.returncode == 0, told.stderr
        return told.stdout.strip()

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [str(self._programs / program), "-D", str(self._data), *map(str, arguments)]
        as_user = {"user": _UNPRIVILEGED, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        where = self._data.parent
        with (where.parent / f"{where.name}.out").open("w+") as told:  # not a pipe: the server keeps it open
            done = subprocess.run(command, stdout=told, stderr=told, cwd=where, check=False, **as_user)
            told.seek(0)
            assert done.returncode == 0, f"{program}: {told.read()}"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a server; without PostgreSQL the test is skipped by name, but in CI it fails."""
    programs = _programs()
    # Not below pytest's folder, which only its owner may enter
    folder = Path(mkdtemp(prefix="postgres-"))
    try:
        server = Postgres(folder, programs)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
        folder.with_name(f"{folder.name}.out").unlink(missing_ok=True)


def _programs() -> Path:
    """Folder of PostgreSQL's programs, the newest version; Debian has them beside the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    if os.environ.get("CI"):
        pytest.fail("postgresql is not installed; tests/install_peers.sh should have done it")
    pytest.skip("postgresql is not installed")
