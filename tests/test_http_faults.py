"""Faults that really happen: the service refuses, accepts nothing, and recovers."""

import contextlib
import fcntl
import logging
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
import small_disk
from conftest import TurnedClock
from server_fixture import (
    JSON_TYPE,
    SEED,
    Here,
    Reply,
    Server,
    at_once,
    code_at,
    copy_store,
    opened_over,
    parse_reply,
    read_all,
    sealed_to,
    served_here,
    serving,
    wrong_code_at,
)

from otpseal.adapters.file_keys import RsaKeys
from otpseal.adapters.sql_engine import PATIENCE_S
from otpseal.errors import StoreUnavailable
from otpseal.http.app import HEALTH_DEADLINE_S
from otpseal.http.bridge import STORE_DEADLINE_S
from otpseal.http.limits import DECRYPTIONS, WAITING_DECRYPTIONS
from otpseal.ports import Store, Transaction

UNAVAILABLE = b'{"error":"Store unavailable"}'
UNREADABLE = b'{"error":"Stored seed cannot be read"}'
INTERNAL = b'{"error":"Internal error"}'
CANARY = "cAnArY7f3a91"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys
) -> Iterator[Server]:
    """The real program with a seed: it has to survive every fault of this module."""
    with serving(tmp_path_factory.mktemp("faults"), service_keys) as running:
        assert running.bring(sealed_to(service_keys)).status == 200
        yield running
        assert running.process.poll() is None
        assert "Traceback" not in running.log()


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory, service_keys: RsaKeys) -> Path:
    """A store with the contract's seed, to be copied."""
    directory = tmp_path_factory.mktemp("seeded")
    with opened_over(directory, service_keys, TurnedClock(1_800_000_000.0)) as opened:
        opened.service.import_seed(SEED, source="test")
    return directory


def said(reply: Reply) -> tuple[int, bytes]:
    """Return what a client looks at first."""
    return reply.status, reply.body


def database(server: Server) -> Path:
    """Return the server's database file."""
    return server.directory / "data" / "otpseal.db"


def fresh_code(server: Server) -> str:
    """Make every code unspent again, and the count of wrong ones nought."""
    with closing(sqlite3.connect(database(server), timeout=10)) as db, db:
        db.execute("UPDATE accounts SET last_step = -1, failures = 0, wait_until = 0")
    return code_at(time.time())


def assert_works(server: Server, code: str) -> None:
    """Check that the service does its work again by itself, within two seconds.

    The code that was refused by the fault was not spent by it.
    """
    deadline = time.monotonic() + 2
    reply = server.verify(code)
    while reply.status == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
        reply = server.verify(code)
    assert said(reply) == (200, b'{"valid":true}')
    assert said(server.verify(code)) == (200, b'{"valid":false}')
    assert server.get("/generate-2fa").status == 200


@contextmanager
def journal_blocked(server: Server) -> Iterator[None]:
    """A directory where SQLite's journal has to be: as in a directory gone read-only.

    A test that runs as root could not be refused by a mode.
    """
    journal = database(server).with_name("otpseal.db-journal")
    journal.unlink(missing_ok=True)
    journal.mkdir()
    try:
        yield
    finally:
        journal.rmdir()


@contextmanager
def overwritten(server: Server) -> Iterator[None]:
    """The database overwritten by garbage in place, then restored in place."""
    path = database(server)
    good = path.read_bytes()
    path.write_bytes(os.urandom(len(good)))
    try:
        yield
    finally:
        path.write_bytes(good)


@contextmanager
def replaced(server: Server) -> Iterator[None]:
    """Another file in the database's place, then the database back from a copy."""
    path = database(server)
    backup = path.with_name("backup")
    backup.write_bytes(path.read_bytes())
    garbage = path.with_name("garbage")
    garbage.write_bytes(os.urandom(50_000))
    garbage.replace(path)
    try:
        yield
    finally:
        backup.replace(path)


