"""Decisions about attempts: the order of checks, and accepted exactly once."""

from collections.abc import Iterator
from dataclasses import replace

import pyotp
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from otpseal import throttle, totp
from otpseal.account_state import NEVER, State, Status
from otpseal.audit import Event, Kind
from otpseal.secret import Secret
from otpseal.verification import Account, Decision, Outcome, decide, settle

SEED = Secret(b"12345678901234567890123456789012")
GENERATOR = pyotp.TOTP("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA")
NOW = 1_800_000_000.0
STEP = 60_000_000


def code_of(step: int) -> str:
    """Return a step's code, made by another library than the one under test."""
    return GENERATOR.generate_otp(step)


def wrong_code(now: float) -> str:
    """Return six digits that belong to no step near `now`."""
    taken = {code_of(int(now) // 30 + offset) for offset in range(-5, 6)}
    return next(text for text in ("000000", "111111", "222222") if text not in taken)


def decided(
    code: str, state: State | None = None, *, now: float = NOW, window: int = 1
) -> Decision:
    """Decide about `code` for an account in `state`."""
    candidates = totp.candidates(SEED, now, window=window)
    return decide(Account("a", state or State(), candidates), code, now)


WAITING = throttle.State(failures=5, wait_until=NOW + 30)
WRONG = wrong_code(NOW)
RIGHT = code_of(STEP)


# The order of checks.


@pytest.mark.parametrize(
    ("outcome", "state", "code"),
    [
        # Disabled comes first, whatever else is the matter.
        (Outcome.DISABLED, State(status=Status.DISABLED), RIGHT),
        (Outcome.DISABLED, State(status=Status.DISABLED), "x"),
        (Outcome.DISABLED, State(status=Status.DISABLED, budget=WAITING), WRONG),
        # Then the shape: during a wait, too.
        (Outcome.MALFORMED, State(), "x"),
        (Outcome.MALFORMED, State(budget=WAITING), "12345"),
        # Then the wait: not even a right code or a replay is looked at.
        (Outcome.THROTTLED, State(budget=WAITING), RIGHT),
        (Outcome.THROTTLED, State(budget=WAITING), WRONG),
        (Outcome.THROTTLED, State(budget=WAITING, last_step=STEP), RIGHT),
        # Then the code.
        (Outcome.ACCEPTED, State(), RIGHT),
        (Outcome.ACCEPTED, State(last_step=STEP - 1), RIGHT),
        (Outcome.REPLAYED, State(last_step=STEP), RIGHT),
        (Outcome.REPLAYED, State(last_step=STEP + 1000), RIGHT),
        (Outcome.WRONG, State(), WRONG),
    ],
)
def test_order_of_checks(outcome: Outcome, state: State, code: str) -> None:
    """CONTRACT's order: disabled, six-digit shape, throttle, code."""
    assert outcome is decided(code, state).outcome


@pytest.mark.parametrize(
    "code",
    [
        "",
        "12345",
        "1234567",
        " 12345",
        "123456 ",
        "123456\n",
        "12345\x00",
        "12 345",
        "+12345",
        "-12345",
        "1234.5",
        "0x1234",
        "\uff11\uff12\uff13\uff14\uff15\uff16",  # full-width digits
        "\u0661\u0662\u0663\u0664\u0665\u0666",  # Arabic-Indic digits
        "12345\u00b2",  # superscript two: a digit to str.isdigit
        "\ud800" * 6,  # lone surrogates
    ],
)
def test_malformed_costs_nothing_and_leaves_no_trace(code: str) -> None:
    """What is not six ASCII digits changes no state, writes nothing, counts nothing."""
    state = State(last_step=7, budget=throttle.State(failures=4))

    assert Decision(Outcome.MALFORMED, state) == decided(code, state)


# Steps.


@pytest.mark.parametrize(
    ("outcome", "window", "offset"),
    [
        (Outcome.WRONG, 1, -2),
        (Outcome.ACCEPTED, 1, -1),
        (Outcome.ACCEPTED, 1, 0),
        (Outcome.ACCEPTED, 1, 1),
        (Outcome.WRONG, 1, 2),
        (Outcome.WRONG, 0, -1),
        (Outcome.ACCEPTED, 0, 0),
        (Outcome.WRONG, 0, 1),
    ],
)
def test_the_window(outcome: Outcome, window: int, offset: int) -> None:
    """Steps within the window are accepted, those outside are wrong."""
    assert outcome is decided(code_of(STEP + offset), window=window).outcome


def test_acceptance_spends_the_step() -> None:
    """A right code spends its own step, not the current one, and is written down."""
    decision = decided(code_of(STEP - 1))

    assert decision == Decision(
        Outcome.ACCEPTED,
        State(last_step=STEP - 1),
        (Event(Kind.ATTEMPT_ACCEPTED, NOW, "a", {"step": STEP - 1}),),
        step=STEP - 1,
    )


def test_an_earlier_step_never_comes_back() -> None:
    """Who spends a step spends the earlier ones: they are replays, though unused."""
    state = decided(code_of(STEP + 1)).state

    for offset in (-1, 0, 1):
        assert decided(code_of(STEP + offset), state).outcome is Outcome.REPLAYED


def test_a_replay_never_counts() -> None:
    """A thousand replays change nothing: they are only counted for the audit log."""
    state = State(last_step=STEP, budget=throttle.State(failures=4))

    for _ in range(1000):
        decision = decided(RIGHT, state)

        expected = Decision(Outcome.REPLAYED, state, counted=Kind.ATTEMPT_REPLAYED)
        assert expected == decision
        state = decision.state


def test_a_clock_set_back_reopens_nothing() -> None:
    """After the clock went back every code is a replay, until its time comes again."""
    state = State(last_step=STEP)
    back = NOW - 3600

    old = decided(code_of(STEP - 120), state, now=back)
    after = decided(code_of(STEP + 1), state, now=NOW + 30)

    assert old.outcome is Outcome.REPLAYED
    assert after.outcome is Outcome.ACCEPTED


def test_one_text_of_two_steps_is_accepted_once() -> None:
    """If two steps of the window share a code, the text still opens only once."""
    step = next(  # the odds are one in a million: looked for, not hoped for
        step
        for step, codes in _windows_from(60_000_000)
        if codes[0] == codes[1] and code_of(step + 1) != codes[0]
    )
    now, text = step * 30.0, code_of(step)

    first = decided(text, now=now)
    second = decided(text, first.state, now=now)
    third = decided(text, second.state, now=now + 30)

    assert [Outcome.ACCEPTED, Outcome.REPLAYED, Outcome.REPLAYED] == [
        first.outcome,
        second.outcome,
        third.outcome,
    ]


def _windows_from(step: int) -> Iterator[tuple[int, tuple[str, str]]]:
    from otpseal.totp import hotp  # pyotp would take minutes; they agree (test_totp)

    key = SEED.reveal()
    before = hotp(key, step - 1)
    while True:
        code = hotp(key, step)
        yield step, (before, code)
        before, step = code, step + 1


# Wrong codes.


def test_a_wrong_code_is_written_with_its_count() -> None:
    """Each wrong code is an event with the count so far, and the wait it starts."""
    expected = [
        {"failures": 1},
        {"failures": 2},
        {"failures": 3},
        {"failures": 4},
        {"failures": 5, "wait_s": 30},
    ]

    state, details = State(), []
    for _ in expected:
        decision = decided(WRONG, state)
        state = decision.state
        (event,) = decision.events
        details.append(event.detail)

    assert expected == details
    assert decided(WRONG, state).retry_after_s == 30


def test_a_right_code_resets() -> None:
    """After a right code the next wrong one is the first again."""
    waited = State(budget=throttle.State(failures=50, wait_until=NOW - 1))

    accepted = decided(RIGHT, waited)
    wrong = decided(WRONG, accepted.state)

    assert throttle.FRESH == accepted.state.budget
    assert throttle.State(failures=1) == wrong.state.budget


def test_the_hundredth_wrong_code_disables() -> None:
    """The 100th consecutive wrong code is wrong, and then nothing is looked at."""
    budget = throttle.State(failures=99, wait_until=NOW)
    state = State(last_step=9, failures=99, budget=budget)

    decision = decided(WRONG, state)
    after = decided(RIGHT, decision.state, now=NOW + 10**7)

    assert decision.outcome is Outcome.WRONG
    assert decision.state.disabled
    assert decision.state.last_step == 9
    assert [
        Event(Kind.ATTEMPT_WRONG, NOW, "a", {"failures": 100}),
        Event(Kind.ACCOUNT_DISABLED, NOW, "a", {"failures": 100}),
    ] == list(decision.events)
    assert after == Decision(
        Outcome.DISABLED, decision.state, counted=Kind.ATTEMPT_DISABLED
    )


@pytest.mark.parametrize("code", [RIGHT, WRONG])
def test_refusals_of_a_wait_are_one_event(code: str) -> None:
    """What was refused in a wait is told by one event, before the next decision's."""
    state = State(budget=throttle.State(failures=5, wait_until=NOW + 30))
    for second in range(30):
        decision = decided(RIGHT, state, now=NOW + second)
        state = decision.state

        assert decision.events == ()
        assert decision.retry_after_s == 30 - second

    first, *_ = decided(code, state, now=NOW + 30).events

    assert Event(Kind.ATTEMPT_THROTTLED, NOW + 30, "a", {"count": 30}) == first


def test_settling_tells_a_wait_that_is_over_once() -> None:
    """`settle` waits for the end of the wait, then tells its refusals, once."""
    state = State(budget=replace(WAITING, refused=3))

    during, nothing = settle("a", state, NOW + 29.9)
    after, events = settle("a", during, NOW + 30)
    again, no_more = settle("a", after, NOW + 31)

    assert (nothing, no_more) == ((), ())
    assert during == state
    assert (Event(Kind.ATTEMPT_THROTTLED, NOW + 30, "a", {"count": 3}),) == events
    assert again == after == State(budget=WAITING)


# Any sequence.


class Attempts(RuleBasedStateMachine):
    """Any sequence of attempts and times, against a model that is plainly right."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.state = State()
        self.submitted = [RIGHT]
        # The model: what was accepted, how many were wrong, and until when to wait.
        self.accepted: list[int] = []
        self.wrong_in_a_row = 0
        self.wait_s = 0
        self.wait_end = 0.0
        self.disabled = False
        self.refused = 0
        self.waits = 0
        self.told: list[int] = []

    @initialize(window=st.integers(0, 1))
    def choose_window(self, window: int) -> None:
        """One window for the whole run."""
        self.window = window

    @rule(seconds=st.integers(0, 100))
    def time_passes(self, seconds: int) -> None:
        """Up to three steps go by."""
        self.now += seconds

    @rule(seconds=st.sampled_from([1, 29, 30, 61, 3600, 10**6]))
    def clock_is_set_back(self, seconds: int) -> None:
        """Somebody sets the clock back."""
        self.now -= seconds

    @rule(offset=st.integers(-2, 2))
    def submit_code_near_now(self, offset: int) -> None:
        """A code of the window, or just beyond it."""
        self.submit(code_of(int(self.now) // 30 + offset))

    @rule(index=st.integers(0, 1000))
    def submit_again(self, index: int) -> None:
        """Any text that was sent before."""
        self.submit(self.submitted[index % len(self.submitted)])

    @rule(times=st.integers(1, 3))
    def submit_wrong(self, times: int) -> None:
        """Wrong codes in a burst."""
        for _ in range(times):
            self.submit(wrong_code(self.now))

    @rule(times=st.integers(1, 40))
    def guess_patiently(self, times: int) -> None:
        """Wrong codes, each after the longest wait."""
        for _ in range(times):
            self.now += 86_400
            self.submit(wrong_code(self.now))

    @rule(text=st.sampled_from(["", "12345", "abcdef", "1234567"]))
    def submit_malformed(self, text: str) -> None:
        """What is no code at all."""
        self.submit(text)

    def submit(self, text: str) -> None:
        """Decide, and compare with the model."""
        expected = self.expect(text)

        decision = decided(text, self.state, now=self.now, window=self.window)

        assert expected is decision.outcome
        self.state = decision.state
        self.submitted.append(text)
        self.told += [
            int(event.detail["count"])
            for event in decision.events
            if event.kind is Kind.ATTEMPT_THROTTLED
        ]

    def expect(self, text: str) -> Outcome:
        """The model: CONTRACT's rules in plain words."""
        if self.disabled:
            return Outcome.DISABLED
        if len(text) != 6 or not set(text) <= set("0123456789"):
            return Outcome.MALFORMED
        if self.now < self.wait_end:
            self.wait_end = min(self.wait_end, self.now + self.wait_s)
            self.refused += 1
            return Outcome.THROTTLED
        current = int(self.now) // 30
        window = range(current - self.window, current + self.window + 1)
        steps = [step for step in window if code_of(step) == text]
        last = max(self.accepted, default=NEVER)
        if steps and max(steps) > last:
            self.accepted.append(max(steps))
            self.wrong_in_a_row = 0
            self.wait_end = 0.0
            return Outcome.ACCEPTED
        if steps:
            return Outcome.REPLAYED
        self.wrong_in_a_row += 1
        self.disabled = self.wrong_in_a_row >= 100
        if self.wrong_in_a_row >= 5:
            self.wait_s = min(30 * 2 ** (self.wrong_in_a_row - 5), 86_400)
            self.wait_end = self.now + self.wait_s
            self.waits += 1
        return Outcome.WRONG

    @invariant()
    def steps_only_rise(self) -> None:
        """No step is accepted twice, and never an earlier one."""
        assert sorted(set(self.accepted)) == self.accepted
        assert self.state.last_step == max(self.accepted, default=NEVER)

    @invariant()
    def only_wrong_codes_count(self) -> None:
        """Replays, refusals and nonsense never count."""
        assert self.wrong_in_a_row == self.state.budget.failures
        assert self.disabled is self.state.disabled

    @invariant()
    def no_refusal_is_lost_or_told_twice(self) -> None:
        """Each refusal is in one event, each wait has one at most."""
        assert self.refused == sum(self.told) + self.state.budget.refused
        assert len(self.told) <= self.waits


Attempts.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestAttempts = Attempts.TestCase
