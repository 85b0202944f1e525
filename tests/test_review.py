"""Attacks that a review tried, each as the property that it must not break."""

import threading
from collections.abc import Collection
from dataclasses import replace

import pytest
from conftest import TurnedClock
from memory_store import MemoryStore, MemoryTransaction
from test_decider import (
    SEED,
    bring,
    code_at,
    decide,
    recover,
    serve,
    token,
    wrong_code_at,
)

from otpseal.accounts import NewAccount, otpauth_uri
from otpseal.audit import NO_ACCOUNT, Kind, Tally
from otpseal.decider import Purpose
from otpseal.errors import ParametersRefused, SeedConflict
from otpseal.http.enrolment import qr_svg
from otpseal.ledger import Ledger
from otpseal.ports import AccountRow, Store
from otpseal.secret import Secret
from otpseal.service import Attempt
from otpseal.totp import OtpType, Parameters


def test_a_foreign_account_is_not_even_read(
    clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the lock of its row nor the work on its seed tells that there is one."""
    service = serve(MemoryStore(), clock)
    bring(service, "bank/a")
    mine, wrong = token(service, "shop/"), wrong_code_at(clock())
    asked: list[str] = []
    read, digests = MemoryTransaction.accounts, MemoryTransaction.recovery_digests

    def accounts(tx: MemoryTransaction, ids: Collection[str]) -> dict[str, AccountRow]:
        asked.extend(ids)
        return read(tx, ids)

    def recovery_digests(
        tx: MemoryTransaction, names: Collection[str]
    ) -> set[tuple[str, bytes]]:
        asked.extend(names)
        return digests(tx, names)

    monkeypatch.setattr(MemoryTransaction, "accounts", accounts)
    monkeypatch.setattr(MemoryTransaction, "recovery_digests", recovery_digests)
    for purpose in Purpose:
        attempt = Attempt(wrong, "bank/a", mine, purpose, wrong)
        assert ["WRONG 0"] == decide(service, attempt)

    assert asked == []


def test_who_shares_a_batch_with_a_stranger_is_served(
    store: Store, clock: TurnedClock
) -> None:
    """A name that is foreign to one caller is read for the other."""
    service = serve(store, clock)
    bring(service, "bank/a")
    theirs, mine = token(service, "shop/"), token(service, "bank/")
    right = code_at(clock())
    (code, *_) = service.accounts.make_recovery_codes("bank/a")

    told = decide(
        service,
        Attempt(right, "bank/a", theirs),
        Attempt(right, "bank/a", mine),
        recover(code, "bank/a", theirs),
        recover(code, "bank/a", mine),
    )

    assert told == ["WRONG 0", "ACCEPTED 0", "WRONG 0", "ACCEPTED 0"]


def test_a_resync_moves_the_window_of_its_own_batch(
    store: Store, clock: TurnedClock
) -> None:
    """The next attempt is matched around the new drift, batch or not."""
    service = serve(store, clock)
    bring(service, "shop/a")
    late = clock() - 30 * 40
    first, second = code_at(late), code_at(late + 30)

    told = decide(
        service,
        Attempt(first, "shop/a", None, Purpose.RESYNC, second),
        Attempt(code_at(clock()), "shop/a"),
        Attempt(code_at(late + 60), "shop/a"),
    )

    assert told == ["ACCEPTED 0", "WRONG 0", "ACCEPTED 0"]


@pytest.mark.parametrize("kind", OtpType)
def test_the_longest_names_fit_a_qr_code(kind: OtpType, clock: TurnedClock) -> None:
    """A new seed that could not be shown would be lost, and a replaced one with it."""
    service = serve(MemoryStore(), clock)
    name = "\U0001f511" * 48
    parameters = Parameters("SHA512", 8, 300, kind)
    new = NewAccount("a" * 128, parameters, name, name, 0)

    row, seed = service.accounts.create(new, seed_bytes=64)

    assert qr_svg(otpauth_uri(row, seed)).startswith("<svg")
    with pytest.raises(ParametersRefused):
        service.accounts.create(replace(new, id="b", issuer=name + "\U0001f511"))


def test_replicas_lose_no_count(store: Store, clock: TurnedClock) -> None:
    """Attempts that are counted for no account are counted all."""
    service = serve(store, clock)
    kind, now = Kind.ATTEMPT_UNKNOWN, clock()
    with store.transaction() as tx:
        tx.put_tally(Tally(kind, NO_ACCOUNT, since=now))

    def count() -> None:
        for _ in range(25):
            with store.transaction(shared=True) as tx:
                Ledger(tx, service.storage_key).count(kind, NO_ACCOUNT, now)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with store.transaction() as tx:
        assert tx.tally(kind, NO_ACCOUNT).pending == 100


def test_counts_that_are_over_are_forgotten(store: Store, clock: TurnedClock) -> None:
    """Ids that a caller makes up fill no table, and no count goes untold for it."""
    service = serve(store, clock)
    bring(service, "shop/a")
    for number, name in enumerate(("shop/b", "shop/c")):
        bring(service, name, seed=Secret(bytes([number]) * 20))
    for name in ("shop/b", "shop/c", "shop/c"):
        with pytest.raises(SeedConflict):
            service.accounts.replace_seed(name, SEED)

    def settled(after_s: float) -> set[tuple[str, int]]:
        clock.turn(after_s)
        service.upkeep.settle()
        with store.transaction() as tx:
            return {(tally.account, tally.pending) for tally in tx.tallies()}

    assert {("shop/b", 0), ("shop/c", 1)} == settled(59)
    assert {("shop/c", 0)} == settled(1)
    assert set() == settled(60)
    with store.transaction() as tx:
        told = [event.account for event in tx.newest_events(9, kind="seed.refused")]
    assert told == ["shop/b", "shop/c", "shop/c"]