@contextmanager
def moved(server: Server) -> Iterator[None]:
    """The database moved away, and back."""
    path = database(server)
    away = path.with_name("away")
    path.rename(away)
    try:
        yield
    finally:
        away.replace(path)


Fault = Callable[[Server], AbstractContextManager[None]]


@pytest.mark.parametrize("fault", [journal_blocked, overwritten, moved])
def test_a_broken_store_accepts_nothing(
    server: Server, service_keys: RsaKeys, fault: Fault
) -> None:
    """503 with Retry-After for what has to be durable; no restart is needed after."""
    code = fresh_code(server)

    with fault(server):
        for attempt in (code, wrong_code_at(time.time()), code):
            reply = server.verify(attempt)
            assert said(reply) == (503, UNAVAILABLE)
            assert reply.header("retry-after") == "1"
        assert said(server.bring(sealed_to(service_keys))) == (503, UNAVAILABLE)

    assert_works(server, code)


def test_a_database_that_is_replaced(tmp_path: Path, service_keys: RsaKeys) -> None:
    """503 while it is garbage; a backup that is moved into its place is taken up."""
    with serving(tmp_path, service_keys) as server:
        assert server.bring(sealed_to(service_keys)).status == 200
        code = code_at(time.time())

        with replaced(server):
            assert said(server.verify(code)) == (503, UNAVAILABLE)
            assert said(server.get("/generate-2fa")) == (503, UNAVAILABLE)

        assert_works(server, code)


def test_a_nearly_full_disk_accepts_only_what_is_durable(
    tmp_path: Path, service_keys: RsaKeys
) -> None:
    """Whatever was answered 200 on a full disk is known after a restart."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk.tmpfs(disk) as full:
        with serving(tmp_path, service_keys, data_dir=disk / "data") as server:
            assert server.bring(sealed_to(service_keys)).status == 200
            code = code_at(time.time())
            with full():
                replies = [said(server.verify(code)) for _ in range(3)]
                server.process.kill()  # not even a clean stop
                server.process.wait()

        with serving(tmp_path, service_keys, data_dir=disk / "data") as server:
            after = server.verify(code).json["valid"]

    verdicts = [(200, b'{"valid":true}'), (200, b'{"valid":false}'), (503, UNAVAILABLE)]
    assert set(replies) <= set(verdicts)
    assert replies.count(verdicts[0]) + after == 1


def test_a_full_disk_accepts_nothing(tmp_path: Path, service_keys: RsaKeys) -> None:
    """503, health says why; all is well again as soon as there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with (
        small_disk.tmpfs(disk) as full,
        serving(tmp_path, service_keys, data_dir=disk / "data") as server,
    ):
        assert server.bring(sealed_to(service_keys)).status == 200
        assert server.get("/health").status == 200
        code = code_at(time.time())

        # The journal keeps its blocks, so that a little can still be written; without
        # it there is no room at all.
        (disk / "data" / "otpseal.db-journal").unlink()
        with full():
            for attempt in (code, wrong_code_at(time.time()), code):
                assert said(server.verify(attempt)) == (503, UNAVAILABLE)
            time.sleep(1.1)  # health is cached for a second
            reason = (
                b'{"status":"degraded","reason":"less than 5 % of the disk is free"}'
            )
            assert said(server.get("/health")) == (503, reason)

        assert_works(server, code)
        time.sleep(1.1)
        assert said(server.get("/health")) == (200, b'{"status":"ok"}')


