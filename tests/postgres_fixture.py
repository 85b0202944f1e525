"""A real PostgreSQL, on a private directory and a free port, for this test run only.

`postgres` is quick: its server does not sync to the disk, which a killed server
process does not need. `durable_postgres` syncs, and may be stopped and started.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from otpseal.adapters.sql_engine import open_engine
from otpseal.adapters.sql_store import SqlStore

USER = "otpseal"
PASSWORD = "test-password-of-otpseal"

#: Not "C": what sorts by the database's own idea of an alphabet is to be noticed.
_INITDB = (
    *("--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"),
    *("--locale-provider=icu", "--icu-locale=en-US"),
    *("--auth-local=trust", "--auth-host=scram-sha-256"),
)
_SETTINGS = (
    "listen_addresses = '127.0.0.1'",
    "max_connections = 200",
    "shared_buffers = '64MB'",
    "log_min_messages = warning",
)
_QUICK = ("fsync = off", "full_page_writes = off")
_TEMPLATE = "otpseal_template"


def binaries() -> Path | None:
    """Return the directory of the newest installed server's programs, or None."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    numbered = [path.parent for path in found if path.parts[-3].isdigit()]
    numbered.sort(key=lambda path: int(path.parts[-2]))
    if numbered:
        return numbered[-1]
    elsewhere = shutil.which("initdb")
    return None if elsewhere is None else Path(elsewhere).resolve().parent


def why_not() -> str | None:
    """Return why no server can be run here, or None."""
    if binaries() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if os.geteuid() == 0 and _unprivileged() is None:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return None


def _unprivileged() -> "pwd.struct_passwd | None":
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


@dataclass(frozen=True)
class Database:
    """One database of a cluster.

    Attributes:
        cluster: the server that it is on.
        name: the database's.
    """

    cluster: "Cluster"
    name: str

    def url(self, *, password: str | None = PASSWORD, scheme: str = "") -> str:
        """Return its URL, as in OTPSEAL_DATABASE_URL."""
        secret = "" if password is None else f":{password}"
        host = f"127.0.0.1:{self.cluster.port}"
        return f"{scheme or 'postgresql+psycopg'}://{USER}{secret}@{host}/{self.name}"

    def open_store(self, **options: bool | float) -> SqlStore:
        """Open a store on it."""
        return SqlStore(open_engine(self.url()), **options)  # type: ignore[arg-type]

    def ask(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run a statement as the superuser, beside all stores."""
        return self.cluster.ask(statement, *values, database=self.name)


class Cluster:
    """A PostgreSQL server of our own.

    Args:
        directory: empty, and open to the user who runs the server.
        durable: whether it syncs to the disk.
    """

    def __init__(self, directory: Path, *, durable: bool) -> None:
        self._directory = directory
        self._data = directory / "data"
        self._programs = binaries()
        self.port = _free_port()
        self._run("initdb", "-D", self._data, *_INITDB)
        lines = [*_SETTINGS, *(() if durable else _QUICK)]
        lines += [f"port = {self.port}", f"unix_socket_directories = '{directory}'"]
        with (self._data / "postgresql.conf").open("a") as file:
            file.write("\n".join([*lines, ""]))

    def start(self) -> None:
        """Start the server; returns when it answers."""
        log = self._directory / "log"
        self._run("pg_ctl", "-D", self._data, "-l", log, "-w", "-t", 60, "start")

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server; immediately is as good as a crash of all its processes."""
        mode = "immediate" if immediate else "fast"
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "-t", 60, "stop")

    def prepare(self) -> None:
        """Make the user, and the template with the schema in it."""
        self.ask(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        self.ask(f"CREATE DATABASE {_TEMPLATE} OWNER {USER} TEMPLATE template0")
        Database(self, _TEMPLATE).open_store().close()

    @contextlib.contextmanager
    def database(self, *, empty: bool = False) -> Iterator[Database]:
        """Make a database for one test; it is removed at the end."""
        name = f"test_{secrets.token_hex(6)}"
        template = "template0" if empty else _TEMPLATE
        self.ask(f"CREATE DATABASE {name} OWNER {USER} TEMPLATE {template}")
        try:
            yield Database(self, name)
        finally:
            self.ask(f"DROP DATABASE {name} WITH (FORCE)")

    def ask(
        self, statement: str, *values: object, database: str = "postgres"
    ) -> list[tuple[object, ...]]:
        """Run a statement as the superuser."""
        with psycopg.connect(
            host=str(self._directory),
            port=self.port,
            user="postgres",
            dbname=database,
            autocommit=True,
        ) as connection:
            # Statements of the tests' own: psycopg wants a literal.
            done = connection.execute(statement.encode(), values or None)
            return done.fetchall() if done.description else []

    def _run(self, program: str, *arguments: object) -> None:
        assert self._programs is not None
        said = self._directory / "said"
        with said.open("ab") as file:  # no pipe: the server would keep it open
            done = subprocess.run(
                [self._programs / program, *map(str, arguments)],
                cwd=self._directory,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=90,
                check=False,
                **_as_unprivileged(),
            )
        assert done.returncode == 0, said.read_text()


def _as_unprivileged() -> dict[str, Any]:
    user = _unprivileged()
    if os.geteuid() != 0 or user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running_cluster(*, durable: bool) -> Iterator[Cluster]:
    """Run a server of our own; stopped and removed at the end."""
    # Not pytest's directory: its path may be too long for a socket, and closed to
    # the unprivileged user.
    directory = Path(tempfile.mkdtemp(prefix="otpseal-pg-"))
    try:
        if user := _as_unprivileged():
            os.chown(directory, user["user"], user["group"])
        cluster = Cluster(directory, durable=durable)
        cluster.start()
        try:
            cluster.prepare()
            yield cluster
        finally:
            with contextlib.suppress(AssertionError):  # a test left it stopped
                cluster.stop(immediate=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A quick server for the whole run, where PostgreSQL is installed."""
    if reason := why_not():
        pytest.skip(reason)
    with running_cluster(durable=False) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def durable_postgres() -> Iterator[Cluster]:
    """A server that syncs, for tests that stop it; they start it again."""
    if reason := why_not():
        pytest.skip(reason)
    with running_cluster(durable=True) as cluster:
        yield cluster


@pytest.fixture
def database(postgres: Cluster) -> Iterator[Database]:
    """A fresh database with the schema."""
    with postgres.database() as made:
        yield made
