"""Statements of the hot path: lists in few lengths, and what is not written anew."""

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import bindparam, select
from stores import make_sqlite
from test_store_contract import account
from test_store_contract_callers import budget

from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_prepared import SIZES, in_sizes, prepare
from otpseal.adapters.sql_store import SqlStore
from otpseal.errors import StoreUnavailable
from otpseal.ports import Store, Transaction

PAIR = ("c", b"k" * 32)


@given(st.lists(st.integers(), max_size=600))
@example([*range(600)])
def test_a_list_is_given_in_few_lengths(values: list[int]) -> None:
    """Nothing is lost, nothing added but the last value again, no other length."""
    given_out = list(in_sizes(values))

    assert {len(some) for some in given_out} <= {*SIZES}
    assert set(values) == {value for some in given_out for value in some}
    assert len(given_out) == -(-len(values) // SIZES[-1])


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_an_order_that_is_not_the_expected_one(dialect: str) -> None:
    """Values that would go to the wrong columns are noticed when it is compiled."""
    c = schema.budgets.c
    query = select(c.failures).where(
        c.caller == bindparam("a"), c.account == bindparam("b")
    )

    assert prepare(dialect, query, expected=("a", "b")).order == ("a", "b")
    with pytest.raises(AssertionError):
        prepare(dialect, query, expected=("b", "a"))


@pytest.mark.parametrize("count", [0, 1, 3, 256, 257, 600])
def test_as_many_accounts_as_are_asked_for(store: Store, count: int) -> None:
    """More than one statement carries are read by several, fewer by a padded one."""
    with store.transaction() as tx:
        tx.add_accounts([account(f"a{n:05}") for n in range(650)])

        found = tx.accounts([f"a{n:05}" for n in range(count)])

    assert [f"a{n:05}" for n in range(count)] == sorted(found)


def _forget(tx: Transaction) -> None:
    tx.forget_budgets("a")


def _delete(tx: Transaction) -> None:
    tx.delete_account("a")


def _prune(tx: Transaction) -> None:
    tx.prune_budgets(5.0)


@pytest.mark.parametrize("remove", [_forget, _delete, _prune])
def test_a_budget_that_was_read_and_removed_is_put_again(
    store: Store, remove: Callable[[Transaction], None]
) -> None:
    """It is not taken for one that only has to be changed."""
    row = budget(*PAIR, account="a", at=9.0)
    with store.transaction() as tx:
        tx.put_budgets([budget(*PAIR, account="a", at=1.0)])
    with store.transaction() as tx:
        tx.budgets([PAIR])
        remove(tx)
        tx.put_budgets([row])

    with store.transaction() as tx:
        assert {PAIR: row} == tx.budgets({PAIR})


@pytest.mark.parametrize("name", ["a", "b", ""])
def test_a_budget_keeps_whose_it_is_now(store: Store, name: str) -> None:
    """Read with one account's name and put with another: the other stands."""
    row = budget(*PAIR, account=name, at=9.0)
    with store.transaction() as tx:
        tx.put_budgets([budget(*PAIR, account="a", at=1.0)])
    with store.transaction() as tx:
        tx.budgets([PAIR])
        tx.put_budgets([row])

    with store.transaction() as tx:
        assert {PAIR: row} == tx.budgets({PAIR})


def test_the_drivers_error_says_no_values(tmp_path: Path) -> None:
    """It becomes the store's own error, behind which no row stands."""
    store = make_sqlite(tmp_path)
    with store.transaction() as tx:
        tx.connection.exec_driver_sql("DROP TABLE accounts")

    canary = bytes(range(97, 123)).decode()  # in no line of this file

    with pytest.raises(StoreUnavailable, match="no such table") as caught:
        _read(store, canary)

    assert caught.value.__context__ is None
    assert canary not in "".join(traceback.format_exception(caught.value))
    store.close()


def test_after_the_drivers_error_the_store_goes_on(tmp_path: Path) -> None:
    """Nothing of the transaction stays, and the next one has a connection."""
    store = make_sqlite(tmp_path)

    with pytest.raises(StoreUnavailable):
        _fail(store)

    with store.transaction() as tx:
        assert tx.mark("clock-ms") is None
        assert {} == tx.budgets([PAIR])
    store.close()


def _read(store: Store, name: str) -> None:
    with store.transaction() as tx:
        tx.accounts([name])


def _fail(store: SqlStore) -> None:
    with store.transaction() as tx:
        tx.put_budgets([budget(*PAIR)])
        tx.connection.exec_driver_sql("DROP TABLE marks")
        tx.mark("clock-ms")
