"""docs/api.md and the v1 API cannot drift apart."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TurnedClock
from v1_fixture import V1, served_v1

from otpseal.adapters.file_keys import RsaKeys
from otpseal.http import v1_problems
from otpseal.http.v1_problems import Problem

TEXT = (Path(__file__).parent.parent / "docs" / "api.md").read_text("utf-8")


@pytest.fixture
def v1(tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock) -> Iterator[V1]:
    """A service and a caller who may do everything."""
    with served_v1(tmp_path, service_keys, clock) as made:
        yield made


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the table under a heading, without its head."""
    section = TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)[2:]
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def test_calls_and_scopes(v1: V1) -> None:
    """The table has every call with its scope, and no other."""
    document: Any = v1.get("/openapi.json").json
    told = {
        (f"{method.upper()} {path}", operation["description"].split("`")[1])
        for path, operations in document["paths"].items()
        if path.startswith("/v1/")
        for method, operation in operations.items()
    }
    shown = set()
    for cell, scope, _ in rows("All calls"):
        if "sealed_seed" in cell:
            continue
        first, *more = re.findall(r"`([^`]+)`", cell)
        base = first.rpartition(":")[0]
        shown |= {
            (call, scope.strip("`")) for call in (first, *(base + m for m in more))
        }

    assert told == shown


def test_problems() -> None:
    """The table has every code with its status, and no other."""
    known = {
        (problem.status, problem.code)
        for problem in (
            *v1_problems._PROBLEMS.values(),
            *v1_problems._OF_WIRE.values(),
            *(each for each in vars(v1_problems).values() if isinstance(each, Problem)),
        )
    }
    statuses = {code: status for status, code in known}
    shown = set()
    for numbers, codes in rows("Problems"):
        allowed = {int(number) for number in re.findall(r"\d{3}", numbers)}
        for code in re.findall(r"`(\w+)`", codes):
            assert statuses[code] in allowed
            shown.add((statuses[code], code))

    assert known == shown


def test_the_transcript(v1: V1) -> None:
    """Its commands, run by a shell in order, are answered as it shows.

    Codes are put in as an authenticator would show them, and what differs from run
    to run is not compared.
    """
    block = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)[0]
    steps = [
        step.split("\n", 1) for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    ]
    define, *calls = steps
    device, recovery = None, ""
    for command, shown in calls:
        if device is not None:
            command = command.replace("904217", device.code())  # noqa: PLW2901
            command = command.replace("311806", device.code(1))  # noqa: PLW2901
        command = command.replace("rrbv-7eol-xeyo-lvio", recovery)  # noqa: PLW2901
        done = subprocess.run(
            ["bash", "-c", f"{define[0]}\n{command}"],
            env={
                "PATH": "/usr/bin:/bin",
                "token": v1.token,
                "url": f"http://127.0.0.1:{v1.here.port}",
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        if "otpauth_uri" in done.stdout:
            uri = re.findall(r'"otpauth_uri":"([^"]+)"', done.stdout)[0]
            from v1_fixture import Device

            device = Device(v1.here, "shop/alice", uri)
        if "recovery_codes" in done.stdout:
            recovery = re.findall(r"[a-z2-7]{4}(?:-[a-z2-7]{4}){3}", done.stdout)[0]
        assert _form(shown.strip()) == _form(done.stdout.strip()), command


def _form(answer: str) -> str:
    """Return an answer without what differs from run to run."""
    for pattern, word in (
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
        (r'"step":\d+', '"step":N'),
        (r'"id":\d+', '"id":N'),
        (r"c[0-9a-f]{10}", "CALLER"),
        (r"secret=[^\"]+", "secret="),
        (r'"<svg .*</svg>"', "SVG"),
        (r'\["[a-z2-7-]{19}".*\]', "CODES"),
        (r'(\{"id":"shop/alice"),.*?\}', r"\1}"),
    ):
        answer = re.sub(pattern, word, answer)
    return answer
