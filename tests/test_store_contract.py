"""What every `otpseal.ports.Store` promises, whichever it is."""

import secrets
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import make_sqlite

from otpseal import throttle
from otpseal.account_state import State, Status
from otpseal.audit import Kind, Tally
from otpseal.errors import StoreUnavailable
from otpseal.ports import AccountRow, EventRow, IssuedSeed, Store
from otpseal.totp import CLASSIC, OtpType, Parameters

# The fixture is made once for all examples: each writes under names of its own, or
# over what was there.
many = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
BIG = st.integers(-(2**63), 2**63 - 1)
INT = st.integers(-(2**31), 2**31 - 1)
REAL = st.floats(allow_nan=False)
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40
)
BYTES = st.binary(max_size=64)
STATES = st.builds(
    State,
    status=st.sampled_from(Status),
    last_step=BIG,
    drift=INT,
    failures=INT,
    budget=st.builds(throttle.State, failures=INT, wait_until=REAL, refused=BIG),
)
ACCOUNTS = st.builds(
    AccountRow,
    id=TEXT,
    sealed_seed=BYTES,
    fingerprint=st.just(b""),
    parameters=st.builds(
        Parameters,
        algorithm=st.text("SHA1256", max_size=8),
        digits=INT,
        period=INT,
        type=st.sampled_from(OtpType),
        window=INT,
    ),
    imported_at=REAL,
    state=STATES,
    issuer=TEXT,
    label=TEXT,
)
EVENTS = st.builds(
    EventRow,
    id=st.just(0),
    at_ms=BIG,
    kind=st.sampled_from([kind.value for kind in Kind]),
    account=TEXT,
    detail=TEXT,
    mac=BYTES,
)
ISSUED = st.builds(
    IssuedSeed,
    pair=st.binary(min_size=32, max_size=32),
    student_id=TEXT,
    github_repo_url=TEXT,
    kid=st.text("abc_-", max_size=43),
    sealed_seed=BYTES,
    issued_at=REAL,
)