@contextmanager
def lock_held(server: Server) -> Iterator[None]:
    """The store's lock in the hands of a process that does not let go."""
    with (server.directory / "data" / "store.lock").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_lock_that_is_never_given_back(server: Server, service_keys: RsaKeys) -> None:
    """503 before the callers' deadline on every call; what was told so is not done."""
    code = fresh_code(server)
    sealed = sealed_to(service_keys)

    def timed(ask: Callable[[], Reply]) -> tuple[Reply, float]:
        began = time.monotonic()
        return ask(), time.monotonic() - began

    time.sleep(1.1)  # health is cached for a second
    with lock_held(server):
        answers = at_once(
            lambda: timed(lambda: server.verify(code)),
            lambda: timed(lambda: server.get("/generate-2fa")),
            lambda: timed(lambda: server.bring(sealed)),
            lambda: timed(lambda: server.get("/health")),
        )
        again = timed(lambda: server.get("/health"))

    *calls, health = answers
    for reply, took in calls:
        assert said(reply) == (503, UNAVAILABLE)
        assert PATIENCE_S - 0.5 < took < STORE_DEADLINE_S
    for reply, took in (health, again):
        degraded = b'{"status":"degraded","reason":"store unavailable"}'
        assert said(reply) == (503, degraded)
        assert took < HEALTH_DEADLINE_S + 1
    time.sleep(0.5)  # what waited would be done by now
    assert_works(server, code)
    time.sleep(1.1)
    assert server.get("/health").status == 200


def test_a_row_that_does_not_decrypt(server: Server, service_keys: RsaKeys) -> None:
    """500 on every call, never valid:false; the account stands in the log only."""
    code = fresh_code(server)
    with closing(sqlite3.connect(database(server))) as db:
        ((good,),) = db.execute("SELECT sealed_seed FROM accounts").fetchall()
        damaged = good[:-1] + bytes([good[-1] ^ 1])
        db.execute("UPDATE accounts SET sealed_seed = ?", [damaged])
        db.commit()

        replies = [server.verify(code), server.verify("000000"), server.verify("x")]
        replies.append(server.get("/generate-2fa"))
        time.sleep(1.1)
        health = server.get("/health")

        db.execute("UPDATE accounts SET sealed_seed = ?", [good])
        db.commit()

    assert [said(reply) for reply in replies] == [(500, UNREADABLE)] * 4
    assert said(health) == (503, b'{"status":"degraded","reason":"seed unreadable"}')
    assert "'default'" in server.log()
    assert_works(server, code)


@pytest.mark.parametrize(
    "change",
    [
        "digits = 1",
        "period = 86400",
        "algorithm = 'SHA256'",
        "id = 'other'",
        "sealed_seed = x''",
    ],
)
def test_a_row_that_was_changed(
    tmp_path: Path,
    seeded: Path,
    service_keys: RsaKeys,
    clock: TurnedClock,
    change: str,
) -> None:
    """Nobody who can only write the database makes the factor a weaker one."""
    copy_store(seeded, tmp_path)
    with closing(sqlite3.connect(tmp_path / "otpseal.db")) as db, db:
        db.execute(f"UPDATE accounts SET {change}")

    with served_here(tmp_path, service_keys, clock) as here:
        replies = [here.verify(here.right()), here.get("/generate-2fa")]

    no_seed = b'{"error":"Seed not decrypted yet"}'
    expected = no_seed if change.startswith("id") else UNREADABLE
    assert [said(reply) for reply in replies] == [(500, expected)] * 2


# Faults that only a test can plant


