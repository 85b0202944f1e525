"""What every store promises of many rows at once, and of what is ahead."""

from dataclasses import replace

from stores import store
from test_store_contract import account, event

from otpseal.account_state import State
from otpseal.ports import Store
from otpseal.totp import OtpType, Parameters

__all__ = ["store"]

MANY = 2500


def test_many_accounts_and_events(store: Store) -> None:
    """They come back equal, in order, and are all found."""
    rows = [
        replace(account(f"a{n:05}"), issuer="Ä\t\\N\n", state=State(last_step=n))
        for n in range(MANY)
    ]
    told = [event(n, account=f"a{n}") for n in range(MANY)]

    with store.transaction() as tx:
        tx.add_accounts(rows)
        tx.append_events(told)
        tx.append_events([event(MANY)])

    with store.transaction() as tx:
        names = [row.id for row in rows]
        assert rows == list(tx.accounts(names).values())
        seen = tx.newest_events(MANY + 1)
        assert [*range(MANY + 1)] == [row.at_ms for row in seen]
        assert sorted({row.id for row in seen}) == [row.id for row in seen]
        prints = [row.fingerprint for row in rows]
        found = tx.existing([*names, "no"], [*prints, b"no"])
        assert (set(names), set(prints)) == found
        assert (set(), set()) == tx.existing([], [])


def test_what_is_ahead_is_counted(store: Store) -> None:
    """TOTP accounts with steps later than the window, drift included; no others."""
    now = 3000.0
    hotp = Parameters(type=OtpType.HOTP)
    with store.transaction() as tx:
        tx.add_accounts(
            [
                replace(account("at"), state=State(last_step=101)),
                replace(account("over"), state=State(last_step=102)),
                replace(account("drifted"), state=State(last_step=104, drift=3)),
                replace(account("counts"), parameters=hotp, state=State(last_step=999)),
            ]
        )

        assert 1 == tx.count_ahead(now)
        assert 0 == tx.count_ahead(now + 30)


def test_all_tombstones(store: Store) -> None:
    """Those that are not forgotten, with their last steps."""
    with store.transaction() as tx:
        tx.bury(b"f", 7, 100.0)
        tx.bury(b"g", 8, 50.0)

        assert {b"f": 7, b"g": 8} == tx.all_buried()
        tx.forget_buried(50.0)
        assert {b"f": 7} == tx.all_buried()
