"""Drives containers for the tests: a compose project, its API and its logs."""

import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

ROOT: Final = Path(__file__).parents[2]
MINUTE: Final = timedelta(minutes=1)
UID: Final = 10001

#: Where the main stack's sealed seed is put, inside.
SEALED_SEED: Final = "/tmp/encrypted_seed.txt"

#: Whose certificate the authority's must be by, inside.
CA_FILE: Final = "/ca/ca.pem"

# What tests/container/run says, kept at import: the suite's tests run with the
# environment cleared of OTPSEAL_*.
ENABLED: Final = os.environ.get("OTPSEAL_CONTAINER_TESTS") == "1"
IMAGE: Final = os.environ.get("OTPSEAL_IMAGE", "")
IMAGES: Final = {
    name: os.environ.get(name, "")
    for name in ("OTPSEAL_IMAGE", "OTPSEAL_NGINX_IMAGE", "OTPSEAL_POSTGRES_IMAGE")
}
CANARY: Final = os.environ.get("OTPSEAL_TEST_CANARY", "")
DOCKER: Final = os.environ.get("OTPSEAL_TEST_DOCKER", "docker")
_COMPOSE: Final = shlex.split(os.environ.get("OTPSEAL_TEST_COMPOSE", "docker compose"))

#: CONTRACT: what other people's validators match each line of the code log with.
LINE: Final = re.compile(r"^\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2} - 2FA Code: \d{6}$")

#: Set when the session ends: whoever waits in the background gives up at once.
session_over = threading.Event()


class GaveUpError(AssertionError):
    """What was waited for did not come."""


_T = TypeVar("_T")


def wait_for(what: str, probe: Callable[[], _T], *, within_s: float) -> _T:
    """Return the first true answer of `probe`, asked again until the time is over."""
    deadline = time.monotonic() + within_s
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline or session_over.wait(0.25):
            raise GaveUpError(f"not within {within_s:.0f} s: {what}")


