"""A store that running servers share, and clients that load them.

The test holds the store open beside the servers, as the command line does: it makes
accounts and tokens, and looks at what became of them.
"""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from server_fixture import (
    Reply,
    Server,
    children,
    code_at,
    exchange,
    parse_reply,
    wrong_code_at,
)

from otpseal import throttle
from otpseal.access import Scope
from otpseal.adapters.file_keys import RsaKeys
from otpseal.adapters.sql_engine import open_engine
from otpseal.adapters.sql_store import SqlStore
from otpseal.ports import AccountRow
from otpseal.secret import Secret
from otpseal.seed_keeping import NewSeed, SeedKeeper
from otpseal.service import Service
from otpseal.storage_key import StorageKey

#: Long enough for what must happen, in seconds.
PATIENCE_S = 60.0


def until(holds: Callable[[], bool], *, every_s: float = 0.02) -> float:
    """Wait until something holds; returns how many seconds that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + PATIENCE_S
        time.sleep(every_s)
    return time.monotonic() - began


def seed_of(account: str) -> Secret:
    """Return the seed that an arena gives to an account."""
    return Secret(account.encode().ljust(20, b"."))


def kill_all(server: Server) -> None:
    """Send SIGKILL to the server and all of its workers, in any order."""
    victims = [server.process.pid, *children(server.process.pid)]
    random.Random(server.process.pid).shuffle(victims)
    for pid in victims:
        with suppress(ProcessLookupError):  # without its parent a worker ends itself
            os.kill(pid, signal.SIGKILL)
    server.process.wait()


class Arena:
    """A service of the test's own on the servers' store.

    Args:
        store: open, and closed by `arena_on`.
        keys: the servers' key pair.
        policy: the price of wrong codes, for attempts by this service itself.
    """

    def __init__(
        self,
        store: SqlStore,
        keys: RsaKeys,
        policy: throttle.Policy = throttle.DEFAULT_POLICY,
    ) -> None:
        self.store = store
        with store.transaction() as tx:
            record = tx.storage_key_record()
            if record is None:
                record = StorageKey.generate().wrap(keys)
                tx.set_storage_key_record(record)
        storage_key = StorageKey.unwrap(record, keys)
        self.storage_key = storage_key
        self.service = Service(
            store, keys=keys, storage_key=storage_key, clock=time.time, policy=policy
        )

    def enrol(self, names: Collection[str]) -> dict[str, Secret]:
        """Make active accounts in one transaction; returns their seeds."""
        seeds = {name: seed_of(name) for name in names}
        with self.store.transaction() as tx:
            keeper = SeedKeeper(tx, self.storage_key)
            for name, seed in seeds.items():
                keeper.add(NewSeed(name, seed), time.time())
        return seeds

    def token(self, name: str = "clients") -> str:
        """Admit a caller who may verify; returns its token."""
        made = self.service.callers.create(name, frozenset({Scope.VERIFY}))
        assert made.token is not None
        return made.token.reveal().decode("ascii")

    def rows(self, names: Collection[str]) -> dict[str, AccountRow]:
        """Return accounts as they rest."""
        with self.store.transaction() as tx:
            return tx.accounts(names)

    def spent(self) -> Counter[tuple[str, int]]:
        """Return how often the audit log has each accepted account and step."""
        with self.store.transaction() as tx:
            events = tx.newest_events(10**7, kind="attempt.accepted")
        return Counter((row.account, json.loads(row.detail)["step"]) for row in events)


@contextmanager
def arena_on(
    url: str, keys: RsaKeys, policy: throttle.Policy = throttle.DEFAULT_POLICY
) -> Iterator[Arena]:
    """Open an arena on the servers' database."""
    store = SqlStore(open_engine(url))
    try:
        yield Arena(store, keys, policy)
    finally:
        store.close()


