"""Two replicas on one PostgreSQL in each other's way: no deadlock, nothing lost.

Their transactions share the database; rows and names are locked, in one order
everywhere. The server's own log is where a deadlock shows, whoever was its victim.
"""

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest
from arena import Arena, arena_on, seed_of
from postgres_fixture import Cluster, Database
from repetitions import rounds
from server_fixture import at_once, code_at, wrong_code_at

from otpseal import access, throttle
from otpseal.access import Scope
from otpseal.accounts import NewAccount
from otpseal.adapters.file_keys import RsaKeys
from otpseal.audit import Kind
from otpseal.errors import ClockBehind, OtpsealError
from otpseal.service import Attempt, Service
from otpseal.verification import Outcome

ACCOUNTS = [f"shop/{number}" for number in range(12)]
STRANGERS = [f"shop/nobody{number}" for number in range(6)]

pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]


def deadlocks(cluster: Cluster) -> int:
    """Return how many deadlocks the server has told of."""
    return (cluster._directory / "log").read_text("utf-8").count("deadlock detected")


def test_a_deadlock_would_be_seen(postgres: Cluster, database: Database) -> None:
    """Negative control: two who lock the same rows in opposite orders."""
    before = deadlocks(postgres)
    database.ask("INSERT INTO marks VALUES ('a', 0), ('b', 0)")
    barrier = threading.Barrier(2)

    def lock(first: str, second: str) -> None:
        connection = psycopg.connect(database.url(scheme="postgresql"))
        with contextlib.closing(connection):
            update = "UPDATE marks SET value = 1 WHERE name = %s"
            connection.execute(update, [first])
            barrier.wait(30)
            connection.execute(update, [second])

    said = at_once(lambda: lock("a", "b"), lambda: lock("b", "a"))

    assert 1 == sum(isinstance(one, psycopg.errors.DeadlockDetected) for one in said)
    assert before + 1 == deadlocks(postgres)


class Hammer:
    """What one thread does to one replica, by a random source of its own."""

    def __init__(self, arena: Arena, tokens: list[str], number: int) -> None:
        self._service = arena.service
        self._tokens = tokens
        self._random = random.Random(number)
        self.answers: Counter[Outcome] = Counter()
        self.accepted: list[tuple[str, int | None]] = []
        self.unknown = 0

    def decide(self) -> None:
        """Submit a batch: codes right and wrong, in any order, by many callers."""
        choose = self._random
        attempts = []
        # Of strangers alone: no account's row puts them in order.
        names = choose.choice([[*ACCOUNTS, *STRANGERS], STRANGERS])
        for account in choose.sample(names, 6):
            now = time.time()
            seed = seed_of(account)
            is_right = choose.random() < 0.3
            code = code_at(now, seed) if is_right else wrong_code_at(now, seed)
            digest = access.token_digest(choose.choice(self._tokens).encode())
            attempts.append(Attempt(code, account, digest))
        for attempt, decision in zip(
            attempts, self._service.verify_batch(attempts), strict=True
        ):
            assert not isinstance(decision, OtpsealError), decision
            self.answers[decision.outcome] += 1
            if decision.outcome is Outcome.ACCEPTED:
                self.accepted.append((attempt.account, decision.step))
            if attempt.account in STRANGERS and decision.outcome is Outcome.WRONG:
                self.unknown += 1

    def administer(self) -> None:
        """Do what an administrator does meanwhile."""
        choose, service = self._random, self._service
        account = choose.choice(ACCOUNTS)
        action = choose.randrange(6)
        if action == 0:
            service.accounts.disable(account)
            service.accounts.enable(account)
        elif action == 1:
            service.accounts.make_recovery_codes(account)
        elif action == 2:
            name = f"made/{choose.randrange(10**9)}"
            service.accounts.create(NewAccount(name))
            service.accounts.delete(name)
        elif action == 3:
            made = service.callers.create("passing", frozenset({Scope.VERIFY}))
            service.callers.revoke(made.caller.id)
        elif action == 4:
            service.upkeep.settle()
        else:
            service.current_codes(choose.sample(ACCOUNTS, 5))


def repeated(action: Callable[[], None], count: int) -> Callable[[], None]:
    """Return what does something again and again."""

    def run() -> None:
        for _ in range(count):
            action()

    return run


def together(*runs: Callable[[], None]) -> None:
    """Run all at the same time; raises what one of them raises."""
    with ThreadPoolExecutor(len(runs)) as threads:
        for future in [threads.submit(run) for run in runs]:
            future.result()


def test_replicas_do_not_deadlock(
    postgres: Cluster, database: Database, service_keys: RsaKeys
) -> None:
    """Batches over the same accounts in any order, and administration beside them.

    No step is accepted twice, and no wrong code is left unrecorded.
    """
    before = deadlocks(postgres)
    # So that codes go on being looked at.
    patient = throttle.Policy(threshold=10**6, disable_at=10**6)
    with (
        arena_on(database.url(), service_keys, policy=patient) as one,
        arena_on(database.url(), service_keys, policy=patient) as other,
    ):
        one.enrol(ACCOUNTS)
        tokens = [one.token(f"caller {number}") for number in range(4)]
        hammers = [Hammer((one, other)[n % 2], tokens, n) for n in range(8)]
        count = len(rounds(40, full=2_000))

        together(
            *[repeated(hammer.decide, count) for hammer in hammers[:6]],
            *[repeated(hammer.administer, count // 2) for hammer in hammers[6:]],
        )

        assert before == deadlocks(postgres)
        accepted = Counter(pair for hammer in hammers for pair in hammer.accepted)
        assert accepted == one.spent()
        assert all(times == 1 for times in accepted.values())
        unknown = sum(hammer.unknown for hammer in hammers)
        assert unknown == counted(one, Kind.ATTEMPT_UNKNOWN)
        answers = {outcome for hammer in hammers for outcome in hammer.answers}
        assert {Outcome.ACCEPTED, Outcome.WRONG, Outcome.REPLAYED} <= answers


def counted(arena: Arena, kind: Kind) -> int:
    """Return how many of a kind the audit log and the open counts have together."""
    with arena.store.transaction() as tx:
        events = tx.newest_events(10**6, kind=kind.value)
        pending = sum(tally.pending for tally in tx.tallies() if tally.kind is kind)
    told = [int(json.loads(row.detail).get("count", 1)) for row in events]
    return pending + sum(told)


def test_replicas_lose_no_count(database: Database, service_keys: RsaKeys) -> None:
    """What is counted for no account, whose row would be locked, is counted whole.

    Here: attempts that both replicas refuse because their clocks are wrong.
    """
    count = len(rounds(25, full=1_000))
    with (
        arena_on(database.url(), service_keys) as one,
        arena_on(database.url(), service_keys) as other,
    ):
        attempt = Attempt("000000", "nobody")
        for arena in (one, other):
            arena.service.clock = lambda: time.time() - 100.0

        def refuse(service: Service) -> None:
            (error,) = service.verify_batch([attempt])
            assert isinstance(error, ClockBehind)

        services = [one.service, other.service] * 3
        together(*[repeated(partial(refuse, each), count) for each in services])

        assert 6 * count == counted(one, Kind.CLOCK_BEHIND)
