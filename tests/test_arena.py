"""The checks of the force tests find what they are there for (negative controls)."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from arena import Arena, Told, arena_on, assert_kept
from server_fixture import code_at, wrong_code_at

from otpseal.adapters.file_keys import RsaKeys
from otpseal.verification import Outcome


@pytest.fixture
def arena(tmp_path: Path, service_keys: RsaKeys) -> Iterator[Arena]:
    """A store of which two accounts were used: a right code, and two wrong ones."""
    with arena_on(f"sqlite:///{tmp_path / 'otpseal.db'}", service_keys) as made:
        yield made


@pytest.fixture
def told(arena: Arena) -> Told:
    """What the one who submitted the codes was told."""
    seeds = arena.enrol(["right", "wrong", "unused"])
    now = time.time()
    accepted = arena.service.verify(code_at(now, seeds["right"]), "right")
    for _ in range(2):
        wrong = arena.service.verify(wrong_code_at(now, seeds["wrong"]), "wrong")
        assert Outcome.WRONG is wrong.outcome
    assert accepted.step is not None
    return Told({"right": accepted.step}, Counter(wrong=2), {"right", "unused"})


def test_what_was_kept_is_no_loss(arena: Arena, told: Told) -> None:
    """Nothing is found where nothing is lost."""
    assert_kept(arena, told)


def lose_acceptance(told: Told) -> None:
    """An acceptance was told that the store does not have."""
    told.accepted["unused"] = told.accepted["right"]


def lose_step(told: Told) -> None:
    """A later step was told than the store has."""
    told.accepted["right"] += 1


def lose_failure(told: Told) -> None:
    """More failures were told than the store has."""
    told.wrong["wrong"] += 1


@pytest.mark.parametrize("lose", [lose_acceptance, lose_step, lose_failure])
def test_what_was_lost_is_found(
    arena: Arena, told: Told, lose: Callable[[Told], None]
) -> None:
    """Each kind of loss."""
    lose(told)

    with pytest.raises(AssertionError):
        assert_kept(arena, told)


def test_what_was_accepted_twice_is_found(arena: Arena, told: Told) -> None:
    """The audit log has one step of one account twice."""
    with arena.store.transaction() as tx:
        tx.append_events(tx.newest_events(1, kind="attempt.accepted"))

    with pytest.raises(AssertionError):
        assert_kept(arena, told)
