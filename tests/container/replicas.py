"""The stack of docker-compose.postgres.yml: its replicas, its database, its caller."""

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from container.harness import DOCKER, ROOT, Answer, Stack, call, docker, wait_for
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from otpseal.adapters.postgres import LOCK_KEY
from otpseal.totp import hotp, step_at

REPLICAS: Final = ("service-1", "service-2")
ALL: Final = (*REPLICAS, "nginx", "db")

_PSQL: Final = ("psql", "--username=otpseal", "--no-psqlrc", "-qAt")


@dataclass(frozen=True)
class Device:
    """What the owner of an account has."""

    account: str
    secret: str

    def code(self) -> str:
        """Return the current code."""
        return hotp(base64.b32decode(self.secret), step_at(time.time()))


@dataclass(frozen=True)
class Replicas(Stack):
    """Two replicas on one database, behind nginx."""

    def address(self, service: str) -> tuple[str, int]:
        """Return where this host reaches a replica, past nginx."""
        name = f"{self.project}_front"
        found = self.inspect(
            f'{{{{(index .NetworkSettings.Networks "{name}").IPAddress}}}}', service
        )
        return found, 8080

    def ask(
        self,
        token: str,
        path: str,
        body: dict[str, object] | None = None,
        *,
        service: str = "nginx",
    ) -> Answer:
        """Post a body, or get a path, through nginx or at one replica."""
        through = ("127.0.0.1", self.port)
        address = through if service == "nginx" else self.address(service)
        method = "GET" if body is None else "POST"
        return call(address, method, path, body=body, token=token)

    def submitted(
        self, token: str, account: str, code: str = "123456", *, service: str = "nginx"
    ) -> Answer:
        """Return the answer to a code, whatever it is."""
        body: dict[str, object] = {"account": account, "code": code}
        return self.ask(token, "/v1/verify", body, service=service)

    def submit(
        self, token: str, account: str, code: str, *, service: str = "nginx"
    ) -> dict[str, Any]:
        """Return the verdict about a code."""
        answer = self.submitted(token, account, code, service=service)
        assert answer.status == 200, answer
        return answer.json

    def new_token(self, *scopes: str, service: str = "service-1") -> tuple[str, str]:
        """Make a token at a replica; returns the caller's id and the token."""
        asked = [f"--scope={scope}" for scope in scopes]
        made = json.loads(
            self.otpseal("token", "create", "tests", *asked, "--json", service=service)
        )
        return made["caller"], made["token"]

    def enrol(self, token: str, account: str) -> Device:
        """Make an account through nginx and enable it, with nothing spent."""
        made = self.ask(token, "/v1/accounts", {"id": account})
        assert made.status == 201, made
        enabled = self.ask(token, f"/v1/accounts/{account}:enable", {})
        assert enabled.status == 200, enabled
        query = parse_qs(urlsplit(made.json["otpauth_uri"]).query)
        return Device(account, query["secret"][0])

    def import_seed(self) -> None:
        """Give the account `default` a seed, sealed as an authority would."""
        pem = self.sh("cat /keys/student_public.pem", service="service-1").encode()
        key = serialization.load_pem_public_key(pem)
        assert isinstance(key, rsa.RSAPublicKey)
        sealed = key.encrypt(
            os.urandom(32).hex().encode(),
            padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
        )
        text = base64.b64encode(sealed).decode()
        self.sh(f"echo {text} | otpseal seed import -", service="service-1")

    def sql(self, query: str) -> str:
        """Return what the database answers, one row a line."""
        return docker("exec", self.container("db"), *_PSQL, "-c", query).strip()

    @contextmanager
    def database_held(self) -> Iterator[None]:
        """Hold the lock that every transaction of otpseal takes."""
        command = (DOCKER, "exec", "-i", self.container("db"), *_PSQL)
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as session:
            assert session.stdin
            assert session.stdout
            session.stdin.write(f"SELECT 'held' FROM pg_advisory_lock({LOCK_KEY});\n")
            session.stdin.flush()
            assert session.stdout.readline() == "held\n"
            yield  # leaving, Popen closes stdin: the session ends, and its lock

    def waiting(self) -> int:
        """Return how many sessions wait for that lock."""
        return int(
            self.sql(
                "SELECT count(*) FROM pg_locks"
                " WHERE locktype = 'advisory' AND NOT granted"
            )
        )

    def all_healthy(self) -> None:
        """Wait until the engine says so of every container."""
        for service in ALL:
            self.wait_healthy(service, within_s=120)


def new_stack(directory: Path) -> tuple[Replicas, str]:
    """Return a stack that is not started yet, and its database's password."""
    directory.chmod(0o700)
    password = os.urandom(16).hex()
    secret = directory / "database_password"
    secret.write_text(f"{password}\n", "ascii")
    secret.chmod(0o644)
    # In the place of .secrets in the checkout, which may be someone's.
    changed = directory / "secret.yml"
    changed.write_text(
        f"secrets: {{database_password: {{file: {secret}}}}}\nvolumes: {{keys: {{}}}}\n"
    )
    files = (ROOT / "docker-compose.postgres.yml", changed)
    return Replicas("otpseal-replicas", files=files), password


def start_on_empty_database(stack: Replicas) -> None:
    """Start both replicas so that they find the empty database at the same moment."""
    stack.up("db")
    stack.wait_healthy("db", within_s=120)
    with stack.database_held():
        stack.up()
        wait_for(
            "both replicas at the database's lock",
            lambda: stack.waiting() == len(REPLICAS),
            within_s=60,
        )
    stack.all_healthy()
