"""Other people's libraries, in another language: what npm has, where npm is."""

import shutil
import subprocess
from pathlib import Path

import pytest


def npm_install(directory: Path, *packages: str) -> Path:
    """Install packages into a directory of their own, or skip and say why."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    (directory / "package.json").write_text('{"type":"module"}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(
            [*command, "--silent", *packages],
            cwd=directory,
            check=False,
            capture_output=True,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm cannot get {packages} in time")
    if done.returncode:
        pytest.skip(f"npm cannot get {packages}")
    return directory


def run_node(directory: Path, program: str, given: str) -> str:
    """Run a module with `given` on its input, and return what it prints."""
    script = directory / "program.mjs"
    script.write_text(program)
    done = subprocess.run(
        ["node", str(script)],
        cwd=directory,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()
