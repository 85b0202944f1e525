"""Clocks that are wrong, end to end: the real program with a wall clock of its own.

The rules themselves are tested with an injected clock (`test_wallclock.py`); here
the operating system's clock is what lies, by libfaketime.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from arena import Arena, arena_on, seed_of, verify
from faked_clock import FakedClock
from postgres_fixture import Database
from server_fixture import (
    Reply,
    Server,
    code_at,
    key_file_in,
    otpseal,
    sealed_to,
    serving,
    wrong_code_at,
)

from otpseal.adapters.file_keys import RsaKeys
from otpseal.timekeeper import CLOCK_MARK

YEAR_S = 365 * 86_400.0

pytestmark = pytest.mark.timeout(300)


@dataclass
class Clocked:
    """A running server with a clock to turn, and callers."""

    server: Server
    clock: FakedClock
    arena: Arena
    token: str

    def verify(self, account: str, code: str) -> Reply:
        """Submit a code by the v1 API."""
        reply = verify(self.server.port, self.token, account, code)
        assert reply is not None
        return reply

    def right(self, account: str) -> str:
        """Return the right code by the server's clock."""
        return code_at(self.clock(), seed_of(account))

    def mark(self) -> float:
        """Return the time that the store has seen, in Unix seconds."""
        with self.arena.store.transaction() as tx:
            found = tx.mark(CLOCK_MARK)
        assert found is not None
        return found / 1000

    def health(self) -> tuple[int, object]:
        """Return what health says, with nothing cached."""
        time.sleep(1.1)
        reply = self.server.get("/health")
        return reply.status, reply.json

    def events(self, kind: str) -> int:
        """Return how many events of a kind the audit log has."""
        with self.arena.store.transaction() as tx:
            return len(tx.newest_events(10**6, kind=kind))


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys
) -> Iterator[Clocked]:
    """A server over an SQLite file, for all tests of this module."""
    directory = tmp_path_factory.mktemp("faketime")
    clock = FakedClock(directory)
    with (
        serving(directory, service_keys, program=clock.program) as server,
        arena_on(
            f"sqlite:///{directory / 'data' / 'otpseal.db'}", service_keys
        ) as made,
    ):
        yield Clocked(server, clock, made, made.token())
        assert server.process.poll() is None
        assert "Traceback" not in server.log()


@pytest.fixture
def clocked(running: Clocked) -> Clocked:
    """The same, its clock right."""
    running.clock.turn_to(0)
    return running


def test_a_clock_set_back_reopens_nothing(
    clocked: Clocked, service_keys: RsaKeys
) -> None:
    """By a minute: nothing is verified, and that is told; all is well when it is right.

    A code that was used stays used throughout.
    """
    clocked.arena.enrol(["back/used", "back/fresh"])
    used = clocked.right("back/used")
    assert clocked.server.bring(sealed_to(service_keys)).status == 200
    assert clocked.verify("back/used", used).json["valid"] is True

    clocked.clock.turn_to(-60)
    refused = [
        clocked.verify("back/used", used),
        clocked.verify("back/used", clocked.right("back/used")),
        clocked.verify("back/fresh", clocked.right("back/fresh")),
        clocked.verify("nobody", "000000"),
    ]
    classic = clocked.server.verify(code_at(clocked.clock()))
    health = clocked.health()
    told = clocked.events("clock.behind")
    clocked.clock.turn_to(0)

    assert [(503, "clock_behind")] * 4 == [(r.status, r.json["code"]) for r in refused]
    assert {"5"} == {reply.header("retry-after") for reply in refused}
    assert (503, b'{"error":"Store unavailable"}') == (classic.status, classic.body)
    assert (503, {"status": "degraded", "reason": "clock behind"}) == health
    assert told >= 1
    assert clocked.verify("back/used", used).json["valid"] is False
    fresh = clocked.verify("back/fresh", clocked.right("back/fresh"))
    assert fresh.json["valid"] is True
    assert (200, {"status": "ok"}) == clocked.health()