def run(*command: str, env: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed; return what it printed to stdout."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
        timeout=300,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def docker(*arguments: str) -> str:
    """Run `docker ...` on the tests' engine."""
    return run(DOCKER, *arguments)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def logs_of(container: str) -> str:
    """Return what a container printed so far, stdout and stderr in their order."""
    done = subprocess.run(
        [DOCKER, "logs", container],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
        timeout=60,
    )
    return done.stdout.decode("utf-8", "replace")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    retry_after: str | None = None

    @property
    def json(self) -> dict[str, Any]:
        """The body, parsed: an object."""
        parsed = json.loads(self.body)
        assert isinstance(parsed, dict), self
        return parsed


def call(
    address: tuple[str, int],
    method: str,
    path: str,
    *,
    body: Mapping[str, object] | None = None,
    token: str | None = None,
) -> Answer:
    """Call an API, with a bearer token if one is given."""
    headers = {} if body is None else {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, body=content, headers=headers)
        response = connection.getresponse()
        return Answer(
            response.status, response.read(), response.getheader("Retry-After")
        )
    finally:
        connection.close()


@dataclass(frozen=True)
class Process:
    """A process of a container, as the host sees it."""

    pid: int
    uid: int
    command: str


@dataclass(frozen=True)
class Stack:
    """One compose project, by default of docker-compose.yml, on a port of its own."""

    project: str
    port: int = field(default_factory=free_port)
    files: tuple[Path, ...] = (ROOT / "docker-compose.yml",)

    def compose(self, *arguments: str) -> str:
        """Run `docker compose ...` for this project."""
        return run(
            *_COMPOSE,
            *("--project-name", self.project, "--project-directory", str(ROOT)),
            *(f"--file={file}" for file in self.files),
            *arguments,
            env=IMAGES | {"OTPSEAL_PUBLISH_PORT": str(self.port)},
        )

    def up(self, *services: str) -> None:
        """Start the service (or the named services) from the image under test."""
        profile = ("--profile", "authority") if "authority" in services else ()
        self.compose(*profile, "up", "--detach", "--no-build", *services)

    def down(self, *options: str) -> None:
        """Remove the project's containers; `--volumes` its state too."""
        self.compose("--profile", "authority", "down", *options)

    def container(self, service: str = "service") -> str:
        """Return the id of a service's container."""
        labels = (
            f"--filter=label=com.docker.compose.project={self.project}",
            f"--filter=label=com.docker.compose.service={service}",
        )
        ids = docker("ps", "--all", "--quiet", "--no-trunc", *labels).split()
        assert len(ids) == 1, f"{service}: {ids}"
        return ids[0]

    def inspect(self, template: str, service: str = "service") -> str:
        """Return `docker inspect --format template` of a container."""
        return docker("inspect", "--format", template, self.container(service)).strip()

    def wait_healthy(self, service: str = "service", *, within_s: float) -> None:
        """Wait until the engine's own health check has passed."""
        container = self.container(service)
        status = ("inspect", "--format", "{{.State.Health.Status}}", container)
        try:
            wait_for(
                f"{self.project}: {service} healthy",
                lambda: docker(*status).strip() == "healthy",
                within_s=within_s,
            )
        except GaveUpError as error:
            raise GaveUpError(f"{error}\n{self.logs(service)}") from None

    def logs(self, service: str = "service") -> str:
        """Return what a service printed so far."""
        return logs_of(self.container(service))

    def sh(
        self, script: str, *, user: str = "otpseal", service: str = "service"
    ) -> str:
        """Run a shell script in a service's container."""
        container = self.container(service)
        return docker("exec", "--user", user, container, "sh", "-euc", script)

    def otpseal(self, *arguments: str, service: str = "service") -> str:
        """Run the command line as the README shows it, that is as `docker exec`."""
        return docker("exec", self.container(service), "otpseal", *arguments)

    def request(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> Answer:
        """Call the API over the published port."""
        return call(("127.0.0.1", self.port), method, path, body=body)

    def answers(self) -> bool:
        """Tell whether the API is there and healthy."""
        try:
            return self.request("GET", "/health").status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def verify(self, code: str) -> bool:
        """Submit a code; it must be decided."""
        answer = self.request("POST", "/verify-2fa", {"code": code})
        assert answer.status == http.client.OK, answer
        verdict = answer.json["valid"]
        assert isinstance(verdict, bool)
        return verdict

    def current_code(self) -> str:
        """Ask the API for the current code."""
        answer = self.request("GET", "/generate-2fa")
        assert answer.status == http.client.OK, answer
        code = answer.json["code"]
        assert isinstance(code, str)
        return code

    def spend_code(self) -> str:
        """Return a code that was accepted just now."""

        def spend() -> str | None:
            code = self.current_code()
            return code if self.verify(code) else None

        # The current step may be spent already; the next one is not.
        return wait_for("a code of an unspent step", spend, within_s=45) or ""

    def code_log(self, service: str = "service") -> str:
        """Return the code log, empty if there is none."""
        script = "[ ! -f /cron/last_code.txt ] || cat /cron/last_code.txt"
        return self.sh(script, service=service)

    def log_lines(self, service: str = "service") -> list[str]:
        """Return the complete lines of the code log."""
        return re.findall(r"(.*)\n", self.code_log(service))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the audit events of one kind, oldest first."""
        listed = self.otpseal(
            *("audit", "list", "--json", "--limit", "1000", "--kind", kind)
        )
        return [json.loads(line) for line in listed.splitlines()]

    def account(self) -> dict[str, Any]:
        """Return the account's state."""
        shown = json.loads(self.otpseal("account", "show", "--json"))
        assert isinstance(shown, dict)
        return shown

    def processes(self, service: str = "service") -> list[Process]:
        """List a container's processes."""
        table = docker("top", self.container(service), "-eo", "pid,uid,args")
        return [
            Process(int(pid), int(uid), command)
            for pid, uid, command in (
                line.split(maxsplit=2) for line in table.splitlines()[1:]
            )
        ]

    def supervised_pid(self, service: str) -> int:
        """Return the process id, inside, of a supervised process; 0 if it is down."""
        # s6-svstat is root's: the supervisor's directory is not otpseal's business.
        pid = self.sh(f"s6-svstat -o pid /run/service/{service}", user="root")
        return max(0, int(pid))


def minute_of(line: str) -> datetime:
    """Return the minute in which a line of the code log was written."""
    stamp = datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return stamp.replace(second=0)


def this_minute() -> datetime:
    """Return the current minute."""
    return datetime.now(UTC).replace(second=0, microsecond=0)


def wait_until_second(first: int, last: int) -> None:
    """Wait for a moment between two seconds of a minute: cron acts at its start."""
    wait_for(
        f"second {first} to {last} of a minute",
        lambda: first <= datetime.now(UTC).second <= last,
        within_s=60,
    )