class FaultyStore:
    """A store with a place for a fault, and a count."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.before: Callable[[], None] = lambda: None
        self.at_commit: Callable[[], None] = lambda: None
        self.transactions = 0

    @contextmanager
    def transaction(
        self, *, patience_s: float = 4.0, shared: bool = False
    ) -> Iterator[Transaction]:
        """See `otpseal.ports.Store`."""
        self.transactions += 1
        self.before()
        with self._store.transaction() as tx:
            yield tx
            self.at_commit()

    def close(self) -> None:
        """See `otpseal.ports.Store`."""


@pytest.fixture
def here(
    tmp_path: Path, seeded: Path, service_keys: RsaKeys, clock: TurnedClock
) -> Iterator[Here]:
    """A service with a seed and a place for faults."""
    copy_store(seeded, tmp_path)
    with served_here(tmp_path, service_keys, clock, wrap=FaultyStore) as running:
        yield running


def store_of(here: Here) -> FaultyStore:
    """Return the place for faults."""
    store = here.service.store
    assert isinstance(store, FaultyStore)
    return store


def unavailable() -> None:
    """Fail as a store does."""
    raise StoreUnavailable(f"the store is unavailable: {CANARY}")


def unexpected() -> None:
    """Fail as nobody expected."""
    raise RuntimeError(CANARY)


def test_what_is_not_committed_is_not_accepted(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    """A right code whose commit fails is 503 and stays unspent."""
    store_of(here).at_commit = unavailable

    refused = here.verify(here.right())
    store_of(here).at_commit = lambda: None

    assert said(refused) == (503, UNAVAILABLE)
    assert "/verify-2fa" in caplog.text
    assert said(here.verify(here.right())) == (200, b'{"valid":true}')


def test_a_wrong_code_that_is_not_counted_is_not_answered(here: Here) -> None:
    """Else an attacker with a full disk could guess for ever."""
    store_of(here).at_commit = unavailable

    replies = [said(here.verify(here.wrong())) for _ in range(10)]

    assert replies == [(503, UNAVAILABLE)] * 10


def test_what_nobody_expected(
    here: Here, service_keys: RsaKeys, caplog: pytest.LogCaptureFixture
) -> None:
    """500 with a static text on every call; the log has the place, not the message."""
    store_of(here).before = unexpected

    replies = [
        here.verify("123456"),
        here.get("/generate-2fa"),
        here.bring(sealed_to(service_keys)),
        here.get("/health"),
    ]
    store_of(here).before = lambda: None

    assert [said(reply) for reply in replies] == [(500, INTERNAL)] * 4
    assert CANARY not in caplog.text
    assert "unexpected RuntimeError" in caplog.text
    assert "in transaction" in caplog.text
    assert here.verify(here.right()).json == {"valid": True}


class BlockingKeys(RsaKeys):
    """Keys that decrypt only when they are let."""

    def __init__(self, keys: RsaKeys) -> None:
        super().__init__(keys._private_key)
        self.let = threading.Event()
        self.running = 0

    def oaep_decrypt(self, ciphertext: bytes, *, label: bytes | None = None) -> bytes:
        """See `otpseal.ports.Keys`."""
        if label is None:  # a sealed seed, not the storage key
            self.running += 1
            self.let.wait(20)
        return super().oaep_decrypt(ciphertext, label=label)


@contextmanager
def asking(port: int, raw: bytes) -> Iterator[socket.socket]:
    """Send a request and leave its answer for later."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(raw)
        yield connection


def raw_post(path: str, body: str) -> bytes:
    """Return the bytes of a post."""
    kind = JSON_TYPE["Content-Type"]
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode()


def test_a_full_decryption_queue(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock
) -> None:
    """Two at a time, 64 wait, the next is 429 with Retry-After 1; all others get 200.

    Verifying goes on meanwhile: nobody's seed keeps somebody's code waiting.
    """
    keys = BlockingKeys(service_keys)
    sealed = sealed_to(service_keys)
    raw = raw_post("/decrypt-seed", f'{{"encrypted_seed":"{sealed}"}}')
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(served_here(tmp_path, keys, clock))
        room = DECRYPTIONS + WAITING_DECRYPTIONS
        waiting = [stack.enter_context(asking(here.port, raw)) for _ in range(room)]
        deadline = time.monotonic() + 10
        refused = here.bring(sealed)
        while refused.status != 429 and time.monotonic() < deadline:
            refused = here.bring(sealed)

        assert said(refused) == (429, b'{"error":"Too many requests"}')
        assert refused.header("retry-after") == "1"
        assert keys.running == DECRYPTIONS
        assert said(here.verify("123456")) == (
            500,
            b'{"error":"Seed not decrypted yet"}',
        )

        keys.let.set()
        replies = [parse_reply(read_all(connection)) for connection in waiting]
        assert [said(reply) for reply in replies] == [(200, b'{"status":"ok"}')] * room
        assert said(here.bring(sealed)) == (200, b'{"status":"ok"}')


