"""Troubles that take minutes; each runs in a thread on a stack of its own."""

import base64
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from container.harness import (
    Stack,
    docker,
    minute_of,
    session_over,
    this_minute,
    wait_for,
)
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa


@dataclass(frozen=True)
class Healed:
    """A service without a seed, then with one, then with a directory for a log."""

    code_log_unseeded: str
    output_unseeded: str
    minute_seeded: datetime
    first_line: str
    output_broken: str
    health_broken: dict[str, Any]
    line_after: str
    output_after: str


@dataclass(frozen=True)
class Paused:
    """A service that was paused for more than three minutes."""

    last_before: str
    first_after: str
    log: list[str]
    gaps: list[dict[str, Any]]


def import_seed(stack: Stack) -> None:
    """Seal a random seed as an authority would, and hand it to the service."""
    pem = stack.sh("cat /keys/student_public.pem").encode()
    key = serialization.load_pem_public_key(pem)
    assert isinstance(key, rsa.RSAPublicKey)
    sealed = key.encrypt(
        os.urandom(32).hex().encode(),
        padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
    )
    answer = stack.request(
        "POST",
        "/decrypt-seed",
        {"encrypted_seed": base64.b64encode(sealed).decode()},
    )
    assert answer.body == b'{"status":"ok"}', answer


def heal(stack: Stack) -> Healed:
    """Break the code log in turn and watch it heal."""
    stack.up("service")
    stack.wait_healthy(within_s=120)

    # One run of cron without a seed.
    wait_for(
        "the job's reason in the container's output",
        lambda: "seed" in stack.logs().lower(),
        within_s=90,
    )
    output_unseeded = stack.logs()
    code_log_unseeded = stack.code_log()

    minute_seeded = this_minute()
    import_seed(stack)
    wait_for("the first line", stack.log_lines, within_s=75)
    first_line = stack.log_lines()[0]

    stack.sh("rm /cron/last_code.txt; mkdir /cron/last_code.txt")
    wait_for(
        "the broken log named in the container's output",
        lambda: "last_code.txt" in stack.logs(),
        within_s=75,
    )
    output_broken = stack.logs().removeprefix(output_unseeded)
    # Degraded once the newest line is older than 150 s.
    wait_for("degraded health", lambda: not stack.answers(), within_s=240)
    health_broken = stack.request("GET", "/health").json

    stack.sh("rmdir /cron/last_code.txt")
    wait_for("the next line", stack.log_lines, within_s=75)
    wait_for("health", stack.answers, within_s=30)
    return Healed(
        code_log_unseeded=code_log_unseeded,
        output_unseeded=output_unseeded,
        minute_seeded=minute_seeded,
        first_line=first_line,
        output_broken=output_broken,
        health_broken=health_broken,
        line_after=stack.log_lines()[0],
        output_after=stack.logs(),
    )


def pause(stack: Stack) -> Paused:
    """Freeze the whole container for more than three minutes: two or three lines."""
    stack.up("service")
    stack.wait_healthy(within_s=120)
    import_seed(stack)
    wait_for("the first line", stack.log_lines, within_s=75)
    last_before = stack.log_lines()[-1]

    container = stack.container()
    docker("pause", container)
    try:
        session_over.wait(185)
    finally:
        docker("unpause", container)

    wait_for(
        "a line after the pause",
        lambda: minute_of(stack.log_lines()[-1]) > minute_of(last_before),
        within_s=90,
    )
    lines = stack.log_lines()
    return Paused(
        last_before=last_before,
        first_after=lines[lines.index(last_before) + 1],
        log=lines,
        gaps=stack.events("code-log.gap"),
    )
