"""Transcripts of account import and export with PSKC containers (RFC 6030)."""

import json
import re
import stat
import time
from pathlib import Path

import pytest
from pskc_samples import (
    FIGURE_6,
    FIGURE_7,
    FIGURE_8,
    PRESHARED,
    SEED,
    container,
    key,
    plain,
)
from server_fixture import SEED as STORED
from server_fixture import code_at
from test_cli import Shell, refused, told
from test_pskc_signing import dumped, signed, signer

from otpseal.adapters.file_keys import RsaKeys, public_path
from otpseal.totp import hotp


@pytest.fixture
def shell(tmp_path: Path, service_keys: RsaKeys) -> Shell:
    """Commands on a store with a seed."""
    made = Shell(tmp_path, service_keys)
    assert made("seed", "import", made.sealed).returncode == 0
    return made


def secret_file(directory: Path, text: str) -> Path:
    """Return a file for one's own eyes."""
    path = directory / "secret"
    path.touch(0o600)
    path.write_text(text)
    return path


def test_figure_6(shell: Shell) -> None:
    """RFC 6030's container becomes an account whose codes are RFC 4226's."""
    given = secret_file(shell.directory, PRESHARED.reveal().hex() + "\n")
    command = ("account", "import", "-", "--pskc-key-file", given, "--prefix", "t/")

    bare = shell("account", "import", "-", stdin=FIGURE_6)
    dry = shell(*command, "--dry-run", stdin=FIGURE_6)
    done = shell(*command, stdin=FIGURE_6)
    again = shell(*command, "--json", stdin=FIGURE_6)

    assert (1, True) == (bare.returncode, "--pskc-key-file" in bare.stderr)
    assert "line 1: t/12345678: new\n" in dry.stdout
    assert "nothing was changed" in dry.stdout
    assert told(done) == (0, "line 1: t/12345678: new\n1 accounts imported\n", "")
    assert "there is an account of this id" == json.loads(again.stdout)["result"]
    # RFC 4226 appendix D: 1284755224 for counter 0.
    assert 0 == shell("verify", "84755224", "--account", "t/12345678").returncode
    assert 1 == shell("verify", "84755224", "--account", "t/12345678").returncode


def test_figure_7(shell: Shell) -> None:
    """A passphrase from a file; the report says why the figure's key is none."""
    given = secret_file(shell.directory, "qwerty\n")

    done = shell(
        "account", "import", "-", "--pskc-passphrase-file", given, stdin=FIGURE_7
    )

    assert told(done) == (
        1,
        "line 1: (no id): type hotp needs its counter\n",
        "error: 1 of 1 rows cannot be imported, so none was\n",
    )


def test_whole_or_nothing(shell: Shell) -> None:
    """One bad key keeps the others out; every one has a line of its own."""
    text = container(
        key("good", secret=plain("eHh4eHh4eHh4eHh4eHh4eHh4eHg=")),
        key("bad", inside="<Policy><Odd/></Policy>"),
    )

    done = shell("account", "import", "-", "--json", stdin=text)

    assert 1 == done.returncode
    assert ["new", "Policy holds an element that is not known"] == [
        json.loads(line)["result"] for line in done.stdout.splitlines()
    ]
    assert "good" not in shell("account", "list").stdout


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<!DOCTYPE x>" + container(), "DOCTYPE"),
        (container() + " " * 262144, "--max-bytes"),
        (FIGURE_8, "PKCS#1 v1.5"),
        ("<x/>", "KeyContainer"),
    ],
)
def test_hostile(shell: Shell, text: str, reason: str) -> None:
    """Refused with a reason, not with a traceback; nothing is stored."""
    done = shell("account", "import", "-", stdin=text)

    assert 1 == done.returncode
    assert reason in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "token-1" not in shell("account", "list").stdout


