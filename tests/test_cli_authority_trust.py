"""`otpseal authority trust`, as a process: on the service's store."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import TurnedClock
from cryptography.hazmat.primitives.asymmetric import ec
from server_fixture import key_file_in, opened_over, otpseal

from otpseal.adapters.file_keys import RsaKeys
from otpseal.certificates import make_ca, pem

JWK = {
    "crv": "Ed25519",
    "kty": "OKP",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
#: RFC 8037 appendix A.3.
KID = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.fixture
def at(tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock) -> dict[str, object]:
    """Settings of a service with an empty store."""
    (tmp_path / "data").mkdir(mode=0o700)
    with opened_over(tmp_path / "data", service_keys, clock):
        pass
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [JWK]}))
    return {
        "data_dir": tmp_path / "data",
        "key_file": key_file_in(tmp_path, service_keys),
    }


def test_pin_list_and_remove(at: dict[str, object], tmp_path: Path) -> None:
    """What is printed is what an operator compares; scripts get JSON."""
    file = str(tmp_path / "jwks.json")

    done = otpseal("authority", "trust", "add", "uni", file, "--prefix", "shop/", **at)
    assert (0, "") == (done.returncode, done.stderr)
    assert f"uni is believed about accounts shop/*, known by:\n  {KID}\n" == done.stdout

    listed = otpseal("authority", "trust", "list", **at)
    assert f"uni  shop/*  {KID}\n" == listed.stdout
    told = json.loads(otpseal("authority", "trust", "list", "--json", **at).stdout)
    assert {
        "authority": "uni",
        "prefix": "shop/",
        "keys": [KID],
        "added_at": told["added_at"],
        "genuine": True,
    } == told

    gone = otpseal("authority", "trust", "remove", "uni", **at)
    assert "uni is believed no longer\n" == gone.stdout
    assert "" == otpseal("authority", "trust", "list", **at).stdout
    again = otpseal("authority", "trust", "remove", "uni", **at)
    assert (1, True) == (again.returncode, again.stderr.startswith("error: no author"))


def test_a_ca_is_pinned_by_its_certificate(
    at: dict[str, object], tmp_path: Path
) -> None:
    """And shown by the hash that `openssl x509 -fingerprint -sha256` shows."""
    key = ec.generate_private_key(ec.SECP256R1())
    file = tmp_path / "ca.pem"
    file.write_bytes(pem(make_ca("CA", key, now=1_790_000_000.0)))

    done = otpseal("authority", "trust", "add", "uni", str(file), "--json", **at)

    told = json.loads(done.stdout)
    assert ["uni", "", "sha256:"] == [
        told["authority"],
        told["prefix"],
        told["keys"][0][:7],
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["add", "uni", "none.json"], 2, "cannot be read"),
        (["add", "UNI", "jwks.json"], 1, "name has 1 to 64"),
        (["add", "uni", "jwks.json", "--prefix", "shop"], 1, "slash"),
        (["add", "uni", "keys"], 2, "cannot be read"),
        (["add", "uni", "private.json"], 3, "private key"),
    ],
)
def test_what_cannot_be_pinned(
    at: dict[str, object],
    tmp_path: Path,
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    """One line that says why, and nothing of the file."""
    (tmp_path / "private.json").write_text(json.dumps(JWK | {"d": "CANARY"}))
    verb, name, file, *rest = arguments

    done = otpseal("authority", "trust", verb, name, str(tmp_path / file), *rest, **at)

    assert (code, "", True) == (done.returncode, done.stdout, told in done.stderr)
    assert 1 == done.stderr.count("\n")
    assert "CANARY" not in done.stderr


def test_a_planted_row_is_shown_as_what_it_is(
    at: dict[str, object], tmp_path: Path
) -> None:
    """Quoted, so that it does nothing to a terminal; and it can be removed."""
    with closing(sqlite3.connect(tmp_path / "data" / "otpseal.db")) as db:
        row = ("\x1b[2Jevil", "", json.dumps({"keys": [JWK]}), 1.0, b"m" * 32)
        db.execute("INSERT INTO pinned_authorities VALUES (?, ?, ?, ?, ?)", row)
        db.commit()

    listed = otpseal("authority", "trust", "list", **at)

    assert (
        "'\\x1b[2Jevil'    NOT GENUINE: not pinned by this service\n" == listed.stdout
    )
    file = str(tmp_path / "jwks.json")
    done = otpseal("authority", "trust", "add", "uni", file, **at)
    assert (4, True) == (done.returncode, "not written by this service" in done.stderr)
    gone = otpseal("authority", "trust", "remove", "\x1b[2Jevil", **at)
    assert 0 == gone.returncode
    assert "\x1b" not in gone.stdout
