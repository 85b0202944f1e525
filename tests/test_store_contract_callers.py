"""What every `otpseal.ports.Store` promises of accounts in bulk and of callers."""

import secrets
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_store_contract import BIG, BYTES, INT, REAL, account, event, many

from otpseal import throttle
from otpseal.access import Caller, Scope
from otpseal.account_state import State
from otpseal.audit import Kind
from otpseal.ports import AccountRow, BudgetRow, Store
from otpseal.totp import OtpType, Parameters

NAMES = st.text("abc/.-", min_size=1, max_size=30)
BUDGETS = st.builds(
    BudgetRow,
    caller=NAMES,
    key=BYTES,
    account=NAMES,
    budget=st.builds(throttle.State, failures=INT, wait_until=REAL, refused=BIG),
    touched_at=REAL,
)
CALLERS = st.builds(
    Caller,
    id=NAMES,
    name=NAMES,
    digest=BYTES,
    scopes=st.frozensets(st.sampled_from(Scope)),
    prefix=st.sampled_from(["", "shop/"]),
    created_at=REAL,
    expires_at=st.none() | REAL,
    revoked_at=st.none() | REAL,
    strangers=INT,
)


def caller(name: str) -> Caller:
    """Return a caller with a digest of its own."""
    return Caller(name, name, name.encode().ljust(32), frozenset(), "", 1.0)


def budget(caller: str, key: bytes, *, account: str = "", at: float = 0.0) -> BudgetRow:
    """Return a budget that was touched at a time."""
    return BudgetRow(caller, key, account, throttle.State(1, 2.0, 3), at)


# Accounts in bulk.


def test_many_accounts_are_added_at_once(store: Store) -> None:
    """More than one statement carries; and all of them are found again."""
    rows = [account(f"a{n:05}") for n in range(1500)]

    with store.transaction() as tx:
        tx.add_accounts(rows)
        tx.add_accounts([])

    with store.transaction() as tx:
        ids, prints = tx.existing(
            ["a00000", "a01499", "b"], [rows[700].fingerprint, b"none"]
        )
        assert rows == tx.accounts_after("", 2000)
    assert {"a00000", "a01499"} == ids
    assert {rows[700].fingerprint} == prints


def test_an_id_or_seed_that_is_there_takes_all_back(store: Store) -> None:
    """A bulk of accounts is stored whole or not at all."""
    with store.transaction() as tx:
        tx.put_account(account("b"))

    for clash in (account("b"), account("c", fingerprint=account("b").fingerprint)):
        with pytest.raises(Exception), store.transaction() as tx:  # noqa: B017, PT011
            tx.add_accounts([account("a"), clash])

    with store.transaction() as tx:
        assert tx.account_ids() == ["b"]


def test_accounts_are_listed_by_their_bytes(store: Store) -> None:
    """Page after page, whatever language the database was made in."""
    names = ["a", "a-b", "a.b", "a/b", "a0", "a@b", "a_b", "aa", "b", "shop/a", "shop0"]
    with store.transaction() as tx:
        tx.add_accounts([account(name) for name in names])

    pages, after = [], ""
    with store.transaction() as tx:
        while page := [row.id for row in tx.accounts_after(after, 3)]:
            pages += page
            after = page[-1]
        inside = [row.id for row in tx.accounts_after("", 99, prefix="a/")]
        shop = [row.id for row in tx.accounts_after("", 99, prefix="shop/")]

    assert sorted(names, key=str.encode) == pages
    assert ["a/b"] == inside
    assert ["shop/a"] == shop