def account(name: str, **changes: object) -> AccountRow:
    """Return an account with a fingerprint of its own."""
    row = AccountRow(
        id=name,
        sealed_seed=b"sealed",
        fingerprint=name.encode().ljust(32),
        parameters=CLASSIC,
        imported_at=1.5,
        state=State(),
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def event(at_ms: int, *, account: str = "", kind: Kind = Kind.CODE_LOGGED) -> EventRow:
    """Return an event at a time."""
    return EventRow(0, at_ms, kind.value, account, "{}", b"mac")


class Rollback(Exception):  # noqa: N818 - thrown to end a transaction, no error
    """Thrown out of a transaction."""


# What goes in comes out.


@many
@given(row=ACCOUNTS)
def test_account_round_trip(store: Store, row: AccountRow) -> None:
    """An account comes back in another transaction, equal in every field."""
    row = replace(row, fingerprint=secrets.token_bytes(32))

    with store.transaction() as tx:
        tx.put_account(row)

    with store.transaction() as tx:
        found = tx.accounts([row.id, row.id + "?"])

    assert {row.id: row} == found


@many
@given(row=ACCOUNTS, state=STATES)
def test_state_round_trip(store: Store, row: AccountRow, state: State) -> None:
    """A saved state replaces the state and nothing else."""
    row = replace(row, fingerprint=secrets.token_bytes(32))
    with store.transaction() as tx:
        tx.put_account(row)

    with store.transaction() as tx:
        tx.save_states([(row.id, state)])

    with store.transaction() as tx:
        assert replace(row, state=state) == tx.accounts([row.id])[row.id]


@many
@given(row=EVENTS)
def test_event_round_trip(store: Store, row: EventRow) -> None:
    """An event comes back equal in every field, under an id of its own."""
    with store.transaction() as tx:
        tx.append_events([row])

    with store.transaction() as tx:
        (found,) = tx.newest_events(1)

    assert row == replace(found, id=0)
    assert found.id > 0


@many
@given(issued=ISSUED)
def test_issued_seed_round_trip(store: Store, issued: IssuedSeed) -> None:
    """An issued seed comes back equal in every field; another pair has none."""
    with store.transaction() as tx:
        tx.put_issued(issued)

    with store.transaction() as tx:
        assert issued == tx.issued(issued.pair)
        assert tx.issued(issued.pair + b"?") is None


@many
@given(
    tally=st.builds(
        Tally, kind=st.sampled_from(Kind), account=TEXT, pending=BIG, since=REAL
    )
)
def test_tally_round_trip(store: Store, tally: Tally) -> None:
    """A count comes back equal, by its name and among all."""
    with store.transaction() as tx:
        tx.put_tally(tally)

    with store.transaction() as tx:
        assert tally == tx.tally(tally.kind, tally.account)
        assert tally in tx.tallies()


@many
@given(fingerprint=BYTES, last_step=BIG, now=st.floats(0, 1e12))
def test_tombstone_round_trip(
    store: Store, fingerprint: bytes, last_step: int, now: float
) -> None:
    """A tombstone is found until it is forgotten, and then it is gone for good."""
    until = now + 10
    with store.transaction() as tx:
        tx.bury(fingerprint, last_step, until)

    with store.transaction() as tx:
        tx.forget_buried(now)
        assert last_step == tx.buried(fingerprint)
        tx.forget_buried(until)
        assert tx.buried(fingerprint) is None


@many
@given(name=st.text("abc-", min_size=1, max_size=64), value=BIG)
def test_mark_round_trip(store: Store, name: str, value: int) -> None:
    """A mark comes back; writing it again replaces it."""
    with store.transaction() as tx:
        tx.set_mark(name, 7)
        tx.set_mark(name, value)

    with store.transaction() as tx:
        assert value == tx.mark(name)
        assert tx.mark(name + "!") is None


def test_an_empty_store_is_empty(store: Store) -> None:
    """Nothing is in a new store, and asking for nothing gives nothing."""
    with store.transaction() as tx:
        assert tx.storage_key_record() is None
        assert tx.account_ids() == []
        assert tx.accounts([]) == {}
        assert tx.accounts(["default"]) == {}
        assert tx.holder(b"f") is None
        assert tx.refusing_accounts() == []
        assert tx.newest_events(10) == []
        assert tx.tallies() == []
        assert Tally(Kind.SEED_REFUSED, "a") == tx.tally(Kind.SEED_REFUSED, "a")
        assert tx.mark("m") is None
        assert tx.buried(b"f") is None
        assert tx.issued(b"p") is None
        assert tx.issued_count() == 0
        assert tx.prune_events(2**62) == 0
        tx.save_states([])
        tx.append_events([])


def test_storage_key_record_is_kept(store: Store) -> None:
    """The wrapped storage key comes back byte for byte."""
    with store.transaction() as tx:
        tx.set_storage_key_record(b"\x01record\x00")

    with store.transaction() as tx:
        assert b"\x01record\x00" == tx.storage_key_record()


def test_storage_key_record_is_written_once(store: Store) -> None:
    """A second record is refused, and the first stays: a store is never re-keyed."""
    with store.transaction() as tx:
        tx.set_storage_key_record(b"first")

    with pytest.raises(Exception), store.transaction() as tx:  # noqa: B017, PT011
        tx.set_storage_key_record(b"second")

    with store.transaction() as tx:
        assert b"first" == tx.storage_key_record()


# All or nothing.


def test_an_exception_takes_everything_back(store: Store) -> None:
    """A transaction that ends by an exception leaves the store as it was."""
    with store.transaction() as tx:
        tx.put_account(account("kept"))
        tx.append_events([event(1)])
        tx.set_mark("m", 1)

    with pytest.raises(Rollback), store.transaction() as tx:  # noqa: PT012
        tx.set_storage_key_record(b"record")
        tx.put_account(account("lost"))
        tx.save_states([("kept", State(status=Status.DISABLED))])
        tx.append_events([event(2)])
        tx.prune_events(2)
        tx.put_tally(Tally(Kind.SEED_REFUSED, "a", 3, 4.0))
        tx.set_mark("m", 2)
        tx.bury(b"f", 5, 6.0)
        tx.put_issued(IssuedSeed(b"p", "s", "g", "k", b"sealed", 1.0))
        raise Rollback

    with store.transaction() as tx:
        assert tx.storage_key_record() is None
        assert {"kept": account("kept")} == tx.accounts(["kept", "lost"])
        assert [1] == [row.at_ms for row in tx.newest_events(9)]
        assert tx.tallies() == []
        assert tx.mark("m") == 1
        assert tx.buried(b"f") is None
        assert tx.issued_count() == 0


def test_a_transaction_reads_its_own_writes(store: Store) -> None:
    """What a transaction wrote it reads before the commit."""
    with store.transaction() as tx:
        tx.put_account(account("a"))
        tx.save_states([("a", State(last_step=9))])

        assert tx.accounts(["a"])["a"].state.last_step == 9


def test_two_threads_never_lose_a_write(store: Store) -> None:
    """Reading, changing and writing back is one step, whoever else does the same."""
    with store.transaction() as tx:
        tx.put_account(account("a"))

    def spend_steps() -> None:
        for _ in range(25):
            with store.transaction() as tx:
                state = tx.accounts(["a"])["a"].state
                tx.save_states([("a", replace(state, last_step=state.last_step + 1))])

    threads = [threading.Thread(target=spend_steps) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with store.transaction() as tx:
        assert tx.accounts(["a"])["a"].state.last_step == -1 + 4 * 25


def test_nobody_sees_a_half_done_transaction(store: Store) -> None:
    """A second transaction begins only after the first has ended."""
    seen: list[int | None] = []

    def look() -> None:
        with store.transaction() as tx:
            seen.append(tx.mark("m"))

    other = threading.Thread(target=look)
    with store.transaction() as tx:
        tx.set_mark("m", 1)
        other.start()
        other.join(0.2)

        assert other.is_alive()
        assert seen == []

        tx.set_mark("m", 2)
    other.join()

    assert seen == [2]


# Accounts.


def test_putting_an_account_again_replaces_it(store: Store) -> None:
    """One id is one row: the later one."""
    new = account("a", sealed_seed=b"new", fingerprint=b"n" * 32)
    with store.transaction() as tx:
        tx.put_account(account("a"))
        tx.put_account(new)

    with store.transaction() as tx:
        assert {"a": new} == tx.accounts(["a"])
        assert tx.account_ids() == ["a"]
        assert tx.holder(account("a").fingerprint) is None


def test_the_holder_of_a_seed_is_found(store: Store) -> None:
    """A fingerprint leads to the account that has it, and to no other."""
    with store.transaction() as tx:
        tx.put_account(account("a"))
        tx.put_account(account("b"))

        assert tx.holder(account("b").fingerprint) == "b"


def test_only_accounts_with_refusals_are_listed(store: Store) -> None:
    """Accounts that count refusals are found by that, in order of their ids."""
    refusing = State(budget=throttle.State(5, 30.0, 2))
    with store.transaction() as tx:
        for name, state in (("c", refusing), ("b", State()), ("a", refusing)):
            tx.put_account(account(name, state=state))

    with store.transaction() as tx:
        expected = [account("a", state=refusing), account("c", state=refusing)]
        assert expected == tx.refusing_accounts()


def test_many_states_are_saved_at_once(store: Store) -> None:
    """Each account gets the state that stands beside its name."""
    names = [f"user{number}" for number in range(300)]
    states = {name: State(last_step=at) for at, name in enumerate(names)}
    with store.transaction() as tx:
        for name in names:
            tx.put_account(account(name))

    with store.transaction() as tx:
        tx.save_states(states.items())

    with store.transaction() as tx:
        found = {name: row.state for name, row in tx.accounts(names).items()}
        assert states == found
        assert sorted(names) == tx.account_ids()


# Audit events.


def test_event_ids_rise_and_never_return(store: Store) -> None:
    """Later events have higher ids, also after all events were pruned."""
    with store.transaction() as tx:
        tx.append_events([event(10), event(20), event(30)])
        before = [row.id for row in tx.newest_events(9)]

    with store.transaction() as tx:
        tx.prune_events(2**62)
    with store.transaction() as tx:
        tx.append_events([event(40)])
        (newest,) = tx.newest_events(1)

    assert sorted(set(before)) == before
    assert newest.at_ms == 40
    assert newest.id > max(before)


def test_pruning_keeps_what_is_not_older(store: Store) -> None:
    """Events before the time go, even behind one from a clock that once ran ahead.

    The one at that very time stays.
    """
    with store.transaction() as tx:
        tx.append_events([event(at) for at in (5, 99, 10, 20, 30)])

    with store.transaction() as tx:
        assert tx.prune_events(20) == 2

    with store.transaction() as tx:
        assert [row.at_ms for row in tx.newest_events(9)] == [99, 20, 30]


def test_pruning_keeps_the_newest(store: Store) -> None:
    """Pruning everything leaves the newest event, and a second time changes nothing."""
    with store.transaction() as tx:
        tx.append_events([event(at) for at in (1, 2, 3)])

    with store.transaction() as tx:
        assert tx.prune_events(2**62) == 2
        assert tx.prune_events(2**62) == 0

    with store.transaction() as tx:
        assert [row.at_ms for row in tx.newest_events(9)] == [3]


def test_newest_events_can_be_narrowed(store: Store) -> None:
    """The newest that match both account and kind are listed, oldest first."""
    with store.transaction() as tx:
        for at in range(4):
            tx.append_events([event(at, account="a"), event(at, account="b")])
            tx.append_events([event(at, account="a", kind=Kind.CODE_SHOWN)])

        def times(limit: int, **narrow: str) -> list[int]:
            return [row.at_ms for row in tx.newest_events(limit, **narrow)]

        assert times(2, account="a", kind="code.shown") == [2, 3]
        assert times(9, account="b") == [0, 1, 2, 3]
        assert times(3, kind="code-log.written") == [2, 3, 3]
        assert times(9, account="c") == []


# Counts, tombstones, issued seeds.


def test_counts_are_kept_apart(store: Store) -> None:
    """A count is of one kind and one account; writing it again replaces it."""
    with store.transaction() as tx:
        tx.put_tally(Tally(Kind.SEED_REFUSED, "a", 1, 1.0))
        tx.put_tally(Tally(Kind.SEED_REFUSED, "b", 2, 2.0))
        tx.put_tally(Tally(Kind.SEED_REPEATED, "a", 3, 3.0))
        tx.put_tally(Tally(Kind.SEED_REFUSED, "a", 4, 4.0))

    with store.transaction() as tx:
        expected = {
            Tally(Kind.SEED_REFUSED, "a", 4, 4.0),
            Tally(Kind.SEED_REFUSED, "b", 2, 2.0),
            Tally(Kind.SEED_REPEATED, "a", 3, 3.0),
        }
        assert expected == set(tx.tallies())


def test_a_new_tombstone_replaces_the_old(store: Store) -> None:
    """The last burial of a seed is the one that is told."""
    with store.transaction() as tx:
        tx.bury(b"f", 5, 10.0)
        tx.bury(b"g", 6, 10.0)
        tx.bury(b"f", 7, 20.0)

        assert tx.buried(b"f") == 7
        assert tx.buried(b"g") == 6
        tx.forget_buried(15.0)
        assert tx.buried(b"f") == 7
        assert tx.buried(b"g") is None


def test_issued_seeds_are_counted_once_each(store: Store) -> None:
    """A pair that is put again is replaced, not counted twice."""
    first = IssuedSeed(b"p", "s", "g", "kid", b"sealed", 1.0)
    rebound = replace(first, kid="other")
    with store.transaction() as tx:
        tx.put_issued(first)
        tx.put_issued(replace(first, pair=b"q"))
        tx.put_issued(rebound)

    with store.transaction() as tx:
        assert tx.issued_count() == 2
        assert rebound == tx.issued(b"p")


def test_one_seed_is_held_once(tmp_path: Path) -> None:
    """SQL refuses a fingerprint to a second account, whatever the use case forgot."""
    store = make_sqlite(tmp_path)
    with store.transaction() as tx:
        tx.put_account(account("a", fingerprint=b"same"))

    with pytest.raises(StoreUnavailable), store.transaction() as tx:
        tx.put_account(account("b", fingerprint=b"same"))

    with store.transaction() as tx:
        assert tx.account_ids() == ["a"]
    store.close()
