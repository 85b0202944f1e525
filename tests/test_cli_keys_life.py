"""`otpseal keys prepare`, `rotate` and `list` beside two services that run."""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from server_fixture import (
    OTPSEAL,
    Server,
    code_at,
    environment,
    sealed_to,
    serving,
)

from otpseal.adapters.file_keys import RsaKeys, write_key_pair
from otpseal.adapters.key_siblings import next_path
from otpseal.http.jwks import CACHED_S
from otpseal.key_ring import REFRESH_S

_WITHIN_S = 60


@dataclass(frozen=True)
class Pair:
    """Two processes over one store, and the command line beside them."""

    one: Server
    two: Server
    data_dir: Path

    @property
    def both(self) -> tuple[Server, Server]:
        """Both services."""
        return self.one, self.two

    def keys(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `otpseal keys`."""
        settings = {"data_dir": self.data_dir, "key_file": self.one.key_file}
        return subprocess.run(
            [*OTPSEAL, "keys", *arguments],
            env=environment(**settings),
            capture_output=True,
            text=True,
            timeout=_WITHIN_S,
            check=False,
        )

    def brings(self, keys: RsaKeys) -> list[int]:
        """Return what each service answers to the seed, sealed to a key."""
        return [server.bring(sealed_to(keys)).status for server in self.both]

    def published(self) -> list[list[tuple[str, str]]]:
        """Return the RSA import keys that each service publishes, as (kid, use)."""
        sets = [server.get("/.well-known/jwks.json").json for server in self.both]
        return [
            [(key["kid"], key["use"]) for key in one["keys"] if key["kty"] == "RSA"]
            for one in sets
        ]


@pytest.fixture
def pair(tmp_path: Path, service_keys: RsaKeys, other_keys: RsaKeys) -> Iterator[Pair]:
    """Two services; the next key lies ready."""
    second = tmp_path / "second"
    second.mkdir()
    with serving(tmp_path, service_keys) as one:
        write_key_pair(other_keys._private_key, next_path(one.key_file))
        shared = {"data_dir": tmp_path / "data", "key_file": one.key_file}
        with serving(second, service_keys, **shared) as two:
            yield Pair(one, two, tmp_path / "data")


def test_a_rotation_beside_running_services(
    pair: Pair, service_keys: RsaKeys, other_keys: RsaKeys
) -> None:
    """Both follow without a restart: before, in the overlap, and after it."""
    old, new = service_keys.kid, other_keys.kid
    assert [200, 200] == pair.brings(service_keys)
    assert [500, 500] == pair.brings(other_keys)
    assert 2 * [[(old, "enc")]] == pair.published()

    prepared = pair.keys("prepare", "--json")
    _let_them_look()
    assert {"kid": new, "made": False, "published": True} == json.loads(prepared.stdout)
    assert 2 * [[(old, "enc"), (new, "enc")]] == pair.published()

    rotated = pair.keys("rotate", "--overlap", "1h", "--json")
    _let_them_look()
    said = json.loads(rotated.stdout)
    assert (new, old, False) == (said["kid"], said["before"], said["finished"])
    assert [200, 200] == pair.brings(service_keys)
    assert [200, 200] == pair.brings(other_keys)
    assert 2 * [[(new, "enc")]] == pair.published()

    listed = json.loads(pair.keys("list", "--json").stdout)
    assert [(new, "active"), (old, "retiring"), (None, "active")] == [
        (key["kid"], key["state"]) for key in listed if key["use"] != "pq"
    ]


def test_an_overlap_is_not_for_the_storage_key(pair: Pair) -> None:
    """Nobody is left to believe that the old storage key opens for a while."""
    ran = pair.keys("rotate", "--storage", "--overlap", "0s")

    assert (2, "") == (ran.returncode, ran.stdout)
    assert "--overlap" in ran.stderr


def test_a_rotation_without_an_overlap(
    pair: Pair, service_keys: RsaKeys, other_keys: RsaKeys
) -> None:
    """The key before opens nothing any more, in either process."""
    assert [200, 200] == pair.brings(service_keys)

    ran = pair.keys("rotate", "--overlap", "0s")
    _let_them_look()

    assert 0 == ran.returncode, ran.stderr
    assert [500, 500] == pair.brings(service_keys)
    assert [200, 200] == pair.brings(other_keys)


def test_a_new_storage_key_beside_running_services(
    pair: Pair, service_keys: RsaKeys
) -> None:
    """Both take it before they decide: one accepts the code, the other replays it."""
    assert [200, 200] == pair.brings(service_keys)

    ran = pair.keys("rotate", "--storage", "--json")

    code = code_at(time.time())
    answers = [server.verify(code).json for server in pair.both]
    assert 0 == ran.returncode, ran.stderr
    assert 1 == json.loads(ran.stdout)["accounts"]
    assert [{"valid": True}, {"valid": False}] == answers
    assert [200, 200] == [server.get("/health").status for server in pair.both]
    assert [200, 200] == pair.brings(service_keys)


def test_the_key_set_is_for_everybody(pair: Pair, service_keys: RsaKeys) -> None:
    """RFC 7517: its type, cacheable, without access; public members only."""
    reply = pair.one.get("/.well-known/jwks.json")

    key, quantum = reply.json["keys"]
    assert 200 == reply.status
    assert "application/jwk-set+json" == reply.header("content-type")
    assert "public, max-age=60" == reply.header("cache-control")
    assert {"kty", "n", "e", "kid", "use", "alg"} == set(key)
    assert {"kty", "pub", "kid", "use", "alg"} == set(quantum)
    assert ("AKP", "otpseal-pq1") == (quantum["kty"], quantum["alg"])
    assert ("RSA", service_keys.kid, "RSA-OAEP-256") == (
        key["kty"],
        key["kid"],
        key["alg"],
    )


@pytest.mark.parametrize("overlap", ["24", "1w", "-1h", "367d", "1h 30m", "\u0661h"])
def test_a_mistyped_overlap(tmp_path: Path, overlap: str) -> None:
    """Wrong usage, before anything is opened."""
    ran = subprocess.run(
        [*OTPSEAL, "keys", "rotate", f"--overlap={overlap}"],
        env=environment(data_dir=tmp_path / "data"),
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )

    assert 2 == ran.returncode
    assert "366d" in ran.stderr
    assert not (tmp_path / "data").exists()


def _let_them_look() -> None:
    """Wait until a service asks its store again; later is no fault."""
    time.sleep(max(REFRESH_S, CACHED_S) + 0.1)
