"""Transcripts of the real command line: many accounts, tokens."""

import json
import re
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from test_cli import Shell, refused, told

from otpseal.access import token_digest
from otpseal.adapters.file_keys import RsaKeys

TOKEN = re.compile(r"otpseal_[A-Za-z0-9_-]{43}\n")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys) -> Shell:
    """Commands on a store with the contract's seed."""
    shell = Shell(tmp_path_factory.mktemp("shop"), service_keys)
    assert shell("seed", "import", shell.sealed).returncode == 0
    return shell


def new_account(shell: Shell, name: str, *options: str) -> pyotp.TOTP:
    """Make an account; returns another library's device, made from its URI."""
    done = shell("account", "create", name, *options)
    assert done.returncode == 0, done.stderr
    uri = done.stdout.splitlines()[0]
    device = pyotp.parse_uri(uri)
    assert isinstance(device, pyotp.TOTP)
    return device


def test_an_account_from_its_creation_to_its_end(shop: Shell) -> None:
    """Made, confirmed by a device's first code, used, disabled, enabled, deleted."""
    device = new_account(shop, "shop/alice", "--issuer", "Shop")
    code = device.now()

    assert shop("verify", code, "--account", "shop/alice").stdout == (
        "not looked at: the account is disabled (`otpseal account enable`)\n"
    )
    assert told(shop("account", "confirm", "shop/alice", code)) == (0, "valid\n", "")
    again = shop("verify", code, "--account", "shop/alice", "--json")
    assert again.returncode == 1
    assert json.loads(again.stdout) == {"valid": False, "reason": "replayed"}
    shown = shop("code", "--account", "shop/alice").stdout
    assert shown.startswith((code, device.now()))
    assert told(shop("account", "disable", "shop/alice")) == (
        0,
        "account shop/alice is disabled\n",
        "",
    )
    assert shop("account", "enable", "shop/alice").returncode == 0
    asked = shop("account", "delete", "shop/alice", stdin="n\n")
    assert asked.returncode == 1
    assert told(shop("account", "delete", "shop/alice", "--yes")) == (
        0,
        "account shop/alice is deleted\n",
        "",
    )
    assert refused(shop("account", "show", "shop/alice"))[0] == 1


def test_what_is_shown_of_a_new_account(shop: Shell) -> None:
    """A URI that devices read, once, and what to do next; for scripts as JSON."""
    done = shop(
        *("account", "create", "shop/json", "--json", "--digits", "8"),
        *("--algorithm", "SHA256", "--period", "60", "--seed-bytes", "32"),
    )

    shown = json.loads(done.stdout)
    uri = urlsplit(shown["otpauth_uri"])
    query = {name: value for name, (value,) in parse_qs(uri.query).items()}
    assert uri.scheme == "otpauth"
    assert shown["state"] == "pending"
    assert len(query.pop("secret")) == 52
    assert query == {"algorithm": "SHA256", "digits": "8", "period": "60"}
    later = shop("account", "show", "shop/json", "--json").stdout
    assert "otpauth" not in later
    assert json.loads(later)["digits"] == 8


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "Shop/A"),
        ("create", "a", "--digits", "5"),
        ("create", "a", "--type", "motp"),
        ("create", "a", "--algorithm", "MD5"),
        ("create", "default"),
        ("confirm", "none", "123456"),
        ("resync", "none", "123456", "123456"),
        ("recovery-codes", "none"),
        ("enable", "none"),
        ("delete", "none", "--yes"),
        ("show", "none"),
    ],
)
def test_what_cannot_be(shop: Shell, arguments: tuple[str, ...]) -> None:
    """One line that says why, and exit code 1."""
    code, line = refused(shop("account", *arguments))

    assert code == 1
    assert "Traceback" not in line


def test_accounts_are_listed(shop: Shell) -> None:
    """A line each, by the bytes of their ids; or one JSON object a line."""
    for name in ("list/b", "list/a", "lists/c"):
        new_account(shop, name)

    plain = shop("account", "list", "--prefix", "list/").stdout
    rows = shop("account", "list", "--prefix", "list/", "--json").stdout

    assert plain == "list/a  totp  pending\nlist/b  totp  pending\n"
    assert ["list/a", "list/b"] == [
        json.loads(line)["account"] for line in rows.splitlines()
    ]


