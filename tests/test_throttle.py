"""The attempt budget: laws of the state machine, and CONTRACT's exact numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpseal import throttle
from otpseal.throttle import DEFAULT_POLICY, FRESH, Policy, State

NOW = 1_800_000_000.0
TIMES = st.floats(0, 4e9)
POLICIES = st.builds(
    Policy,
    threshold=st.integers(1, 20),
    first_wait_s=st.integers(1, 600),
    max_wait_s=st.integers(600, 10**6),
    disable_at=st.integers(20, 200),
)


def failed(times: int, now: float = NOW, policy: Policy = DEFAULT_POLICY) -> State:
    """Return the state after so many wrong codes, each at once when it may be tried."""
    state = FRESH
    for _ in range(times):
        now += throttle.seconds_to_wait(state, now, policy)
        state = throttle.fail(state, now, policy)
    return state


@pytest.mark.parametrize(
    ("failures", "wait_s"),
    [
        (0, 0),
        (1, 0),
        (4, 0),
        (5, 30),
        (6, 60),
        (7, 120),
        (8, 240),
        (9, 480),
        (10, 960),
        (11, 1920),
        (12, 3840),
        (13, 7680),
        (14, 15_360),
        (15, 30_720),
        (16, 61_440),
        (17, 86_400),
        (18, 86_400),
        (99, 86_400),
        (10**9, 86_400),
    ],
)
def test_waits_are_those_of_the_contract(failures: int, wait_s: int) -> None:
    """The 5th wrong code costs 30 s, each further one twice that, a day at most."""
    assert wait_s == throttle.wait_after(failures)


@given(policy=POLICIES, failures=st.integers(0, 300))
def test_waits_double_to_the_cap(policy: Policy, failures: int) -> None:
    """Each wait is twice the one before or the cap; before the threshold is none."""
    this = throttle.wait_after(failures, policy)
    following = throttle.wait_after(failures + 1, policy)

    if failures + 1 < policy.threshold:
        assert following == 0
    elif failures + 1 == policy.threshold:
        assert following == policy.first_wait_s
    else:
        assert following == min(2 * this, policy.max_wait_s)


def test_four_wrong_codes_cost_nothing() -> None:
    """Up to the fourth consecutive wrong code nobody waits."""
    assert throttle.seconds_to_wait(failed(4), NOW) == 0


@pytest.mark.parametrize(
    ("passed_s", "left_s"),
    [
        (0.0, 30),
        (0.001, 30),
        (0.999, 30),
        (1.0, 29),
        (29.0, 1),
        (29.001, 1),
        (29.999, 1),
        (30.0, 0),
        (31.0, 0),
    ],
)
def test_the_rest_of_a_wait_is_rounded_up(passed_s: float, left_s: int) -> None:
    """Who waits as many seconds as he was told is looked at again, and not before."""
    assert left_s == throttle.seconds_to_wait(failed(5), NOW + passed_s)


@given(failures=st.integers(1, 99), now=TIMES, after_s=st.floats(0, 1e6))
def test_nobody_waits_longer_than_he_was_told(
    failures: int, now: float, after_s: float
) -> None:
    """As seconds pass the rest shrinks by as many; at its end it is 0."""
    state = throttle.fail(State(failures=failures - 1), now)
    told = throttle.seconds_to_wait(state, now)

    left = throttle.seconds_to_wait(state, now + after_s)

    assert told == throttle.wait_after(failures)
    assert abs(left - max(0, math.ceil(told - after_s))) <= 1
    assert throttle.seconds_to_wait(state, now + told + 0.001) == 0


@given(failures=st.integers(5, 99), refusals=st.lists(st.floats(0, 1), max_size=20))
def test_refusals_lengthen_nothing_and_are_counted(
    failures: int, refusals: list[float]
) -> None:
    """However often one tries during a wait, its end and the count of codes stay."""
    begun = throttle.fail(State(failures=failures - 1), NOW)
    state = begun

    for share in sorted(refusals):
        state = throttle.refuse(state, NOW + share * throttle.wait_after(failures))

    assert begun.wait_until == state.wait_until
    assert begun.failures == state.failures
    assert len(refusals) == state.refused


@given(policy=POLICIES, failures=st.integers(0, 99), now=TIMES)
def test_a_wrong_code_counts_one(policy: Policy, failures: int, now: float) -> None:
    """A wrong code adds one and starts its wait at the moment it was tried."""
    state = throttle.fail(State(failures, wait_until=5.0, refused=3), now, policy)

    wait = throttle.wait_after(failures + 1, policy)
    assert State(failures + 1, wait_until=now + wait if wait else 0.0) == state


@pytest.mark.parametrize(("failures", "exhausted"), [(99, False), (100, True)])
def test_a_hundred_wrong_codes_are_the_end(failures: int, *, exhausted: bool) -> None:
    """The 100th consecutive wrong code exhausts the budget, the 99th does not."""
    assert exhausted is throttle.is_exhausted(State(failures))


@given(failures=st.integers(5, 99), back_s=st.floats(0, 1e9))
def test_a_clock_set_back_never_asks_for_more_than_the_wait(
    failures: int, back_s: float
) -> None:
    """However far a clock goes back, nobody is told to wait longer than the wait."""
    state = throttle.fail(State(failures=failures - 1), NOW)

    assert throttle.seconds_to_wait(state, NOW - back_s) == throttle.wait_after(
        failures
    )


@given(failures=st.integers(5, 99), back_s=st.floats(0, 1e9))
def test_a_clock_set_back_locks_nobody_out(failures: int, back_s: float) -> None:
    """After one refusal under the new time the wait ends when that said, no later."""
    state = throttle.fail(State(failures=failures - 1), NOW)
    now = NOW - back_s
    told = throttle.seconds_to_wait(state, now)

    state = throttle.refuse(state, now)

    assert throttle.seconds_to_wait(state, now + told + 0.001) == 0


def test_a_damaged_end_locks_nobody_out() -> None:
    """An end of the wait that is no finite time counts as the longest wait."""
    assert throttle.seconds_to_wait(State(5, wait_until=math.inf), NOW) == 30
