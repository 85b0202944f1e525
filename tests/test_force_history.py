"""Eight clients under kill, pause, restart and clock jumps: no history is wrong."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from arena import PATIENCE_S, arena_on, kill_all, seed_of, verify
from faked_clock import FakedClock
from history import PERIOD_S, RIGHT, Attempted, Rest, Turn, findings
from repetitions import rounds
from server_fixture import OTPSEAL, Server, code_at, serving

from otpseal.adapters.file_keys import RsaKeys

ACCOUNTS = [f"h/{number}" for number in range(40)]
CLIENTS = 8

#: Until the program notices that its clock was turned, in seconds.
LAG_S = 1


class Clients:
    """Eight who submit codes of steps around the server's clock, and write it down.

    Args:
        token: of all of them.
        clock: what the servers' clock shows.
    """

    def __init__(self, token: str, clock: Callable[[], float]) -> None:
        self.ports: list[int] = []
        self.history: list[Attempted] = []
        self._token = token
        self._clock = clock
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=[random.Random(number)])
            for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Attempted]:
        """Have them finish; returns what they saw."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        return self.history

    def _run(self, choose: random.Random) -> None:
        while not self._stopped.is_set():
            if not self.ports:
                time.sleep(0.01)
                continue
            account = choose.choice(ACCOUNTS)
            step = int(self._clock() // PERIOD_S) + choose.choice([-2, -1, 0, 0, 1, 2])
            code = code_at(step * PERIOD_S, seed_of(account))
            start = time.time()
            reply = verify(choose.choice(self.ports), self._token, account, code)
            end = time.time()
            accepted = None
            if reply is not None and reply.status == 200:
                accepted = reply.json["valid"]
                step = reply.json["step"] if accepted else step
            else:
                time.sleep(0.03)
            self.history.append(Attempted(start, end, account, step, accepted))


class Nemesis:
    """Pauses and kills servers, and turns their clock if they have one of their own."""

    def __init__(self, clock: FakedClock | None) -> None:
        self._clock = clock
        self._choose = random.Random(2026)
        self._base_s = 0.0
        self.turns = list(RIGHT)

    def plague(self, servers: list[Server]) -> None:
        """Do a few bad things to servers, and end one of them."""
        for _ in range(4):
            self._turn(self._choose.choice([0, 0, -3, -30, -90, 60, 3600]))
            time.sleep(self._choose.uniform(0.1, 0.4) if self._clock is None else 1.0)
            victim = self._choose.choice(servers).process.pid
            os.kill(victim, signal.SIGSTOP)
            time.sleep(self._choose.uniform(0.05, 0.3))
            os.kill(victim, signal.SIGCONT)
        self._turn(0)  # what starts next believes the clock, and poisons no mark
        time.sleep(0.2)
        kill_all(self._choose.choice(servers))
        time.sleep(0.1)

    def _turn(self, jump_s: float) -> None:
        if self._clock is None:
            return
        # On the whole ahead, so that there are steps left to accept.
        self._base_s += self._choose.uniform(10, 40)
        since = time.time()
        self._clock.turn_to(self._base_s + jump_s)
        until = time.time() + LAG_S + 1.5  # whole seconds are compared
        self.turns.append(Turn(since, until, self._clock.ahead_s))


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> str:
    """The URL of the servers' database."""
    if kind == "replicas":
        found: str = request.getfixturevalue("database").url()
        return found
    return f"sqlite:///{tmp_path / 'otpseal.db'}"


def started(
    stack: ExitStack, directory: Path, keys: RsaKeys, program: tuple[str, ...], url: str
) -> Server:
    """Start a server on a database."""
    directory.mkdir(exist_ok=True)
    server = serving(directory, keys, program=program, database_url=url)
    return stack.enter_context(server)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["alone", "turned", "replicas"])
def test_no_history_is_wrong(
    tmp_path: Path, service_keys: RsaKeys, url: str, kind: str
) -> None:
    """Of one server, of one whose clock jumps, and of two replicas on one database."""
    clock = FakedClock(tmp_path, lag_s=LAG_S) if kind == "turned" else None
    program = OTPSEAL if clock is None else clock.program
    nemesis = Nemesis(clock)
    names = ["one", "two"] if kind == "replicas" else ["one"]
    with arena_on(url, service_keys) as arena:
        arena.enrol(ACCOUNTS)
        clients = Clients(arena.token(), clock or time.time)
        try:
            for _ in rounds(1 if kind == "replicas" else 2, full=40):
                with ExitStack() as stack:
                    servers = [
                        started(stack, tmp_path / name, service_keys, program, url)
                        for name in names
                    ]
                    clients.ports = [server.port for server in servers]
                    nemesis.plague(servers)
        finally:
            history = clients.stop()
        rows = arena.rows(ACCOUNTS)
        rest = Rest({k: row.state.last_step for k, row in rows.items()}, arena.spent())

    assert [] == findings(history, rest, nemesis.turns)
    answers = Counter(one.accepted for one in history)
    print(f"{answers[True]} accepted, {answers[False]} refused, {answers[None]} open")
    assert answers[True] > len(names)
    assert answers[False] > CLIENTS