def test_a_deleted_account_takes_its_own_with_it(store: Store) -> None:
    """Its recovery codes and budgets go, others' stay."""
    with store.transaction() as tx:
        for name in ("a", "b"):
            tx.put_account(account(name))
            tx.set_recovery_digests(name, [b"d"])
            tx.put_budgets([budget("c", name.encode(), account=name)])

    with store.transaction() as tx:
        tx.delete_account("a")

    with store.transaction() as tx:
        assert ["b"] == tx.account_ids()
        assert {("b", b"d")} == tx.recovery_digests(["a", "b"])
        assert {("c", b"b")} == set(tx.budgets([("c", b"a"), ("c", b"b")]))


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        (101, {}),
        (500, {"last_step": 500}),
        (103, {"drift": 2}),
        (98, {"drift": -3}),
    ],
)
def test_last_steps_are_raised_and_never_lowered(
    store: Store, expected: int, changes: dict[str, int]
) -> None:
    """To now and the window by the account's own period and drift."""
    row = account("a", state=replace(State(last_step=7), **changes))
    minute = account("m", parameters=Parameters(period=60, window=0))
    hotp = account("h", parameters=Parameters(type=OtpType.HOTP), state=State())
    with store.transaction() as tx:
        tx.add_accounts([row, minute, hotp])

    with store.transaction() as tx:
        raised = tx.raise_last_steps(30 * 100 + 29.9)

    with store.transaction() as tx:
        found = tx.accounts(["a", "m", "h"])
    assert expected == found["a"].state.last_step
    assert found["m"].state.last_step == 50
    assert hotp == found["h"]
    assert raised == (1 if expected == 500 else 2)


def test_saving_the_state_of_no_account_changes_nothing(store: Store) -> None:
    """So that unknown accounts may have the same work done."""
    row = account("a")
    with store.transaction() as tx:
        tx.put_account(row)
        tx.save_states([("", State(last_step=9)), ("none", State(last_step=9))])

    with store.transaction() as tx:
        assert [row] == tx.accounts_after("", 9)


# Callers.


@many
@given(made=CALLERS)
def test_caller_round_trip(store: Store, made: Caller) -> None:
    """A caller is found by its digest, equal in every field."""
    made = replace(made, id=secrets.token_hex(16), digest=secrets.token_bytes(32))
    with store.transaction() as tx:
        tx.add_caller(made)

    with store.transaction() as tx:
        assert {made.digest: made} == tx.callers([made.digest, b"none"])
        assert made in tx.all_callers()


def test_a_caller_is_revoked_once(store: Store) -> None:
    """The first revocation stands."""
    with store.transaction() as tx:
        tx.add_caller(caller("a"))

        assert tx.revoke_caller("a", 5.0)
        assert not tx.revoke_caller("a", 6.0)
        assert not tx.revoke_caller("b", 5.0)

    with store.transaction() as tx:
        assert [5.0] == [found.revoked_at for found in tx.all_callers()]


# Budgets.


@many
@given(row=BUDGETS)
def test_budget_round_trip(store: Store, row: BudgetRow) -> None:
    """A budget comes back equal, and is replaced by the next."""
    pair = row.caller, row.key
    spent = replace(row, budget=throttle.State(7, 8.0, 9), account="other")

    with store.transaction() as tx:
        tx.put_budgets([row])
        assert {pair: row} == tx.budgets([pair, (row.caller, row.key + b"?")])
        tx.put_budgets([spent])

    with store.transaction() as tx:
        assert {pair: spent} == tx.budgets([pair])


def test_only_the_pairs_asked_for_are_given(store: Store) -> None:
    """Not every caller's budget for every account that was named."""
    pairs = {("a", b"1"), ("b", b"2")}
    with store.transaction() as tx:
        for name in ("a", "b"):
            tx.put_budgets([budget(name, key) for key in (b"1", b"2")])

        assert pairs == set(tx.budgets(pairs))
        assert tx.budgets([]) == {}


def test_budgets_are_pruned_and_strangers_counted_anew(store: Store) -> None:
    """What was not touched since goes; a caller's strangers are those that stay."""
    with store.transaction() as tx:
        tx.add_caller(caller("a"))
        tx.add_caller(caller("b"))
        tx.put_budgets(
            [
                budget("a", b"1", at=9.9),
                budget("a", b"2", at=10.0),
                budget("a", b"3", at=11.0),
                budget("a", b"4", at=11.0, account="known"),
                budget("b", b"1", at=1.0),
            ]
        )
        tx.count_strangers({"a": 3, "b": 1})

    with store.transaction() as tx:
        assert tx.prune_budgets(10.0) == 2

    with store.transaction() as tx:
        assert [2, 0] == [found.strangers for found in tx.all_callers()]


