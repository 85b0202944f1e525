"""Transcripts of backup, restore, clock, account import and account export."""

import base64
import json
import os
import pty
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from server_fixture import SEED, code_at
from test_cli import Shell, refused, told

from otpseal.adapters.file_keys import RsaKeys, public_path

CONSENT = "--yes-i-know-this-writes-seeds-in-clear"


def uri(name: str, seed: bytes) -> str:
    """Return an otpauth URI."""
    secret = base64.b32encode(seed).decode().rstrip("=")
    return f"otpauth://totp/Shop:{name}?secret={secret}&issuer=Shop"


@pytest.fixture
def shell(tmp_path: Path, service_keys: RsaKeys) -> Shell:
    """Commands on a store with a seed."""
    made = Shell(tmp_path, service_keys)
    assert made("seed", "import", made.sealed).returncode == 0
    return made


def test_backup_and_restore(shell: Shell) -> None:
    """A private file; an empty directory; a used code is not accepted again."""
    file = shell.directory / "otpseal.backup"
    code = code_at(time.time())

    assert told(shell("backup", file)) == (
        0,
        "",
        f"1 accounts; opens with the key {shell.keys.kid}\n",
    )
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert "--force" in refused(shell("backup", file))[1]
    assert shell("backup", file, "--force").returncode == 0
    assert shell("verify", code).returncode == 0
    assert "--replace" in refused(shell("restore", file))[1]
    replaced = shell("restore", file, "--replace")
    assert (0, "") == (replaced.returncode, replaced.stderr)
    assert "1 accounts restored, as of " in replaced.stdout
    assert shell("verify", code).returncode == 1

    shell.database.rename(shell.database.with_name("away"))
    fresh = shell("restore", "-", "--json", stdin=file.read_bytes())
    assert (0, 1, 1) == (
        fresh.returncode,
        json.loads(fresh.stdout)["accounts"],
        json.loads(fresh.stdout)["raised"],
    )
    assert shell("verify", code_at(time.time())).returncode == 1
    assert "backup.restored" in shell("audit", "list").stdout


def test_a_refused_restore_makes_no_store(shell: Shell) -> None:
    """Verified first: a damaged file leaves an empty directory empty."""
    file = shell.directory / "otpseal.backup"
    assert shell("backup", file).returncode == 0
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    elsewhere = shell.directory / "elsewhere"

    code, text = refused(shell("restore", file, data_dir=elsewhere))

    assert (1, True) == (code, "altered" in text)
    assert not elsewhere.exists()


def test_a_backup_into_a_pipe(shell: Shell) -> None:
    """Nothing but the backup is on stdout."""
    done = shell("backup", "-", "--json")

    assert done.returncode == 0
    assert done.stdout.startswith('{"otpseal-backup":1,')
    assert done.stdout.splitlines()[-1].startswith('{"mac":"')


def test_clock(shell: Shell) -> None:
    """A mark in the future stops verification until this machine's time is accepted."""
    ahead = round((time.time() + 10**6) * 1000)
    shell.sql("INSERT OR REPLACE INTO marks VALUES ('clock-ms', ?)", ahead)

    assert "codes are verified: no\n" in shell("clock", "show").stdout
    accepted = shell("clock", "accept", "--json")
    assert (0, 1, 0) == (
        accepted.returncode,
        json.loads(accepted.stdout)["raised"],
        json.loads(accepted.stdout)["ahead"],
    )
    assert "codes are verified: yes\n" in shell("clock", "show").stdout
    assert "last steps raised to now: " in shell("clock", "accept").stdout
    assert "clock.accepted" in shell("audit", "list").stdout


def test_import(shell: Shell) -> None:
    """All rows or none; a report for each that is in the way."""
    good = uri("bob", b"b" * 20) + "\n" + uri("carol", b"c" * 20) + "\n"
    report = "line 1: t/shop/bob: new\nline 2: t/shop/carol: new\n"
    command = ("account", "import", "-", "--prefix", "t/")

    dry = shell(*command, "--dry-run", stdin=good)
    bad = shell(*command, stdin=good + uri("dora", SEED.reveal()) + "\n")
    done = shell(*command, stdin=good)
    again = shell(*command, "--json", stdin=good)

    can_be = "2 accounts can be imported; nothing was changed\n"
    assert told(dry) == (0, report + can_be, "")
    assert told(bad) == (
        1,
        "line 3: t/shop/dora: another account has this seed\n",
        "error: 1 of 3 rows cannot be imported, so none was\n",
    )
    assert told(done) == (0, report + "2 accounts imported\n", "")
    assert (1, {"there is an account of this id"}) == (
        again.returncode,
        {json.loads(line)["result"] for line in again.stdout.splitlines()},
    )


@pytest.mark.parametrize(
    "wrong",
    [("--prefix", "t"), ("--prefix", "T/"), ("--format", "xml")],
)
def test_import_says_what_it_wants(shell: Shell, wrong: tuple[str, ...]) -> None:
    """A wrong option is refused before anything is read."""
    assert 2 == refused(shell("account", "import", "-", *wrong))[0]


def test_export_to_another_service(shell: Shell) -> None:
    """What one service exports the other imports, and no seed is in the file."""
    file = shell.directory / "out.jsonl"
    public = public_path(shell.key_file)

    done = shell("account", "export", file, "--to", public)

    assert told(done) == (0, "", "1 accounts written\n")
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert SEED.reveal().hex() not in file.read_text()
    elsewhere = shell.directory / "elsewhere"
    moved = shell("account", "import", file, data_dir=elsewhere)
    assert told(moved) == (0, "line 1: default: new\n1 accounts imported\n", "")
    assert shell("verify", code_at(time.time()), data_dir=elsewhere).returncode == 0


def test_plaintext_takes_two_words(shell: Shell) -> None:
    """Seeds in clear are written only to who says that he knows."""
    file = shell.directory / "out.txt"
    for options in ((), ("--plaintext",), (CONSENT,), ("--to", "x", "--plaintext")):
        assert 2 == refused(shell("account", "export", file, *options))[0]
    assert not file.exists()

    done = shell("account", "export", file, "--plaintext", CONSENT)

    assert told(done) == (0, "", "1 accounts written\n")
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert base64.b32encode(SEED.reveal()).decode().rstrip("=") in file.read_text()
    assert "plaintext" in shell("audit", "list").stdout


def test_plaintext_is_not_shown_on_a_terminal(shell: Shell) -> None:
    """A terminal remembers what it showed."""
    control, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "otpseal", "account", "export", "-"),
                *("--plaintext", CONSENT),
                *("--data-dir", shell.database.parent, "--key-file", shell.key_file),
            ],
            stdout=terminal,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(control)

    assert (2, True) == (done.returncode, "terminal" in done.stderr)
