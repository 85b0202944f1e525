"""Group commit: accepted once whatever races, told only when it is durable.

Races are forced, not hoped for: the injected clock is read inside the transaction,
and there a test makes one party wait for the other.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from memory_store import MemoryStore, MemoryTransaction
from stores import make_sqlite

from otpseal import totp
from otpseal.account_state import State
from otpseal.committer import MAX_BATCH, MAX_WAITING, Answer, Batcher, Committer
from otpseal.errors import OtpsealError, Overloaded, SeedMissing, StoreUnavailable
from otpseal.ports import Clock, Store
from otpseal.secret import Secret
from otpseal.service import Attempt, Service
from otpseal.storage_key import StorageKey
from otpseal.verification import Decision, Outcome

SEED = Secret(bytes(range(32)))
NOW = 1_800_000_000.0
CODE = totp.generate(SEED, NOW).text
STORAGE_KEY = StorageKey(Secret(b"k" * 32))
T = TypeVar("T")
R = TypeVar("R")
LONG_S = 20.0  # for what must happen; nothing waits so long when all is well
SHORT_S = 0.3  # for what must not happen


def service_on(store: Store, clock: Clock = lambda: NOW) -> Service:
    """Return a service with the same storage key as every other here."""
    # No sealed seed is opened here, so that no RSA key is needed.
    return Service(store, keys=None, storage_key=STORAGE_KEY, clock=clock)  # type: ignore[arg-type]


class Seam:
    """A clock that stops whoever reads it inside his transaction."""

    def __init__(self, parties: int) -> None:
        self.arrived = threading.Semaphore(0)
        self._barrier = threading.Barrier(parties)

    def __call__(self) -> float:
        """Wait for the others, if they can come; then give the time."""
        self.arrived.release()
        try:
            self._barrier.wait(SHORT_S)
        except threading.BrokenBarrierError:
            self._barrier.reset()
        return NOW


class Unlocked(MemoryStore):
    """The mistake: reads and decides in one transaction, writes in another."""

    @contextmanager
    def transaction(
        self, *, patience_s: float = 4.0, shared: bool = False
    ) -> Iterator[MemoryTransaction]:
        """Open a transaction that holds no lock between reading and writing."""
        tx = MemoryTransaction(self.committed.copy())
        yield tx
        with self._lock:
            self.committed = tx.tables


def race(services: Sequence[Service]) -> list[Outcome]:
    """Have each service decide about the same code at the same time."""
    outcomes: list[Outcome] = []

    def attempt(service: Service) -> None:
        outcomes.append(service.verify(CODE).outcome)

    threads = [threading.Thread(target=attempt, args=[one]) for one in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    return sorted(outcomes, key=lambda outcome: outcome.name)


ONCE = [Outcome.ACCEPTED, Outcome.REPLAYED]


# Accepted once.


@pytest.mark.parametrize("make", [lambda _: MemoryStore(), make_sqlite])
def test_two_threads_one_acceptance(
    tmp_path: Path, make: Callable[[Path], Store]
) -> None:
    """Two that decide about one code at one instant: one is accepted, one replayed."""
    store = make(tmp_path)
    service_on(store).import_seed(SEED, source="sealed")
    service = service_on(store, Seam(2))

    assert race([service, service]) == ONCE
    store.close()


def test_two_services_one_acceptance(tmp_path: Path) -> None:
    """The same, by two services with connections and locks of their own."""
    stores = make_sqlite(tmp_path), make_sqlite(tmp_path)
    service_on(stores[0]).import_seed(SEED, source="sealed")
    seam = Seam(2)

    assert race([service_on(store, seam) for store in stores]) == ONCE
    for store in stores:
        store.close()


def test_the_race_is_real() -> None:
    """Negative control: without the lock the same race accepts the code twice."""
    store = Unlocked()
    service_on(store).import_seed(SEED, source="sealed")
    service = service_on(store, Seam(2))

    assert race([service, service]) == [Outcome.ACCEPTED, Outcome.ACCEPTED]


_ATTEMPT = """
import sys
from pathlib import Path
from typing import TypeVar
from test_committer import CODE, NOW, service_on
from stores import make_sqlite

