"""Exactly once, by force, through HTTP: four workers, or two replicas.

Sixteen client processes hold connections that are open already, and send one code at
one instant.
"""

import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from arena import Arena, arena_on, verify, verify_request
from careless import ReadThenWrite
from conftest import TurnedClock
from racers import PARTIES, Racers, racing
from repetitions import rounds
from server_fixture import Api, Server, code_at, served_here, serving

from otpseal.adapters.file_keys import RsaKeys
from otpseal.secret import Secret

ACCEPTED, REPLAYED = "accepted", "replayed"
ONCE = Counter({ACCEPTED: 1, REPLAYED: PARTIES - 1})

pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]


@contextmanager
def fleet(
    kind: str,
    request: pytest.FixtureRequest,
    directory: Path,
    keys: RsaKeys,
    *,
    workers: int = 4,
) -> Iterator[tuple[str, list[Server]]]:
    """Serve one store by several processes; gives its URL and the servers."""
    with ExitStack() as stack:
        if kind == "workers":
            url = f"sqlite:///{directory / 'data' / 'otpseal.db'}"
            server = serving(directory, keys, workers=workers)
            yield url, [stack.enter_context(server)]
            return
        url = request.getfixturevalue("database").url()
        servers = []
        for name in ("one", "two"):
            (directory / name).mkdir(exist_ok=True)
            server = serving(
                directory / name,
                keys,
                database_url=url,
                key_file=directory / "one" / "keys" / "student_private.pem",
            )
            servers.append(stack.enter_context(server))
        yield url, servers


def classic_request(code: str) -> bytes:
    """Return a classic verify request."""
    body = json.dumps({"code": code})
    return (
        "POST /verify-2fa HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def verdict(body: str) -> str:
    """Return what an answer of either API says, in one word; or the whole of it."""
    content = json.loads(body) if body.startswith("{") else {}
    if content.get("valid") is True:
        return ACCEPTED
    # The classic API does not say why.
    is_refused = content == {"valid": False} or content.get("reason") == REPLAYED
    return REPLAYED if is_refused else body


def race(racers: Racers, servers: Sequence[Api], request: bytes) -> Counter[str]:
    """Send one request sixteen times at one instant, spread over the servers."""
    orders = [
        {"port": servers[number % len(servers)].port, "request": request.decode()}
        for number in range(PARTIES)
    ]
    return Counter(verdict(body) for body in racers.race(orders))


def fresh(arena: Arena, account: str, now: float) -> str:
    """Give an account a new seed; returns its code at `now`."""
    seed = Secret(secrets.token_bytes(20))
    arena.service.import_seed(
        seed, account=account, source="test", replace_existing=True
    )
    return code_at(now, seed)


@pytest.mark.parametrize("kind", ["workers", "replicas"])
def test_of_sixteen_requests_one_is_accepted(
    tmp_path: Path, service_keys: RsaKeys, request: pytest.FixtureRequest, kind: str
) -> None:
    """By the v1 API and by the classic one; after a restart the codes stay spent."""
    found = []
    with (
        fleet(kind, request, tmp_path, service_keys) as (url, servers),
        arena_on(url, service_keys) as arena,
        racing() as racers,
    ):
        token = arena.token()
        for _ in rounds(5, full=500):
            code = fresh(arena, "shop/alice", time.time())
            asked = verify_request(token, "shop/alice", code)
            found.append(race(racers, servers, asked))
            classic_code = fresh(arena, "default", time.time())
            found.append(race(racers, servers, classic_request(classic_code)))

    with fleet(kind, request, tmp_path, service_keys, workers=1) as (_, servers):
        for server in servers:
            again = verify(server.port, token, "shop/alice", code)
            assert again is not None
            assert {"valid": False, "reason": "replayed"} == again.json
            assert {"valid": False} == server.verify(classic_code).json
    assert [ONCE] * len(found) == found


def test_the_race_finds_servers_that_read_and_then_write(
    tmp_path: Path, service_keys: RsaKeys
) -> None:
    """Negative control: two servers without the lock accept one code twice."""
    clock = TurnedClock(1_800_000_000.0)
    url = f"sqlite:///{tmp_path / 'otpseal.db'}"
    with (
        served_here(tmp_path, service_keys, clock, wrap=ReadThenWrite) as one,
        served_here(tmp_path, service_keys, clock, wrap=ReadThenWrite) as other,
        arena_on(url, service_keys) as arena,
        racing() as racers,
    ):
        found = 0
        for _ in range(50):
            asked = classic_request(fresh(arena, "default", clock()))
            found = race(racers, [one, other], asked)[ACCEPTED]
            if found > 1:
                break

    assert found > 1
