"""`otpseal demo`: authority and service on this machine, the whole way once.

Both are real processes that speak HTTP, as they would on two machines.
"""

import contextlib
import json
import os
import re
import secrets
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
_AUTHORITY: Final = "demo-authority"
_SUBSCRIBER: Final = "demo-service"


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where keys and stores are kept.")
    ] = Path(".otpseal"),
    once: Annotated[
        bool, typer.Option("--once", help="Stop after the tour, don't wait for Ctrl-C.")
    ] = False,
) -> None:
    """Start an authority and a service, move a seed, refuse a forged one, check a code.

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

    signing = _initialise(directory / "authority")
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
    client = stack.enter_context(
        httpx2.Client(base_url=service.url, timeout=30, trust_env=False)
    )
    _enrol(authority, signing, directory)
    _refuse_a_forgery(directory / "service", signing["name"])
    _check_a_code(client)
    _say_what_next(service.url, directory)
    return [authority, service]


def _initialise(authority: Path) -> dict[str, str]:
    """Return the authority's name and the file that services pin; made once."""
    kept = authority / "demo.json"
    if not kept.exists():
        made = _run("authority", "init", "--json", data_dir=authority)
        kept.write_text(made, "utf-8")
    signing: dict[str, str] = json.loads(kept.read_text("utf-8"))
    return signing


def _enrol(authority: Side, signing: dict[str, str], directory: Path) -> None:
    """Have the authority's seed come to the service, unless it has one."""
    theirs, ours = directory / "authority", directory / "service"
    name = signing["name"]
    pinned = _run("authority", "trust", "list", data_dir=ours)
    if not pinned:
        _say(f"the service pins {name} by its key")
        _run("authority", "trust", "add", name, signing["jwks"], data_dir=ours)
    if _run("account", "list", data_dir=ours):
        _say("the service has a seed, of an earlier run")
        return
    _say(f"{name} admits {_SUBSCRIBER} and gives it a ticket for one account")
    if _SUBSCRIBER not in _run("authority", "subscriber", "list", data_dir=theirs):
        _run("authority", "subscriber", "add", _SUBSCRIBER, data_dir=theirs)
    ticket = _run("authority", "ticket", _SUBSCRIBER, "default", data_dir=theirs)
    ticket_file = ours / "ticket"
    with os.fdopen(os.open(ticket_file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(ticket + "\n")
    _say("the service asks for its seed: signed by the authority, sealed to its key")
    given = ["--ticket-file", str(ticket_file)]
    given += ["--receipt-out", str(ours / "receipt.jws")]
    _say(_run("seed", "enrol", authority.url, *given, data_dir=ours))
    ticket_file.unlink()
    _say(_run("authority", "status", data_dir=theirs))


def _refuse_a_forgery(service: Path, authority: str) -> None:
    """Seal a seed as anybody can who has the public key, and show what comes of it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from otpseal import signed_envelope
    from otpseal.keypolicy import key_id, parse_public_key
    from otpseal.secret import Secret
    from otpseal.seed_claims import NONCE_BYTES, SeedClaims
    from otpseal.signed_envelope import Signer

    public = parse_public_key((service / "keys" / "student_public.pem").read_bytes())
    now = int(time.time())
    claims = SeedClaims(
        issuer=authority,
        audience=key_id(public),
        account="default",
        seed=Secret(secrets.token_bytes(32)),
        issued_at=now,
        expires_at=now + 3600,
        jti=secrets.token_urlsafe(NONCE_BYTES),
        sequence=now * 1000,
        nonce=secrets.token_bytes(NONCE_BYTES),
    )
    forger = Signer(Ed25519PrivateKey.generate())
    forged = service / "forged.jwt"
    forged.write_text(
        signed_envelope.seal(claims, signer=forger, recipient=public), "ascii"
    )
    _say("somebody who has the public key seals a seed of his own, in that name:")
    _say(_run("seed", "import", str(forged), data_dir=service, refused=True))
    forged.unlink()


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


def _environment() -> dict[str, str]:
    # The demo's settings, whatever this shell has for a real deployment.
    kept = {key: value for key, value in os.environ.items() if "OTPSEAL_" not in key}
    return {**kept, "OTPSEAL_AUTHORITY_NAME": _AUTHORITY}


def _run(*words: str, data_dir: Path, refused: bool = False) -> str:
    """Run a command of ours to its end; returns what it printed, without line ends.

    Args:
        words: the command.
        data_dir: of the side that it is about.
        refused: whether it must fail; then what it said is returned.
    """
    done = subprocess.run(  # noqa: S603 - our own program, no shell
        [sys.executable, "-m", "otpseal", *words, "--data-dir", str(data_dir)],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if (done.returncode != 0) is not refused:
        raise OtpsealError(f"otpseal {' '.join(words[:2])}: {done.stderr.strip()}")
    return (done.stderr if refused else done.stdout).strip()


@contextlib.contextmanager
def _running(
    name: str, command: list[str], directory: Path, port: int
) -> Iterator[Side]:
    """Run one side as a process of its own; gives it once it is ready."""
    arguments = [*command, "--data-dir", str(directory), "--port", str(port)]
    process = subprocess.Popen(  # noqa: S603 - our own program, no shell
        [sys.executable, "-m", "otpseal", *arguments],
        env=_environment(),
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