def clock():
    print("in the transaction")
    sys.stdin.readline()
    return NOW

service = service_on(make_sqlite(Path(sys.argv[1])), clock)
print("ready")
sys.stdin.readline()
print(service.verify(CODE).outcome.name)
"""


def test_two_processes_one_acceptance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one process decides, the other waits; then it finds the step spent."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    store = make_sqlite(tmp_path)
    service_on(store).import_seed(SEED, source="sealed")
    command = [sys.executable, "-u", "-c", _ATTEMPT, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    first, second = (subprocess.Popen(command, **pipes) for _ in range(2))

    def go(process: subprocess.Popen[str]) -> None:
        process.stdin.write("go\n")
        process.stdin.flush()

    for process in (first, second):
        assert process.stdout.readline() == "ready\n"
    go(first)
    assert first.stdout.readline() == "in the transaction\n"
    go(second)  # to begin, and, read ahead, to go on: it cannot come so far
    second_said = threading.Thread(target=second.stdout.readline)
    second_said.start()
    second_said.join(SHORT_S)
    assert second_said.is_alive()
    go(first)
    assert first.communicate(timeout=LONG_S)[0] == "ACCEPTED\n"
    second_said.join(LONG_S)
    assert second.communicate("go\n", timeout=LONG_S)[0] == "REPLAYED\n"
    store.close()


def test_one_code_submitted_by_many_is_accepted_once(tmp_path: Path) -> None:
    """Of a thousand submissions of one code, in batches as they come, one is right."""
    store = make_sqlite(tmp_path)
    service = service_on(store)
    service.import_seed(SEED, source="sealed")
    committer = Committer(service)

    futures = [committer.submit(Attempt(CODE)) for _ in range(1000)]
    outcomes = [future.result(LONG_S).outcome for future in futures]

    assert outcomes.count(Outcome.ACCEPTED) == 1
    assert outcomes.count(Outcome.REPLAYED) == 999
    committer.close()
    store.close()


# Told only when durable.


class Watched(MemoryStore):
    """A store that fails or stops at the commit when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.fail_at = ""
        self.before_commit: Callable[[], None] = lambda: None

    @contextmanager
    def transaction(
        self, *, patience_s: float = 4.0, shared: bool = False
    ) -> Iterator[MemoryTransaction]:
        """Open a transaction; fails at its begin or at its commit."""
        if self.fail_at == "begin":
            raise StoreUnavailable("no room")
        with super().transaction() as tx:
            yield tx
            self.before_commit()
            if self.fail_at == "commit":
                raise StoreUnavailable("no room")


@pytest.fixture
def store() -> Watched:
    """A store in memory that holds the seed."""
    made = Watched()
    service_on(made).import_seed(SEED, source="sealed")
    return made


@pytest.fixture
def committer(store: Watched) -> Iterator[Committer]:
    """A committer over it."""
    made = Committer(service_on(store))
    yield made
    made.close()


def test_nothing_is_told_before_the_commit(
    store: Watched, committer: Committer
) -> None:
    """At the moment of the commit no caller has an answer; after it each has."""
    committing, go_on = threading.Event(), threading.Event()

    def before_commit() -> None:
        committing.set()
        go_on.wait(LONG_S)

    store.before_commit = before_commit
    future = committer.submit(Attempt(CODE))

    assert committing.wait(LONG_S)
    told_before = future.done()
    go_on.set()

    assert future.result(LONG_S).outcome is Outcome.ACCEPTED
    assert not told_before
    row = store.committed.accounts["default"]
    assert row.state.last_step == int(NOW) // 30