def test_signed(shell: Shell) -> None:
    """A signature is asked for, and compared with the signer that was named."""
    maker = signer("Maker", days=(-2000, 2000))
    text = dumped(signed(container(), maker))
    file = shell.directory / "maker.pem"
    file.write_bytes(maker.pem)
    other = shell.directory / "other.pem"
    other.write_bytes(signer("Maker", days=(-2000, 2000)).pem)
    command = ("account", "import", "-", "--require-signature", "--pskc-certificate")

    unsigned = shell(*command, file, stdin=container())
    unnamed = shell("account", "import", "-", stdin=text)
    wrong = shell(*command, other, stdin=text)
    by_other_ca = shell("account", "import", "-", "--pskc-ca-file", other, stdin=text)
    done = shell(*command, file, stdin=text)

    assert "not signed" in refused(unsigned)[1]
    assert "name the signer" in refused(unnamed)[1]
    assert "not by the signer" in refused(wrong)[1]
    assert "not by the signer" in refused(by_other_ca)[1]
    assert 0 == done.returncode


@pytest.mark.parametrize(
    "options",
    [
        ("--require-signature",),
        ("--pskc-key-file", "a", "--pskc-passphrase-file", "b"),
        ("--pskc-certificate", "a", "--pskc-ca-file", "b"),
    ],
)
def test_options_that_contradict(shell: Shell, options: tuple[str, ...]) -> None:
    """Refused before anything is read."""
    assert 2 == refused(shell("account", "import", "-", *options))[0]


def test_options_of_another_format(shell: Shell) -> None:
    """Whoever asks for a signature does not get a CSV file without one."""
    csv = "id,secret\na,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n"
    file = secret_file(shell.directory, "x")
    options = ("--require-signature", "--pskc-certificate", file)

    assert (
        "no PSKC container"
        in refused(shell("account", "import", "-", *options, stdin=csv))[1]
    )


@pytest.mark.parametrize("text", ["", "12", "zz" * 16, "00" * 17])
def test_no_key(shell: Shell, text: str) -> None:
    """A key file that holds no key says so, and not what it holds."""
    given = secret_file(shell.directory, text)

    code, error = refused(
        shell("account", "import", "-", "--pskc-key-file", given, stdin=FIGURE_6)
    )

    assert 2 == code
    assert not text or text not in error


def test_export(shell: Shell) -> None:
    """What one service exports the other imports, through PSKC."""
    file = shell.directory / "out.pskc"
    public = public_path(shell.key_file)
    counted = container(
        key("counted", data="<Counter><PlainValue>5</PlainValue></Counter>")
    )
    assert 0 == shell("account", "import", "-", stdin=counted).returncode

    done = shell("account", "export", file, "--to", public, "--format", "pskc")

    assert told(done) == (0, "", "2 accounts written\n")
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert STORED.reveal().hex() not in file.read_text()
    assert 2 == len(re.findall("<pskc:Key ", file.read_text()))
    elsewhere = shell.directory / "elsewhere"
    moved = shell("account", "import", file, data_dir=elsewhere)
    assert told(moved) == (
        0,
        "line 1: counted: new\nline 2: default: new\n2 accounts imported\n",
        "",
    )
    assert 0 == shell("verify", code_at(time.time()), data_dir=elsewhere).returncode
    for counter, answer in ((4, 1), (5, 0)):
        code = hotp(SEED, counter)
        verified = shell("verify", code, "--account", "counted", data_dir=elsewhere)
        assert answer == verified.returncode
    assert '"form":"pskc"' in shell("audit", "list", "--json").stdout.replace(" ", "")


@pytest.mark.parametrize(
    "options",
    [
        ("--format", "pskc"),
        ("--format", "xml", "--to", "x"),
        (
            *("--format", "pskc", "--plaintext"),
            "--yes-i-know-this-writes-seeds-in-clear",
        ),
    ],
)
def test_export_needs_a_key(shell: Shell, options: tuple[str, ...]) -> None:
    """PSKC is written to a public key, and never in clear."""
    assert 2 == refused(shell("account", "export", "-", *options))[0]