def verify_request(token: str, account: str, code: str) -> bytes:
    """Return a v1 verify request, on a connection of its own."""
    content = json.dumps({"account": account, "code": code}).encode()
    lines = [
        "POST /v1/verify HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def verify(port: int, token: str, account: str, code: str) -> Reply | None:
    """Submit a code by the v1 API; None if no whole answer came."""
    try:
        received = exchange(port, verify_request(token, account, code))
    except OSError:
        return None
    if b"\r\n\r\n" not in received:
        return None
    reply = parse_reply(received)
    length = reply.header("content-length")
    return reply if length == str(len(reply.body)) else None


@dataclass
class Told:
    """What clients were told: acknowledged, and no more to be taken back.

    Attributes:
        accepted: account -> the accepted step.
        wrong: account -> how often a code was called wrong.
        tried: accounts whose right code was sent, answered or not.
        others: status of an answer that decided nothing, or None for no answer ->
            how many.
    """

    accepted: dict[str, int] = field(default_factory=dict)
    wrong: Counter[str] = field(default_factory=Counter)
    tried: set[str] = field(default_factory=set)
    others: Counter[int | None] = field(default_factory=Counter)


class Load:
    """Clients who submit right codes for half of the accounts and wrong ones else.

    Args:
        ports: of the servers; clients take turns between them.
        token: of all clients.
        seeds: by account; each is used by one client once, as long as they last.
        survives: whether clients go on when they get no answer.
    """

    CLIENTS = 6
    WRONG_EACH = 2

    def __init__(
        self,
        ports: Collection[int],
        token: str,
        seeds: Mapping[str, Secret],
        *,
        survives: bool = False,
    ) -> None:
        self._ports = list(ports)
        self._token = token
        self._survives = survives
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.told = Told()
        work = list(seeds.items())
        self._threads = [
            threading.Thread(
                target=self._run, args=[number, work[number :: self.CLIENTS]]
            )
            for number in range(self.CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def is_flowing(self) -> bool:
        """Tell whether both kinds of answers have come."""
        with self._lock:
            return bool(self.told.accepted and self.told.wrong)

    def stop(self) -> Told:
        """Have the clients finish what they are at."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        return self.told

    def _run(self, number: int, work: list[tuple[str, Secret]]) -> None:
        port = self._ports[number % len(self._ports)]
        for count, (account, seed) in enumerate(work):
            for _ in range(1 if count % 2 else self.WRONG_EACH):
                if self._stopped.is_set():
                    return
                reply = self._submit(port, account, seed, is_right=bool(count % 2))
                if reply is None and not self._survives:
                    return

    def _submit(
        self, port: int, account: str, seed: Secret, *, is_right: bool
    ) -> Reply | None:
        now = time.time()
        code = code_at(now, seed) if is_right else wrong_code_at(now, seed)
        if is_right:
            with self._lock:
                self.told.tried.add(account)
        reply = verify(port, self._token, account, code)
        with self._lock:
            if reply is None or reply.status != 200:
                self.told.others[None if reply is None else reply.status] += 1
            elif reply.json["valid"]:
                assert account not in self.told.accepted
                self.told.accepted[account] = reply.json["step"]
            else:
                assert reply.json["reason"] == "wrong", reply
                self.told.wrong[account] += 1
        return reply


def assert_kept(arena: Arena, told: Told) -> None:
    """Check that nothing that was acknowledged is lost, or was counted twice."""
    assert set(told.accepted) <= told.tried
    assert not set(told.wrong) & told.tried
    rows = arena.rows({*told.tried, *told.wrong})
    spent = arena.spent()
    steps = {name: rows[name].state.last_step for name in told.accepted}
    assert told.accepted == steps
    assert all(count == 1 for count in spent.values())
    assert all(spent[pair] == 1 for pair in told.accepted.items())
    for name, count in told.wrong.items():
        # At most one more: the last, of which nobody was told.
        assert count <= rows[name].state.failures <= Load.WRONG_EACH
    accepted_at_all = {account for account, _ in spent}
    assert told.tried >= accepted_at_all & set(rows)


def assert_still_spent(port: int, token: str, told: Told) -> None:
    """Check that no code that was accepted is accepted again."""
    for account, step in told.accepted.items():
        seed = seed_of(account)
        reply = verify(port, token, account, code_at(step * 30.0, seed))
        assert reply is not None
        assert reply.json["valid"] is False, (account, step)