@pytest.mark.parametrize("fail_at", ["begin", "commit"])
def test_a_failing_store_answers_everybody_and_the_thread_lives(
    store: Watched, committer: Committer, fail_at: str
) -> None:
    """Each caller hears that the store is unavailable; later attempts are decided."""
    before = store.committed
    store.fail_at = fail_at

    futures = [committer.submit(Attempt(CODE)) for _ in range(10)]
    codes = [ask(committer.current_code, "default") for _ in range(10)]
    errors = [future.exception(LONG_S) for future in (*futures, *codes)]

    assert all(isinstance(error, StoreUnavailable) for error in errors)
    assert store.committed is before
    store.fail_at = ""
    assert committer.submit(Attempt(CODE)).result(LONG_S).outcome is Outcome.ACCEPTED
    assert ask(committer.current_code, "default").result(LONG_S).text == CODE


def test_errors_stay_with_their_attempt(committer: Committer) -> None:
    """An account without a seed, or an impossible name, spoils nobody's decision."""
    names = ["none", "default", "\ud800", "none", "\0", "n" * 10_000]
    futures = [committer.submit(Attempt(CODE, name)) for name in names]

    wait(futures, LONG_S)

    _, right, *_ = futures
    assert right.result().outcome is Outcome.ACCEPTED
    others = [future.exception() for future in futures if future is not right]
    assert all(isinstance(error, SeedMissing) for error in others)


# The queue.


def ask(submit: Callable[[T, Answer[R]], None], item: T) -> Future[R]:
    """Submit `item`; return a future of its answer."""
    future: Future[R] = Future()

    def answer(result: R | BaseException) -> None:
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)

    submit(item, answer)
    return future


