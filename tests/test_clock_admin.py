"""Accepting this machine's time: audited, and no spent step comes back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from backup_shop import ALICE, Shop
from conftest import TurnedClock
from stores import make_sqlite

from otpseal import clock_admin, totp
from otpseal.adapters.file_keys import RsaKeys
from otpseal.errors import ClockBehind
from otpseal.ledger import AuditLog
from otpseal.service import Attempt
from otpseal.verification import Outcome


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    service_keys: RsaKeys,
    clock: TurnedClock,
) -> Iterator[Shop]:
    """A store with something in it."""
    if request.param == "sqlite":
        store = make_sqlite(tmp_path)
    else:
        store = request.getfixturevalue("database").open_store(reads_clock=False)
    made = Shop.opened(store, service_keys, clock)
    made.fill()
    yield made
    store.close()


def accept(shop: Shop) -> clock_admin.Accepted:
    """Accept the time of the shop's clock."""
    service = shop.service
    return clock_admin.accept(
        shop.store, service.storage_key, service.timekeeper, shop.clock
    )


def test_a_poisoned_mark_is_reset(shop: Shop) -> None:
    """Codes are verified again, but none of a step that could be spent."""
    code = shop.code()
    with shop.store.transaction() as tx:
        tx.set_mark("clock-ms", round((shop.clock() + 10**6) * 1000))
    (refused,) = shop.service.verify_batch([Attempt(code, "alice")])
    assert isinstance(refused, ClockBehind)

    done = accept(shop)

    assert (shop.clock() + 10**6, shop.clock(), 1, 0) == (
        done.before,
        done.now,
        done.raised,
        done.ahead,
    )
    assert Outcome.REPLAYED is shop.try_code(code)
    shop.clock.turn(60)
    assert Outcome.ACCEPTED is shop.try_code(shop.code())
    log = AuditLog(shop.store, shop.service.storage_key, shop.clock).newest(100)
    (event,) = [r for r in log if r.row.kind == "clock.accepted"]
    assert event.genuine
    assert {"from", "to", "raised"} == set(json.loads(event.row.detail))


def test_steps_of_a_time_to_come_are_counted(shop: Shop) -> None:
    """An account that spent a step while the clock was ahead is told, not lowered."""
    shop.clock.turn(10**6)
    ahead = totp.step_at(shop.clock())
    assert Outcome.ACCEPTED is shop.try_code(shop.code())
    shop.clock.turn(-(10**6))

    done = accept(shop)

    assert (0, 1) == (done.raised, done.ahead)
    row = shop.service.account("alice")
    assert row is not None
    assert ahead == row.state.last_step
    assert Outcome.ACCEPTED is not shop.try_code(totp.generate(ALICE, 0).text)


def test_any_mark_can_be_left_behind(shop: Shop) -> None:
    """A mark beyond the calendar is no reason to stop."""
    with shop.store.transaction() as tx:
        tx.set_mark("clock-ms", 2**62)

    assert accept(shop).before == pytest.approx(2**62 / 1000)


def test_what_the_clocks_say(shop: Shop) -> None:
    """Looking changes nothing."""
    times = clock_admin.show(shop.store, shop.service.timekeeper, shop.clock)

    assert (shop.clock(), None, True) == (times.now, times.mark, times.may_verify)
