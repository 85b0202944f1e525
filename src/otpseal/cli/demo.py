"""`otpseal demo`: authority and service on this machine, the whole way once.

Both are real processes that speak HTTP, as they would on two machines.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from otpseal.errors import AuthorityUnusable, ConfigurationError, OtpsealError

if TYPE_CHECKING:
    import httpx2

AUTHORITY_PORT: Final = 8081
SERVICE_PORT: Final = 8080

#: The first start searches for primes, on a slow machine for a minute.
_READY_WITHIN_S: Final = 180.0
_READY: Final = re.compile(r"ready on (http://\S+)")
_STUDENT: Final = "demo-student"
_REPOSITORY: Final = "https://github.com/demo-student/otpseal"


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where keys and stores are kept.")
    ] = Path(".otpseal"),
    once: Annotated[
        bool, typer.Option("--once", help="Stop after the tour, don't wait for Ctrl-C.")
    ] = False,
) -> None:
    """Start an authority and a service, move a seed, check a code.

    The service is left running until Ctrl-C. A second run finds the keys, the stores
    and the seed of the first.
    """
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with contextlib.ExitStack() as stack:
            processes = _tour(directory, stack)
            if not once:
                _watch(processes)
    except KeyboardInterrupt:
        typer.echo("\nstopped; `make run` goes on where this ended")
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _watch(processes: "list[Side]") -> None:
    while True:
        for side in processes:
            if (code := side.process.poll()) is not None:
                raise OtpsealError(f"the {side.name} ended with exit code {code}")
        time.sleep(1)


@dataclass(frozen=True)
class Side:
    """One running process and where it listens."""

    name: str
    url: str
    process: "subprocess.Popen[str]"


def _tour(directory: Path, stack: contextlib.ExitStack) -> list[Side]:
    import httpx2

    from otpseal.adapters.authority_client import request_sealed_seed

    authority = stack.enter_context(
        _running(
            "authority",
            ["authority", "serve", "--key-bits", "4096"],
            directory / "authority",
            _free_port(AUTHORITY_PORT),
        )
    )
    service = stack.enter_context(
        _running("service", ["serve"], directory / "service", _free_port(SERVICE_PORT))
    )
    public_key = directory / "service" / "keys" / "student_public.pem"
    _say("asking the authority for a seed, sealed to the service's public key")
    sealed = request_sealed_seed(
        authority.url + "/",
        student_id=_STUDENT,
        github_repo_url=_REPOSITORY,
        public_key=public_key.read_bytes(),
    )
    _say(f"sealed seed received: {len(sealed)} characters, {sealed[:24]}...")
    client = stack.enter_context(
        httpx2.Client(base_url=service.url, timeout=30, trust_env=False)
    )
    _call(client.post, "/decrypt-seed", json={"encrypted_seed": sealed})
    _check_a_code(client)
    _say_what_next(service.url, directory)
    return [authority, service]


def _check_a_code(client: "httpx2.Client") -> None:
    while True:
        current = _call(client.get, "/generate-2fa")
        code = {"code": current["code"]}
        if _call(client.post, "/verify-2fa", json=code)["valid"]:
            break
        wait = int(current["valid_for"])
        _say(f"this code was used in an earlier run; the next one comes in {wait} s")
        time.sleep(wait)
    _say("the same code again; a code is accepted once:")
    _call(client.post, "/verify-2fa", json=code)


def _call(
    method: "Callable[..., httpx2.Response]",
    path: str,
    **body: Any,  # noqa: ANN401 - JSON
) -> Any:  # noqa: ANN401 - JSON
    """Make a call and show it as it went over the wire."""
    import httpx2

    try:
        response = method(path, **body)
    except httpx2.HTTPError as error:
        raise OtpsealError(f"{path} failed: {type(error).__name__}") from None
    _say(f"{method.__name__.upper():4} {path:13}  {response.text}")
    if not response.is_success:
        raise OtpsealError(f"{path} answered {response.status_code}")
    return response.json()


def _say(text: str) -> None:
    typer.echo(f"  {text}")


def _say_what_next(service: str, directory: Path) -> None:
    data = directory / "service"
    typer.echo(
        f"""
The service is running on {service}

  curl {service}/generate-2fa
  curl -H 'Content-Type: application/json' -d '{{"code":"123456"}}' {service}/verify-2fa
  .venv/bin/otpseal code --data-dir {data}
  .venv/bin/otpseal audit list --data-dir {data}

Ctrl-C stops it."""
    )


def _free_port(usual: int) -> int:
    """Return the usual port, or 0 (any free one) if somebody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            return 0
    return usual


@contextlib.contextmanager
def _running(
    name: str, command: list[str], directory: Path, port: int
) -> Iterator[Side]:
    """Run one side as a process of its own; gives it once it is ready."""
    arguments = [*command, "--data-dir", str(directory), "--port", str(port)]
    # Its settings are the demo's, whatever this shell has for a real deployment.
    environment = {
        key: value for key, value in os.environ.items() if "OTPSEAL_" not in key
    }
    process = subprocess.Popen(  # noqa: S603 - our own program, no shell
        [sys.executable, "-m", "otpseal", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C goes to this process alone, which stops the others in order.
        start_new_session=True,
    )
    try:
        url = _wait_until_ready(name, process)
        _say(f"{name} ready on {url}")
        yield Side(name, url, process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(name: str, process: "subprocess.Popen[str]") -> str:
    stdout = process.stdout
    if stdout is None:
        raise ConfigurationError(f"the {name} has no output to wait for")
    timer = threading.Timer(_READY_WITHIN_S, process.kill)
    timer.start()
    try:
        for line in stdout:
            if found := _READY.search(line):
                return found.group(1).rstrip("/")
    finally:
        timer.cancel()
    raise AuthorityUnusable(f"the {name} did not start: see its message above")