def test_too_many_attempts_at_once(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """429 with Retry-After 1 when as many wait for the store as may wait."""
    monkeypatch.setattr("otpseal.committer.MAX_WAITING", 3)
    let = threading.Event()
    store_of(here).before = lambda: let.wait(20) and None

    with contextlib.ExitStack() as stack:
        raw = raw_post("/verify-2fa", '{"code":"malformed"}')
        first = stack.enter_context(asking(here.port, raw))
        time.sleep(0.3)  # it is in a batch of its own
        waiting = [stack.enter_context(asking(here.port, raw)) for _ in range(3)]
        time.sleep(0.3)
        refused = here.verify("123456")
        let.set()
        replies = [parse_reply(read_all(each)) for each in (first, *waiting)]

    assert said(refused) == (429, b'{"error":"Too many requests"}')
    assert refused.header("retry-after") == "1"
    assert [said(reply) for reply in replies] == [(200, b'{"valid":false}')] * 4


# Health


@pytest.fixture
def uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Health that looks each time it is asked."""
    monkeypatch.setattr("otpseal.http.app.HEALTH_CACHED_S", 0.0)


def test_health_without_a_seed(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock, uncached: None
) -> None:
    """No seed is no fault, and then no line in the code log is none either."""
    settings = {"code_log": tmp_path / "last_code.txt"}
    with served_here(tmp_path, service_keys, clock, settings=settings) as here:
        clock.turn(1000)

        assert said(here.get("/health")) == (200, b'{"status":"ok"}')


def test_health_looks_at_the_code_log(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock, uncached: None
) -> None:
    """More than 150 s after the latest of: newest line, the seed, the start."""
    log = tmp_path / "last_code.txt"
    reason = b"the code log has had no line for more than 150 s"
    degraded = (503, b'{"status":"degraded","reason":"%s"}' % reason)
    well = (200, b'{"status":"ok"}')
    line = "{} - 2FA Code: 123456\n"
    settings = {"code_log": log}
    with served_here(tmp_path, service_keys, clock, settings=settings) as here:
        clock.turn(1000)
        here.service.import_seed(SEED, source="test")

        clock.turn(150)
        assert said(here.get("/health")) == well
        clock.turn(1)
        assert said(here.get("/health")) == degraded

        # clock.now - 1_800_000_000 = 1151 s: 2027-01-15 08:19:11
        log.write_text(line.format("2027-01-15 08:19:00"))
        assert said(here.get("/health")) == well
        clock.turn(140)  # 151 s after the line
        assert said(here.get("/health")) == degraded
        log.rename(tmp_path / "last_code.txt.1")
        log.write_text(line.format("2027-01-15 08:21:00"))
        assert said(here.get("/health")) == well
        log.unlink()
        assert said(here.get("/health")) == degraded

    with served_here(tmp_path, service_keys, clock, settings=settings) as here:
        assert said(here.get("/health")) == well  # the service just started
        clock.turn(151)
        assert said(here.get("/health")) == degraded


def test_health_looks_at_the_disk(
    tmp_path: Path, service_keys: RsaKeys, clock: TurnedClock, uncached: None
) -> None:
    """Also at the code log's disk; below 5 % is degraded, though all still works."""
    disk = tmp_path / "disk"
    disk.mkdir()
    settings = {"code_log": disk / "last_code.txt"}
    with (
        small_disk.tmpfs(disk) as full,
        served_here(tmp_path, service_keys, clock, settings=settings) as here,
    ):
        with full():
            reply = here.get("/health")

        reason = b'{"status":"degraded","reason":"less than 5 % of the disk is free"}'
        assert said(reply) == (503, reason)
        assert said(here.get("/health")) == (200, b'{"status":"ok"}')


def test_health_tells_of_the_store(here: Here, uncached: None) -> None:
    """Unavailable, and well again; never cached by anyone between."""
    store_of(here).before = unavailable
    reply = here.get("/health")
    store_of(here).before = lambda: None

    assert said(reply) == (503, b'{"status":"degraded","reason":"store unavailable"}')
    assert reply.header("cache-control") == "no-store"
    assert said(here.get("/health")) == (200, b'{"status":"ok"}')


def test_a_flood_of_health_checks_reaches_the_store_once_a_second(here: Here) -> None:
    """However many ask, and however many at once."""
    began = time.monotonic()
    before = store_of(here).transactions

    for _ in range(10):
        replies = at_once(*[lambda: here.get("/health").status] * 20)
        assert replies == [200] * 20

    seconds = time.monotonic() - began
    # A health check a second, and the housekeeping of the start.
    assert store_of(here).transactions - before <= seconds + 1 + 2


# Stopping


def test_a_stop_answers_what_is_in_flight(
    tmp_path: Path, service_keys: RsaKeys
) -> None:
    """SIGTERM: requests that wait for the store are answered, the exit code is 0.

    Connections that are idle, half-sent or never read do not hold it up: it is gone
    well within the ten seconds that a container has.
    """
    with serving(tmp_path, service_keys) as server, contextlib.ExitStack() as stack:
        assert server.bring(sealed_to(service_keys)).status == 200
        half = raw_post("/verify-2fa", '{"code":"123456"}')[:-5]
        stack.enter_context(asking(server.port, half))
        stack.enter_context(asking(server.port, b""))
        sealed = sealed_to(service_keys)
        requests = [
            *[raw_post("/verify-2fa", '{"code":"malformed"}')] * 20,
            *[b"GET /generate-2fa HTTP/1.1\r\nHost: localhost\r\n\r\n"] * 5,
            *[raw_post("/decrypt-seed", f'{{"encrypted_seed":"{sealed}"}}')] * 5,
        ]
        with lock_held(server):
            flying = [stack.enter_context(asking(server.port, raw)) for raw in requests]
            time.sleep(0.5)
            began = time.monotonic()
            server.process.terminate()
            time.sleep(0.5)
            with pytest.raises(ConnectionError):
                server.get("/health")
        replies = [parse_reply(read_all(connection)) for connection in flying]
        code = server.process.wait(15)
        took = time.monotonic() - began

    assert {reply.status for reply in replies} == {200}
    assert code == 0
    assert took < 8
    assert "Traceback" not in server.log()
    assert "ERROR" not in server.log()


def test_a_stop_under_load(tmp_path: Path, service_keys: RsaKeys) -> None:
    """Every request is answered whole or not taken at all; the store is whole."""
    cut: list[bytes] = []
    whole = 0
    with serving(tmp_path, service_keys) as server:
        assert server.bring(sealed_to(service_keys)).status == 200
        raw = raw_post("/verify-2fa", '{"code":"000000"}')

        def load() -> int:
            answered = 0
            while True:
                try:
                    with asking(server.port, raw) as connection:
                        received = read_all(connection)
                except ConnectionError:
                    return answered
                if not received.endswith(b"}"):
                    cut.append(received)
                    return answered
                answered += 1

        timer = threading.Timer(1.0, server.process.terminate)
        timer.start()
        whole = sum(at_once(*[load] * 8))
        code = server.process.wait(10)

    assert whole > 50
    # Accepted by the kernel, never by the program: not a byte of an answer.
    assert set(cut) <= {b""}
    assert code == 0
    assert "Traceback" not in server.log()
    with closing(sqlite3.connect(database(server))) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """Let `caplog` see what the service logs, whatever uvicorn has set."""
    logging.getLogger("otpseal").setLevel(logging.INFO)
    yield
    logging.getLogger("otpseal").setLevel(logging.NOTSET)