def test_a_device_that_is_off(shop: Shell) -> None:
    """Two codes in a row tell how far, and its next code is accepted."""
    device = new_account(shop, "off")
    shop("account", "enable", "off")
    late = time.time() - 600

    def at(offset: int) -> str:
        return device.at(int(late) + 30 * offset)

    assert shop("verify", at(0), "--account", "off").returncode == 1
    assert shop("account", "resync", "off", at(0), at(1)).stdout == "valid\n"
    assert shop("verify", at(2), "--account", "off").stdout == "valid\n"
    assert -21 <= json.loads(shop("account", "show", "off", "--json").stdout)["drift"]


def test_recovery_codes_are_shown_once(shop: Shell) -> None:
    """Ten of them; nothing in the store gives them back."""
    new_account(shop, "lost")

    codes = shop("account", "recovery-codes", "lost").stdout.splitlines()

    assert len(set(codes)) == 10
    assert all(re.fullmatch(r"[a-z2-7]{4}(-[a-z2-7]{4}){3}", code) for code in codes)
    stored = shop.database.read_bytes()
    for code in codes:
        assert code.encode() not in stored
        assert code.replace("-", "").encode() not in stored


def test_a_seed_goes_to_an_account(shop: Shell) -> None:
    """A sealed seed makes any account; a bad id makes none."""
    done = shop("seed", "import", shop.other, "--account", "sealed/a")

    assert told(done) == (0, "the seed is stored\n", "")
    assert refused(shop("seed", "import", shop.other, "--account", "No"))[0] == 1


# token


def test_a_token_from_its_creation_to_its_end(shop: Shell) -> None:
    """Printed once, alone on stdout for scripts; listed without it; revoked."""
    made = shop(
        *("token", "create", "the shop", "--scope", "verify", "--scope", "accounts"),
        *("--prefix", "shop/", "--expires", "90d"),
    )

    assert TOKEN.fullmatch(made.stdout)
    (caller,) = re.findall(r"^caller (c[0-9a-f]+)$", made.stderr, re.MULTILINE)
    plain = shop("token", "list").stdout
    assert f"{caller}  valid  accounts,verify  shop/*  the shop\n" in plain
    assert made.stdout.strip() not in plain
    assert made.stdout.strip().encode() not in shop.database.read_bytes()
    digest = token_digest(made.stdout.strip().encode())
    assert digest is not None
    assert digest in shop.database.read_bytes()
    assert told(shop("token", "revoke", caller)) == (
        0,
        f"caller {caller} is revoked\n",
        "",
    )
    assert f"{caller}  revoked  " in shop("token", "list").stdout
    assert refused(shop("token", "revoke", caller))[0] == 1


def test_a_token_for_scripts(shop: Shell) -> None:
    """One JSON object, with the token this once."""
    made = json.loads(shop("token", "create", "a", "--scope", "audit", "--json").stdout)
    listed = shop("token", "list", "--json").stdout.splitlines()

    assert TOKEN.fullmatch(made["token"] + "\n")
    (row,) = [row for row in map(json.loads, listed) if row["caller"] == made["caller"]]
    assert "token" not in row
    assert row["scopes"] == ["audit"]
    assert row["expires_at"] is None


def test_a_certificate_is_admitted(shop: Shell) -> None:
    """By a name in it; there is no token to print."""
    done = shop(
        *("token", "create", "app", "--scope", "verify"),
        *("--certificate", "DNS:shop.example"),
    )

    assert re.fullmatch(r"c[0-9a-f]+: admitted by its certificate\n", done.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "a", "--scope", "root"),
        ("create", "a", "--scope", "verify", "--prefix", "shop"),
        ("create", "a", "--scope", "verify", "--expires", "soon"),
        ("create", "a", "--scope", "verify", "--expires", "0d"),
        ("create", "a", "--scope", "verify", "--certificate", "shop.example"),
        ("revoke", "none"),
    ],
)
def test_what_no_token_can_be(shop: Shell, arguments: tuple[str, ...]) -> None:
    """One line that says why, and exit code 1."""
    assert refused(shop("token", *arguments))[0] == 1


def test_a_token_without_scopes(shop: Shell) -> None:
    """Is a mistake of usage: it could do nothing."""
    assert shop("token", "create", "a").returncode == 2


def test_a_store_that_is_not_there(tmp_path: Path, service_keys: RsaKeys) -> None:
    """Nothing is made by a mistyped directory."""
    shell = Shell(tmp_path, service_keys)

    for arguments in (("token", "list"), ("account", "list")):
        assert refused(shell(*arguments))[0] == 2
    assert not shell.database.exists()