def test_a_leap_ahead_does_not_poison_the_mark(clocked: Clocked) -> None:
    """A year ahead and back: no more was seen than time that passed; it works after."""
    clocked.arena.enrol(["leap"])

    clocked.clock.turn_to(YEAR_S)
    for _ in range(2):
        code = wrong_code_at(clocked.clock(), seed_of("leap"))
        assert 200 == clocked.verify("leap", code).status
        time.sleep(1.1)  # the mark moves once a second
    assert (200, {"status": "ok"}) == clocked.health()
    seen = clocked.mark()
    clocked.clock.turn_to(0)

    assert seen < time.time() + 5
    assert clocked.verify("leap", clocked.right("leap")).json["valid"] is True
    assert (200, {"status": "ok"}) == clocked.health()


def test_a_process_started_ahead_poisons_the_mark_until_it_is_accepted(
    tmp_path: Path, service_keys: RsaKeys
) -> None:
    """It has no clock to contradict it; a right one refuses until somebody decides."""
    clock = FakedClock(tmp_path)
    url = f"sqlite:///{tmp_path / 'data' / 'otpseal.db'}"
    clock.turn_to(YEAR_S)
    with (
        serving(tmp_path, service_keys, program=clock.program) as server,
        arena_on(url, service_keys) as arena,
    ):
        arena.enrol(["ahead", "other"])
        clocked = Clocked(server, clock, arena, arena.token())
        poisoned = clocked.right("ahead")
        assert clocked.verify("ahead", poisoned).json["valid"] is True
        assert clocked.mark() > time.time() + YEAR_S - 60

        clock.turn_to(0)
        refused = clocked.verify("other", clocked.right("other"))
        assert (503, "clock_behind") == (refused.status, refused.json["code"])
        assert (503, {"status": "degraded", "reason": "clock behind"}) == (
            clocked.health()
        )

        if otpseal("clock", "accept", "--help").returncode != 0:
            pytest.skip("there is no `otpseal clock accept` yet")
        key_file = key_file_in(tmp_path, service_keys)
        done = otpseal("clock", "accept", data_dir=tmp_path / "data", key_file=key_file)
        assert 0 == done.returncode, done.stderr

        # Not the codes that are in the window now: they may be spent.
        spent = clocked.verify("other", clocked.right("other"))
        assert (200, False) == (spent.status, spent.json["valid"])
        assert 1 == clocked.events("clock.accepted")
        assert (200, {"status": "ok"}) == clocked.health()


def test_a_replica_that_is_off_refuses_only_itself(
    database: Database, tmp_path: Path, service_keys: RsaKeys
) -> None:
    """By ten seconds either way; the other goes on, and so does it once it is right."""
    clock = FakedClock(tmp_path)
    url = database.url()
    off, right = tmp_path / "off", tmp_path / "right"
    off.mkdir()
    right.mkdir()
    with (
        serving(off, service_keys, database_url=url, program=clock.program) as one,
        serving(right, service_keys, database_url=url) as other,
        arena_on(url, service_keys) as arena,
    ):
        token = arena.token()
        faked = Clocked(one, clock, arena, token)
        exact = Clocked(other, clock, arena, token)
        for account, ahead_s in ("behind", -10.0), ("ahead", 10.0):
            arena.enrol([account, f"{account}/later"])
            code = code_at(time.time(), seed_of(account))
            clock.turn_to(ahead_s)

            refused = faked.verify(account, code)
            accepted = exact.verify(account, code)
            health = [faked.health()[0], exact.health()[0]]
            clock.turn_to(0)
            replayed = faked.verify(account, code)
            later = f"{account}/later"
            fresh = faked.verify(later, faked.right(later))

            assert (503, "clock_behind") == (refused.status, refused.json["code"])
            assert accepted.json["valid"] is True
            assert [503, 200] == health
            assert {"valid": False, "reason": "replayed"} == replayed.json
            assert fresh.json["valid"] is True