def test_budgets_that_count_refusals(store: Store) -> None:
    """Those of accounts; a stranger's refusals are nobody's event."""
    quiet = replace(budget("a", b"1", account="x"), budget=throttle.FRESH)
    told = budget("a", b"2", account="x")
    with store.transaction() as tx:
        tx.put_budgets([quiet, told, budget("a", b"3")])

        assert [told] == tx.refusing_budgets()
        tx.forget_budgets("x")
        assert tx.refusing_budgets() == []
        assert len(tx.budgets([("a", b"3")])) == 1


def test_two_threads_never_lose_a_failure(store: Store) -> None:
    """Also of an account that does not exist, where there is no row to lock."""
    pair = "c", secrets.token_bytes(32)

    def fail() -> None:
        for _ in range(25):
            with store.transaction(shared=True) as tx:
                row = tx.budgets([pair]).get(pair)
                failures = 0 if row is None else row.budget.failures
                state = throttle.State(failures + 1, 0.0, 0)
                tx.put_budgets([BudgetRow(*pair, "", state, 0.0)])

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with store.transaction() as tx:
        assert tx.budgets([pair])[pair].budget.failures == 100


# Recovery codes.


def test_recovery_digests_are_an_accounts_own(store: Store) -> None:
    """New ones take the place of the old, and one is spent alone."""
    with store.transaction() as tx:
        tx.set_recovery_digests("a", [b"1", b"2"])
        tx.set_recovery_digests("b", [b"1"])
        tx.set_recovery_digests("a", [b"2", b"3"])
        tx.spend_recovery_digest("a", b"3")
        tx.spend_recovery_digest("b", b"9")

    with store.transaction() as tx:
        assert {("a", b"2"), ("b", b"1")} == tx.recovery_digests(["a", "b", "c"])
        assert tx.recovery_digests([]) == set()


# Events and marks.


def test_events_are_read_backwards(store: Store) -> None:
    """Newest first, page by page, without a gap."""
    with store.transaction() as tx:
        tx.append_events([event(n) for n in range(5)])

        newest = tx.events_before(None, 2)
        rest = tx.events_before(newest[-1].id, 9)

    assert [4, 3, 2, 1, 0] == [row.at_ms for row in (*newest, *rest)]


def test_events_are_counted_from_where_one_was(store: Store) -> None:
    """Only the kinds asked for, and only the new ones."""
    wrong, accepted = Kind.ATTEMPT_WRONG, Kind.ATTEMPT_ACCEPTED
    with store.transaction() as tx:
        assert tx.count_events_after(0, [wrong]) == (0, {})
        tx.append_events([event(1, kind=wrong)])
        first, _ = tx.count_events_after(0, [wrong])
        tx.append_events([event(2, kind=kind) for kind in (wrong, wrong, accepted)])

        newest, counts = tx.count_events_after(first, [wrong, Kind.SEED_ISSUED])

    assert (first + 3, {"attempt.wrong": 2}) == (newest, counts)


def test_a_mark_is_raised_only(store: Store) -> None:
    """Two processes that raise it never take each other back."""
    with store.transaction() as tx:
        tx.raise_mark("m", 5)
        tx.raise_mark("m", 4)
        assert tx.mark("m") == 5
        tx.raise_mark("m", 6)
        assert tx.mark("m") == 6


def test_an_account_keeps_all_its_words(store: Store) -> None:
    """Issuer and label as given, in any script."""
    row: AccountRow = account("a", issuer="Café ☕", label="小林")
    with store.transaction() as tx:
        tx.put_account(row)

    with store.transaction() as tx:
        assert row == tx.accounts(["a"])["a"]
