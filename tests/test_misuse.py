"""What operators get wrong: told in one line, and nothing is made or lost."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest

from otpseal import Settings, open_service
from otpseal.adapters.file_keys import public_path
from otpseal.config import load_settings
from otpseal.errors import ConfigurationError, OtpsealError, StoreUnavailable
from otpseal.http import housekeeping
from otpseal.http.complaints import Complaints
from otpseal.http.housekeeping import keep_house

# Imports first: the interpreter itself may lie where nobody else may look.
_AS_NOBODY = """
import importlib, os, pkgutil, sys
import rich.console, rich.table, sqlalchemy.dialects.sqlite, typer
import otpseal.cli, otpseal.http.app, otpseal.http.server
for package in (typer, otpseal.cli):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if "__main__" not in module.name and "win" not in module.name:
            importlib.import_module(module.name)
os.chdir("/")
os.setgid(65534)
os.setuid(65534)
otpseal.cli.main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    "command",
    [["code"], ["account", "show"], ["audit", "list"], ["serve", "--port", "0"]],
    ids=" ".join,
)
def test_a_directory_of_somebody_else(settings: Settings, command: list[str]) -> None:
    """One line that says so, no traceback."""
    with open_service(settings):
        pass
    environment = {
        **os.environ,
        "OTPSEAL_DATA_DIR": str(settings.data_dir),
        "OTPSEAL_KEY_FILE": str(settings.key_file),
    }

    ran = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode in {2, 3, 4}
    assert "Traceback" not in ran.stderr
    assert "Permission denied" in ran.stderr


def test_a_missing_public_half_is_written_again(settings: Settings) -> None:
    """A crash between the two key files leaves the private one alone."""
    assert settings.key_file is not None
    public = public_path(settings.key_file)
    before = public.read_bytes()
    public.unlink()

    with open_service(settings):
        pass

    assert before == public.read_bytes()


def test_a_misspelt_setting_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else OTPSEAL_CLASSIC_ACESS=token would leave a service open in silence."""
    monkeypatch.setenv("OTPSEAL_CLASSIC_ACESS", "token")

    load_settings()

    assert "OTPSEAL_CLASSIC_ACESS is set, but there is no such setting" in caplog.text
    assert "token" not in caplog.text.replace("OTPSEAL", "")


def test_an_empty_setting_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files hand on unset variables as empty ones."""
    monkeypatch.setenv("OTPSEAL_KEY_FILE", "")
    monkeypatch.setenv("OTPSEAL_PORT", "")

    settings = load_settings()

    assert (None, 8080) == (settings.key_file, settings.port)


def test_retention_has_an_upper_end() -> None:
    """Beyond a century the arithmetic of times would fail, later and in silence."""
    with pytest.raises(ConfigurationError, match="OTPSEAL_AUDIT_RETENTION_DAYS"):
        load_settings(audit_retention_days=999_999_999_999)


@pytest.mark.parametrize("change", ["pending = 'x'", "since = 'x'", "kind = 'new'"])
def test_a_damaged_count_is_a_store_error(settings: Settings, change: str) -> None:
    """It is no unexpected one, and nothing is decided beside it."""
    with open_service(settings) as opened:
        with pytest.raises(OtpsealError):
            opened.service.import_sealed("AAAA")
        path = settings.data_dir / "otpseal.db"
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(f"UPDATE tallies SET {change}")

        with pytest.raises(StoreUnavailable):
            opened.service.upkeep.settle()


def test_housekeeping_goes_on_after_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody expected must not end it: counts would never be told."""
    monkeypatch.setattr(housekeeping, "SETTLE_EVERY_S", 0.0)
    calls = []
    thrice = threading.Event()

    def settle() -> None:
        calls.append(1)
        if len(calls) == 3:
            thrice.set()
        raise ZeroDivisionError

    async def run() -> None:
        task = asyncio.create_task(keep_house(settle, prune=None))
        assert await asyncio.to_thread(thrice.wait, 30)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())

    assert len(calls) >= 3


def test_a_complaint_is_made_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """A stranger who repeats a failing request adds no line to the log."""
    complaints = Complaints()

    for _ in range(1000):
        complaints.say("/verify-2fa", StoreUnavailable("disk full"))
    complaints.say("/verify-2fa", StoreUnavailable("another cause"))

    assert ["/verify-2fa: disk full", "/verify-2fa: another cause"] == caplog.messages


def test_a_missing_store_is_not_made(tmp_path: Path) -> None:
    """A command in a mistyped directory says so and leaves nothing there."""
    ran = subprocess.run(
        [sys.executable, "-m", "otpseal", "code", "--data-dir", str(tmp_path / "typo")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 2
    assert "there is no store in" in ran.stderr
    assert [] == list(tmp_path.iterdir())
