"""The checker of histories finds what is wrong, and nothing that is right."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from history import PERIOD_S, RIGHT, Attempted, Rest, Turn, findings, is_in_order
from hypothesis import assume, given
from hypothesis import strategies as st

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
