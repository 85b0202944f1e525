"""Eight clients under kill, pause, restart and clock jumps; and the checker itself."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from arena import PATIENCE_S, arena_on, kill_all, seed_of, verify
from faked_clock import FakedClock
from history import PERIOD_S, RIGHT, Attempted, Rest, Turn, findings, is_in_order
from hypothesis import assume, given
from hypothesis import strategies as st
from repetitions import rounds
from server_fixture import OTPSEAL, Server, code_at, serving

from otpseal.adapters.file_keys import RsaKeys

# The checker.

AT = 1_800_000_000.0
STEP = int(AT // PERIOD_S)
ONE = Attempted(AT, AT + 1, "a", STEP, accepted=True)
LATER = Attempted(AT + 2, AT + 3, "a", STEP + 1, accepted=True)
REFUSED = replace(ONE, accepted=False)
KEPT = Rest({"a": STEP + 1}, Counter({("a", STEP): 1, ("a", STEP + 1): 1}))


def test_nothing_is_found_in_a_right_history() -> None:
    """Also where answers are missing or overlap."""
    history = [ONE, LATER, REFUSED, replace(REFUSED, accepted=None)]
    turned = (Turn(0, 0, 0), Turn(AT + 0.4, AT + 0.5, 3600))
    leapt = replace(ONE, step=STEP + 120)
    leapt_rest = Rest({"a": leapt.step}, Counter({("a", leapt.step): 1}))

    assert [] == findings(history, KEPT)
    assert [] == findings([replace(ONE, end=AT + 9), replace(LATER, end=AT + 9)], KEPT)
    # Before, while and after the clock was turned.
    assert [] == findings([leapt], leapt_rest, turned)
    assert [] == findings([replace(ONE, end=AT + 0.45)], kept(ONE), turned)
    assert [] == findings([replace(ONE, start=AT + 0.5)], kept(ONE), turned)


def kept(*attempts: Attempted) -> Rest:
    """Return what is in a store that accepted these."""
    steps: dict[str, int] = {}
    for one in attempts:
        steps[one.account] = max(one.step, steps.get(one.account, -1))
    return Rest(steps, Counter((one.account, one.step) for one in attempts))


@pytest.mark.parametrize(
    ("history", "rest", "turns", "what"),
    [
        ([ONE, replace(ONE, end=AT + 9)], kept(ONE), RIGHT, "2 times (told)"),
        ([ONE], kept(ONE, ONE), RIGHT, "2 times (recorded)"),
        ([replace(ONE, step=STEP + 2)], None, RIGHT, "outside"),
        ([replace(ONE, step=STEP - 2)], None, RIGHT, "outside"),
        ([ONE], None, (Turn(0, 0, 0), Turn(AT - 2, AT - 1, 90)), "outside"),
        ([ONE, LATER], kept(ONE), RIGHT, "not in the store"),
        ([ONE], Rest({"a": STEP - 1}, Counter({("a", STEP): 1})), RIGHT, "not in the"),
        ([ONE, replace(LATER, step=STEP - 1)], None, RIGHT, "earlier step"),
        ([REFUSED], kept(LATER), RIGHT, "nobody asked"),
    ],
)
def test_each_wrong_history_is_found(
    history: list[Attempted], rest: Rest | None, turns: tuple[Turn, ...], what: str
) -> None:
    """Planted by hand, one rule broken in each."""
    found = findings(history, rest or kept(*history), turns)

    assert 1 == len(found)
    assert what in found[0]


@st.composite
def right_histories(draw: st.DrawFn) -> tuple[list[Attempted], Rest, list[Turn]]:
    """Make what clients see of a right service, whose clock is turned meanwhile."""
    seconds = st.floats(0, 40, allow_nan=False)
    turns = [Turn(0, 0, draw(st.sampled_from([0.0, -60.0, 60.0])))]
    for at in sorted(draw(st.lists(st.floats(0, 200), max_size=4))):
        since = max(AT + at, turns[-1].until)
        turns.append(Turn(since, since + 0.1, draw(st.floats(-200, 200))))
    asked = []
    for _ in range(draw(st.integers(1, 25))):
        start = AT + draw(st.floats(0, 200, allow_nan=False))
        decided = start + draw(seconds)
        account = draw(st.sampled_from("ab"))
        asked.append((decided, start, decided + draw(seconds), account))
    last = {"a": -1, "b": -1}
    history, taken = [], []
    for decided, start, end, account in sorted(asked):
        ahead_s = [turn.ahead_s for turn in turns if turn.until <= decided][-1]
        now_step = int((decided + ahead_s) // PERIOD_S)
        step = now_step + draw(st.integers(-2, 2))
        is_taken = abs(step - now_step) <= 1 and step > last[account]
        one = Attempted(start, end, account, step, accepted=is_taken)
        if is_taken:
            last[account] = step
            taken.append(one)
        is_answered = draw(st.integers(0, 4)) > 0
        history.append(one if is_answered else replace(one, accepted=None))
    return history, kept(*taken), turns


@given(right_histories())
def test_no_right_history_is_called_wrong(
    made: tuple[list[Attempted], Rest, list[Turn]],
) -> None:
    """Whatever overlaps, is turned, or has no answer."""
    history, rest, turns = made

    assert is_in_order(turns)
    assert [] == findings(history, rest, turns)


def accept_again(one: Attempted, rest: Rest) -> tuple[Attempted, Rest]:
    """The same code is accepted once more, later."""
    return replace(one, start=one.end + 1, end=one.end + 2), rest


def accept_earlier(one: Attempted, rest: Rest) -> tuple[Attempted, Rest]:
    """An earlier step is accepted later."""
    late = replace(one, start=one.end + 1, end=one.end + 2, step=one.step - 1)
    return late, Rest(rest.last_steps, rest.spent | kept(late).spent)


def accept_outside(one: Attempted, rest: Rest) -> tuple[Attempted, Rest]:
    """A step of tomorrow is accepted."""
    far = replace(one, step=one.step + 2880)
    return far, Rest({**rest.last_steps, **kept(far).last_steps}, rest.spent)


def lose(one: Attempted, rest: Rest) -> tuple[Attempted, Rest]:
    """What was acknowledged is not in the audit log."""
    spent = Counter(rest.spent)
    del spent[one.account, one.step]
    return replace(one, accepted=False), Rest(rest.last_steps, spent)


def reopen(one: Attempted, rest: Rest) -> tuple[Attempted, Rest]:
    """What was acknowledged can be accepted again."""
    steps = {**rest.last_steps, one.account: one.step - 1}
    return replace(one, accepted=False), Rest(steps, rest.spent)


@given(
    right_histories(),
    st.sampled_from([accept_again, accept_earlier, accept_outside, lose, reopen]),
    st.randoms(use_true_random=False),
)
def test_every_planted_wrong_is_found(
    made: tuple[list[Attempted], Rest, list[Turn]],
    plant: Callable[[Attempted, Rest], tuple[Attempted, Rest]],
    choose: random.Random,
) -> None:
    """One wrong among many rights."""
    history, rest, turns = made
    accepted = [one for one in history if one.accepted]
    assume(accepted)

    extra, wrong = plant(choose.choice(accepted), rest)

    assert findings([*history, extra], wrong, turns)


# The service.

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
            for _ in rounds(2, full=40):
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