class Held:
    """A handler that waits until it may go on, and notes its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.busy, self.go_on = threading.Event(), threading.Event()
        self.failure: BaseException | None = None

    def __call__(self, batch: Sequence[int]) -> list[int | OtpsealError]:
        """Double each number."""
        self.batches.append(list(batch))
        self.busy.set()
        self.go_on.wait(LONG_S)
        if self.failure is not None:
            raise self.failure
        return [2 * number for number in batch]


@pytest.fixture
def held() -> Held:
    """A handler that waits."""
    return Held()


@pytest.fixture
def batcher(held: Held) -> Iterator[Batcher[int, int]]:
    """A batcher whose thread is in the handler with the item -1."""
    made: Batcher[int, int] = Batcher(held, name="test")
    ask(made.submit, -1)
    assert held.busy.wait(LONG_S)
    yield made
    held.go_on.set()
    made.close()


def test_what_waits_is_one_batch(held: Held, batcher: Batcher[int, int]) -> None:
    """What comes while a batch is handled is the next batch, in order, up to a size."""
    futures = [ask(batcher.submit, number) for number in range(MAX_BATCH + 3)]

    held.go_on.set()

    results = [future.result(LONG_S) for future in futures]
    assert [2 * number for number in range(MAX_BATCH + 3)] == results
    assert [[-1], [*range(MAX_BATCH)], [*range(MAX_BATCH, MAX_BATCH + 3)]] == (
        held.batches
    )


def test_too_many_are_told_to_come_back(held: Held, batcher: Batcher[int, int]) -> None:
    """Beyond the bound a caller is refused at once; those who wait are answered."""
    futures = [ask(batcher.submit, number) for number in range(MAX_WAITING)]

    with pytest.raises(Overloaded):
        ask(batcher.submit, 0)

    held.go_on.set()
    wait(futures, LONG_S)
    assert [2 * number for number in range(MAX_WAITING)] == [
        future.result() for future in futures
    ]
    assert ask(batcher.submit, 1).result(LONG_S) == 2


def test_who_gives_up_ends_nothing(store: Watched, committer: Committer) -> None:
    """A client that hangs up cancels its future: everybody else is still answered.

    To answer a cancelled future raises: it must not be the end of the thread.
    """
    committing, go_on = threading.Event(), threading.Event()

    def before_commit() -> None:
        committing.set()
        go_on.wait(LONG_S)

    store.before_commit = before_commit
    futures = [committer.submit(Attempt(CODE)) for _ in range(4)]
    assert committing.wait(LONG_S)

    given_up = [future.cancel() for future in futures[:3]]
    go_on.set()

    assert futures[3].result(LONG_S).outcome is Outcome.REPLAYED
    assert given_up == [True] * 3
    assert committer.submit(Attempt(CODE)).result(LONG_S).outcome is Outcome.REPLAYED


@pytest.mark.parametrize("failure", [ValueError("bug"), SystemExit(), MemoryError()])
def test_whatever_happens_the_thread_lives(
    held: Held, batcher: Batcher[int, int], failure: BaseException
) -> None:
    """Any exception of the handler is the answer of that batch, not the end."""
    held.failure = failure
    future = ask(batcher.submit, 1)
    held.go_on.set()

    assert future.exception(LONG_S) is failure
    held.failure = None
    assert ask(batcher.submit, 2).result(LONG_S) == 4


def test_a_handler_that_forgets_an_answer_is_found_out() -> None:
    """Too few results answer nobody wrongly: all hear of it, and the thread lives."""
    batcher: Batcher[int, int] = Batcher(
        lambda batch: [number for number in batch if number], name="test"
    )

    forgotten = ask(batcher.submit, 0)

    assert isinstance(forgotten.exception(LONG_S), ValueError)
    assert ask(batcher.submit, 3).result(LONG_S) == 3
    batcher.close()


def test_closing_answers_what_waits(held: Held) -> None:
    """Who waited when the service was stopped is answered; who comes later refused."""
    batcher: Batcher[int, int] = Batcher(held, name="test")
    first = ask(batcher.submit, 1)
    assert held.busy.wait(LONG_S)
    waiting = [ask(batcher.submit, number) for number in range(MAX_BATCH * 2)]

    closing = threading.Thread(target=batcher.close)
    closing.start()
    closing.join(SHORT_S)
    assert closing.is_alive()
    with pytest.raises(StoreUnavailable, match="stopping"):
        ask(batcher.submit, 3)
    held.go_on.set()
    closing.join(LONG_S)

    assert not closing.is_alive()
    assert first.result(0) == 2
    assert [2 * number for number in range(MAX_BATCH * 2)] == [
        future.result(0) for future in waiting
    ]
    batcher.close()  # a second time is nothing


def test_a_committer_under_load_counts_every_failure(tmp_path: Path) -> None:
    """Wrong codes from many threads: each is in the count and in the audit log."""
    from test_sql_engine import NO_LIMIT

    store = make_sqlite(tmp_path)
    service = Service(
        store,
        keys=None,  # type: ignore[arg-type]
        storage_key=STORAGE_KEY,
        clock=lambda: NOW,
        policy=NO_LIMIT,
    )
    service.import_seed(SEED, source="sealed")
    committer = Committer(service)
    wrong = f"{(int(CODE) + 1) % 10**6:06d}"
    futures: list[Future[Decision]] = []

    def submit() -> None:
        futures.extend(committer.submit(Attempt(wrong)) for _ in range(100))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait(futures, LONG_S)
    committer.close()

    row = service.account()
    assert row is not None
    assert State(failures=400, budget=row.state.budget) == row.state
    assert row.state.budget.failures == 400
    with store.transaction() as tx:
        assert len(tx.newest_events(10**6, kind="attempt.wrong")) == 400
    store.close()


def test_who_waited_too_long_is_not_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    """He is told that the store is unavailable, and that stays true."""
    monkeypatch.setattr("otpseal.committer.MAX_QUEUED_S", 0.05)
    handled: list[int] = []
    gate = threading.Event()

    def handle(items: Sequence[int]) -> list[int]:
        handled.extend(items)
        gate.wait(LONG_S)
        return [*items]

    batcher: Batcher[int, int] = Batcher(handle, name="test")
    first = ask(batcher.submit, 1)
    while not handled:
        time.sleep(0.001)
    late = ask(batcher.submit, 2)
    time.sleep(0.2)

    gate.set()

    assert first.result(LONG_S) == 1
    with pytest.raises(StoreUnavailable):
        late.result(LONG_S)
    batcher.close()
    assert [1] == handled
