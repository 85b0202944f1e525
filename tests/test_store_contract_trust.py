"""What every `otpseal.ports.Store` promises of authorities and their envelopes."""

import secrets
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_store_contract import BYTES, REAL, TEXT, many

from otpseal.ports import Store
from otpseal.ports_trust import EnvelopeSequence, KeptReceipt, PinnedRow

NAMES = st.text("abcz019._-", min_size=1, max_size=64)
PINNED = st.builds(
    PinnedRow,
    name=NAMES,
    prefix=st.text("abc/.-", max_size=128),
    material=TEXT,
    added_at=REAL,
    mac=BYTES,
)
SEQUENCES = st.builds(
    EnvelopeSequence,
    account=st.text("abc/.-", min_size=1, max_size=128),
    authority=NAMES,
    sequence=st.integers(1, 2**53 - 1),
    accepted_at=REAL,
)


@many
@given(row=PINNED)
def test_a_pinned_authority_round_trip(store: Store, row: PinnedRow) -> None:
    """It comes back equal in every field, is replaced by name, and goes once."""
    newer = replace(row, material="x", mac=b"y")

    with store.transaction() as tx:
        tx.pin_authority(row)
        assert row in tx.pinned_authorities()
        tx.pin_authority(newer)

    with store.transaction() as tx:
        same = [pin for pin in tx.pinned_authorities() if pin.name == row.name]
        assert [newer] == same
        assert tx.unpin_authority(row.name)
        assert not tx.unpin_authority(row.name)
        assert newer not in tx.pinned_authorities()


def test_authorities_come_by_name(store: Store) -> None:
    """In the order of their bytes, whatever the database's language."""
    names = ["a-b", "a.a", "a0", "a_a", "aa", "b"]

    with store.transaction() as tx:
        for name in reversed(names):
            tx.pin_authority(PinnedRow(name, "", "{}", 1.0, b""))

    with store.transaction() as tx:
        assert sorted(names) == [row.name for row in tx.pinned_authorities()]


def test_an_envelope_is_remembered_once(store: Store) -> None:
    """For each authority by itself; also by the next transaction."""
    with store.transaction() as tx:
        assert tx.remember_envelope("a", "1", 5.0)
        assert tx.remember_envelope("b", "1", 5.0)
        assert not tx.remember_envelope("a", "1", 9.0)

    with store.transaction() as tx:
        assert not tx.remember_envelope("a", "1", 5.0)
        assert tx.remember_envelope("a", "2", 5.0)


def test_envelopes_are_forgotten_when_they_expired(store: Store) -> None:
    """Not one that expires at that very time, or later."""
    with store.transaction() as tx:
        for jti, until in (("1", 4.9), ("2", 5.0), ("3", 5.1)):
            tx.remember_envelope("a", jti, until)

    with store.transaction() as tx:
        assert tx.forget_envelopes(5.0) == 1

    with store.transaction() as tx:
        told = [tx.remember_envelope("a", jti, 9.0) for jti in ("1", "2", "3")]
    assert [True, False, False] == told


def test_an_envelope_is_forgotten_with_its_transaction(store: Store) -> None:
    """What was not committed was not accepted, and may come again."""

    def accept_and_fail() -> None:
        with store.transaction() as tx:
            tx.remember_envelope("a", "1", 5.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        accept_and_fail()

    with store.transaction() as tx:
        assert tx.remember_envelope("a", "1", 5.0)


@many
@given(row=SEQUENCES)
def test_an_envelope_sequence_round_trip(store: Store, row: EnvelopeSequence) -> None:
    """It comes back equal, and is replaced by the next."""
    newer = replace(row, sequence=2**53 - 1, authority="other")

    with store.transaction() as tx:
        tx.put_envelope_sequence(row)
        assert row == tx.envelope_sequence(row.account)
        tx.put_envelope_sequence(newer)

    with store.transaction() as tx:
        assert newer == tx.envelope_sequence(row.account)
        assert tx.envelope_sequence("none") is None


def test_a_sequence_outlives_its_account(store: Store) -> None:
    """Deleting the account says nothing about the envelopes that were for it."""
    row = EnvelopeSequence("a", "x", 7, 1.0)
    with store.transaction() as tx:
        tx.put_envelope_sequence(row)
        tx.delete_account("a")

    with store.transaction() as tx:
        assert row == tx.envelope_sequence("a")


def test_threads_never_accept_two_envelopes_of_one_sequence(store: Store) -> None:
    """In shared transactions too, and where there was no row to lock."""
    accounts = [secrets.token_hex(8) for _ in range(20)]
    together = threading.Barrier(4)

    def accept() -> None:
        for account in accounts:
            together.wait(30)
            with store.transaction(shared=True) as tx:
                row = tx.envelope_sequence(account)
                following = 1 if row is None else row.sequence + 1
                tx.put_envelope_sequence(EnvelopeSequence(account, "a", following, 0.0))

    threads = [threading.Thread(target=accept) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with store.transaction() as tx:
        found = [tx.envelope_sequence(account) for account in accounts]
    assert [4] * 20 == [row.sequence for row in found if row]


def test_of_two_replays_at_once_one_is_the_first(store: Store) -> None:
    """Threads that bring the same envelope in shared transactions: one is told so."""
    jti = secrets.token_hex(8)
    told: list[bool] = []

    def bring() -> None:
        with store.transaction(shared=True) as tx:
            told.append(tx.remember_envelope("a", jti, 9.0))

    threads = [threading.Thread(target=bring) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [False] * 7 + [True] == sorted(told)


@many
@given(digest=st.binary(min_size=32, max_size=32), text=TEXT)
def test_a_receipt_is_kept_with_its_envelope(
    store: Store, digest: bytes, text: str
) -> None:
    """Found by digest and by id; gone with the envelope, and only then."""
    with store.transaction() as tx:
        tx.forget_envelopes(float("inf"))
        tx.remember_envelope("a", "1", 5.0)
        tx.remember_envelope("a", "2", 9.0)
        tx.keep_receipt("a", "1", digest=digest, receipt=text)

    with store.transaction(shared=True) as tx:
        kept = KeptReceipt("a", text)
        assert (kept, kept) == (tx.receipt_for(digest), tx.receipt_of("a", "1"))
        assert tx.receipt_for(bytes(31)) is None
        assert tx.receipt_for(digest[::-1] + b"x") is None
        assert tx.receipt_of("a", "2") is None
        assert tx.receipt_of("b", "1") is None

    with store.transaction() as tx:
        assert not tx.remember_envelope("a", "1", 5.0)
        assert kept == tx.receipt_for(digest)
        tx.forget_envelopes(5.1)
        assert (None, None) == (tx.receipt_for(digest), tx.receipt_of("a", "1"))


def test_a_receipt_needs_its_envelope(store: Store) -> None:
    """Of an envelope that is not remembered nothing is kept."""
    with store.transaction() as tx:
        tx.keep_receipt("a", "1", digest=bytes(32), receipt="x")

    with store.transaction() as tx:
        assert tx.receipt_for(bytes(32)) is None
        assert tx.remember_envelope("a", "1", 5.0)
        assert tx.receipt_for(bytes(32)) is None
