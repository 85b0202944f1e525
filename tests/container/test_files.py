"""What the container is made from; these need no engine."""

import re
import stat

import pytest
from container.harness import ROOT

CRON_FILE = ROOT / "cron" / "2fa-cron"


def test_cron_reads_the_table() -> None:
    """LF line ends, a last newline, no BOM: else cron ignores the table in silence."""
    table = CRON_FILE.read_bytes()

    assert b"\r" not in table
    assert table.endswith(b"\n")
    assert table.isascii()


def test_the_job_is_one_line_with_a_user_and_absolute_paths() -> None:
    """One job, each minute, as otpseal, by the environment's own interpreter."""
    lines = CRON_FILE.read_text("ascii").splitlines()
    jobs = [line for line in lines if not re.match(r"#|[A-Z]+=", line)]

    assert len(jobs) == 1
    assert jobs[0].startswith("* * * * * otpseal ")
    assert "/opt/otpseal/venv/bin/python /app/scripts/log_2fa_cron.py " in jobs[0]


def test_only_the_script_writes_the_code_log() -> None:
    """The table sends the job's output elsewhere: no line twice, no error inside."""
    assert "last_code" not in CRON_FILE.read_text("ascii")


def test_the_builder_sees_only_what_is_listed() -> None:
    """`.dockerignore` is an allow-list, so a key in the checkout stays out."""
    rules = (ROOT / ".dockerignore").read_text("ascii").splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]

    assert rules[0] == "*"


def test_scripts_are_executable_sh() -> None:
    """Scripts of the container have LF line ends and a known interpreter."""
    scripts = [
        path
        for folder in ("bin", "scan")
        for path in (ROOT / "container" / folder).rglob("*")
        if path.is_file()
    ]

    assert scripts
    for path in scripts:
        assert b"\r" not in path.read_bytes(), path
        assert path.read_bytes().startswith((b"#!/bin/sh\n", b"#!/opt/otpseal/")), path
        assert path.stat().st_mode & stat.S_IXUSR, path


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.postgres.yml"])
def test_compose_publishes_to_loopback_only_and_fixes_no_name(name: str) -> None:
    """No port is for others; two copies of the project can run side by side."""
    compose = (ROOT / name).read_text("utf-8")
    ports = re.findall(r'^ +- "(.*:[0-9]+)"$', compose, re.MULTILINE)

    assert ports == ["127.0.0.1:${OTPSEAL_PUBLISH_PORT:-8080}:8080"]
    assert "container_name" not in compose


def test_nginx_never_sends_a_post_twice() -> None:
    """The second would spend a code that the first spent, and answer `replayed`."""
    config = (ROOT / "container" / "nginx.conf").read_text("ascii")
    directives = re.findall(r"^ +proxy_next_upstream (.*);$", config, re.MULTILINE)

    assert directives == ["error timeout"]
    assert re.findall(r"^ *access_log (.*);$", config, re.MULTILINE) == ["off"]
