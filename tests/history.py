"""A small checker of histories: what many clients saw, held against the rules.

Each attempt has the interval in which it was decided, if it was; within the interval
nothing is known of when. So the checker finds only what is wrong at every instant that
is possible: a history without a finding may still be wrong, one with a finding is.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

PERIOD_S = 30.0
WINDOW = 1


@dataclass(frozen=True)
class Attempted:
    """An attempt as a client saw it; times are the machine's, in Unix seconds.

    Attributes:
        start: before it was sent.
        end: after the answer came, or none did.
        account: whose code.
        step: the step that the code belongs to.
        accepted: the answer; None if there was none, or an error.
    """

    start: float
    end: float
    account: str
    step: int
    accepted: bool | None


@dataclass(frozen=True)
class Turn:
    """A change of the server's clock.

    Attributes:
        since: before it was made.
        until: after it was made.
        ahead_s: from then on it shows so many seconds more than the machine's.
    """

    since: float
    until: float
    ahead_s: float


#: A clock that is right all the time.
RIGHT = (Turn(float("-inf"), float("-inf"), 0.0),)


@dataclass(frozen=True)
class Rest:
    """What is in the store at the end.

    Attributes:
        last_steps: by account.
        spent: how often the audit log has each accepted account and step.
    """

    last_steps: Mapping[str, int]
    spent: Counter[tuple[str, int]] = field(default_factory=Counter)


def findings(
    history: Sequence[Attempted], rest: Rest, turns: Sequence[Turn] = RIGHT
) -> list[str]:
    """Return all that cannot have been right, in words; empty if nothing was found.

    Args:
        history: in any order.
        rest: read after the last attempt had ended.
        turns: in order; the first from before the first attempt.
    """
    accepted = [one for one in history if one.accepted]
    found = [
        *_twice(accepted, rest),
        *_outside(accepted, turns),
        *_missing(accepted, rest),
        *_backwards(accepted),
        *_unasked(history, rest),
    ]
    return sorted(found)


def _twice(accepted: Sequence[Attempted], rest: Rest) -> Iterator[str]:
    told = Counter((one.account, one.step) for one in accepted)
    for pairs, where in (told, "told"), (rest.spent, "recorded"):
        for (account, step), count in pairs.items():
            if count > 1:
                yield f"accepted {count} times ({where}): {account} {step}"


def _outside(accepted: Sequence[Attempted], turns: Sequence[Turn]) -> Iterator[str]:
    for one in accepted:
        if not any(
            low // PERIOD_S - WINDOW <= one.step <= high // PERIOD_S + WINDOW
            for low, high in _shown(one.start, one.end, turns)
        ):
            yield f"accepted outside the window: {one}"


def _shown(
    start: float, end: float, turns: Sequence[Turn]
) -> Iterator[tuple[float, float]]:
    """Yield what the server's clock may have shown from `start` to `end`."""
    gone = [turn.until for turn in turns[1:]] + [float("inf")]
    for turn, until in zip(turns, gone, strict=True):
        low, high = max(start, turn.since), min(end, until)
        if low <= high:
            yield low + turn.ahead_s, high + turn.ahead_s


def _missing(accepted: Sequence[Attempted], rest: Rest) -> Iterator[str]:
    for one in accepted:
        is_recorded = rest.spent[one.account, one.step] > 0
        if not is_recorded or rest.last_steps.get(one.account, -1) < one.step:
            yield f"acknowledged but not in the store: {one}"


def _backwards(accepted: Sequence[Attempted]) -> Iterator[str]:
    by_account: dict[str, list[Attempted]] = {}
    for one in accepted:
        by_account.setdefault(one.account, []).append(one)
    for attempts in by_account.values():
        highest: Attempted | None = None  # of those that had ended
        ended = sorted(attempts, key=lambda one: one.end)
        waiting = iter(ended)
        following = next(waiting, None)
        for one in sorted(attempts, key=lambda one: one.start):
            while following is not None and following.end < one.start:
                if highest is None or following.step > highest.step:
                    highest = following
                following = next(waiting, None)
            if highest is not None and one.step <= highest.step:
                yield f"an earlier step after a later one: {one} after {highest}"


def _unasked(history: Sequence[Attempted], rest: Rest) -> Iterator[str]:
    asked = {(one.account, one.step) for one in history}
    for account, step in rest.spent.keys() - asked:
        yield f"recorded, but nobody asked: {account} {step}"


def is_in_order(turns: Sequence[Turn]) -> bool:
    """Tell whether no turn began before the one before it was made."""
    return all(a.until <= b.since for a, b in pairwise(turns))
