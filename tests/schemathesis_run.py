"""Runs schemathesis as its users do: a process of its own, against a real server."""

import subprocess
import sys
from pathlib import Path

from server_fixture import environment


def run_schemathesis(url: str, directory: Path, *options: str) -> str:
    """Run schemathesis against a server; returns its report if all went well."""
    command = [
        Path(sys.executable).with_name("schemathesis"),
        "run",
        f"{url}/openapi.json",
        # Its place is taken by a check that knows the contract's own.
        "--exclude-checks=not_a_server_error",
        "--continue-on-failure",
        "--generation-database=none",
        "--warnings=off",
        "--no-color",
        *options,
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks"}
    done = subprocess.run(
        command,
        cwd=directory,
        env={**environment(), **hooks, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
