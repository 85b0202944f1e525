"""Attacks that a review tried, each as the property that it must not break."""

import threading
from collections.abc import Collection
from dataclasses import replace
from itertools import product

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

from otpseal import decider, throttle, totp, verification
from otpseal.account_state import State, Status
from otpseal.accounts import NewAccount, otpauth_uri
from otpseal.attempt import Purpose
from otpseal.audit import NO_ACCOUNT, Kind, Tally
from otpseal.errors import ParametersRefused, SeedConflict
from otpseal.http.enrolment import qr_svg
from otpseal.ledger import Ledger
from otpseal.ports import AccountRow, Store
from otpseal.secret import Secret
from otpseal.service import Attempt, Service
from otpseal.storage_key import StorageKey
from otpseal.timekeeper import CLOCK_MARK, Timekeeper
from otpseal.totp import OtpType, Parameters
from otpseal.verification import Account, Outcome, Standing


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


# Rules whose breach no other test noticed.

NOW = 1_800_000_000.0
STEP = totp.CLASSIC.step_at(NOW)
CLASSIC = totp.resync_candidates(SEED, NOW)


def account(state: State = State(), *, known: bool = True) -> Account:  # noqa: B008
    """Return an account that takes the codes of 60 steps on either side."""
    return Account("a" if known else "", state, CLASSIC, known=known)


def by(failures: int = 0, wait_until: float = 0.0) -> Standing:
    """Return a caller's standing."""
    return Standing("c1", throttle.State(failures, wait_until))


def code_of(step: int) -> str:
    """Return the right code of a step."""
    return totp.hotp(SEED.reveal(), step)


def judged(
    subject: Account, standing: Standing | None, purpose: Purpose, code: str
) -> verification.Decision:
    """Decide by the pure rule of a purpose."""
    if purpose is Purpose.RECOVER:
        return verification.decide_recovery(
            subject, code == code_of(STEP), NOW, burnt_step=STEP + 1, standing=standing
        )
    if purpose is Purpose.RESYNC:
        pair = code, code_of(STEP + 1)
        return verification.decide_resync(
            subject, pair, NOW, current=STEP, standing=standing
        )
    if purpose is Purpose.CONFIRM:
        return verification.decide_confirmation(subject, code, NOW, standing=standing)
    return verification.decide(subject, code, NOW, standing=standing)


@pytest.mark.parametrize("purpose", Purpose)
def test_an_unknown_account_is_never_accepted(purpose: Purpose) -> None:
    """Whatever matches, and however it is asked."""
    decision = judged(account(known=False), by(), purpose, code_of(STEP))

    assert decision.outcome is Outcome.WRONG


@pytest.mark.parametrize("purpose", Purpose)
def test_an_unknown_account_is_given_up_as_a_known_one_is(purpose: Purpose) -> None:
    """After a hundred wrong codes both say `disabled`."""
    decision = judged(account(known=False), by(100), purpose, code_of(STEP))

    assert decision.outcome is Outcome.DISABLED


def test_what_is_no_code_finds_no_account_out() -> None:
    """It learns of `disabled` alike where a hundred codes were wrong."""
    disabled = account(State(status=Status.DISABLED, failures=100))

    for subject in (disabled, account(known=False)):
        decision = judged(subject, by(100), Purpose.VERIFY, "x")
        assert decision.outcome is Outcome.DISABLED


@pytest.mark.parametrize("purpose", Purpose)
def test_a_wait_is_a_wait_for_every_purpose(purpose: Purpose) -> None:
    """Whoever is throttled at one call is not looked at by another."""
    pending = purpose is Purpose.CONFIRM
    state = State(status=Status.PENDING if pending else Status.ACTIVE)
    decision = judged(account(state), by(5, NOW + 30), purpose, code_of(STEP))

    assert decision.outcome is Outcome.THROTTLED
    assert decision.retry_after_s == 30


@pytest.mark.parametrize("status", [Status.PENDING, Status.DISABLED])
@pytest.mark.parametrize("purpose", [Purpose.VERIFY, Purpose.RECOVER, Purpose.RESYNC])
def test_an_account_that_is_not_active_takes_nothing(
    purpose: Purpose, status: Status
) -> None:
    """Neither a code, nor a recovery code, nor a resynchronisation."""
    subject = account(State(status=status))

    assert judged(subject, by(), purpose, code_of(STEP)).outcome is Outcome.DISABLED


@pytest.mark.parametrize("purpose", Purpose)
def test_every_acceptance_ends_the_row_of_failures(purpose: Purpose) -> None:
    """Those of all callers together, too, or the hundredth mistake of years counts."""
    pending = purpose is Purpose.CONFIRM
    status = Status.PENDING if pending else Status.ACTIVE
    subject = account(State(status=status, failures=99))
    decision = judged(subject, by(4), purpose, code_of(STEP))

    assert decision.outcome is Outcome.ACCEPTED
    assert decision.state.failures == 0
    assert decision.standing == by(0)


def test_an_unknown_account_is_not_disabled_in_the_audit_log() -> None:
    """There is nothing to disable, however many are wrong in one batch."""
    decision = verification.decide(
        account(State(failures=99), known=False), code_of(STEP + 99), NOW, standing=by()
    )

    assert [event.kind for event in decision.events] == [Kind.ATTEMPT_UNKNOWN]
    assert decision.state.status is Status.ACTIVE


def test_a_recovery_code_reopens_no_step() -> None:
    """A device that is ahead has spent later steps than the two that are burnt."""
    subject = account(State(last_step=STEP + 9))
    decision = judged(subject, by(), Purpose.RECOVER, code_of(STEP))

    assert decision.state.last_step == STEP + 9


@pytest.mark.parametrize(
    ("expected", "last_step"),
    [
        (Outcome.ACCEPTED, STEP - 1),
        (Outcome.REPLAYED, STEP),
        (Outcome.REPLAYED, STEP + 1),
    ],
)
def test_a_resync_takes_two_unused_codes(expected: Outcome, last_step: int) -> None:
    """One that was spent, seen by somebody, does not count as one of the two."""
    subject = account(State(last_step=last_step))

    assert judged(subject, by(), Purpose.RESYNC, code_of(STEP)).outcome is expected


def test_half_a_pair_is_malformed() -> None:
    """What cannot be a code costs nothing, whichever of the two it is."""
    decision = judged(account(), by(), Purpose.RESYNC, "x")

    assert decision.outcome is Outcome.MALFORMED


def test_an_acceptance_gives_its_caller_a_fresh_budget(
    store: Store, clock: TurnedClock
) -> None:
    """Also where failures of his rest in the store."""
    service = serve(store, clock)
    bring(service, "shop/a")
    mine, wrong = token(service), wrong_code_at(clock())
    decide(service, *[Attempt(wrong, "shop/a", mine)] * 4)
    decide(service, Attempt(code_at(clock()), "shop/a", mine))

    told = decide(service, *[Attempt(wrong, "shop/a", mine)] * 6)

    assert told == ["WRONG 0"] * 5 + ["THROTTLED 30"]


def test_silence_of_25_hours_gives_a_fresh_budget(
    store: Store, clock: TurnedClock
) -> None:
    """To the second, whether or not the row was pruned by then."""
    service = serve(store, clock)
    bring(service, "shop/a")
    mine = token(service)

    def wrong_times(count: int) -> list[str]:
        attempt = Attempt(wrong_code_at(clock()), "shop/a", mine)
        return decide(service, *[attempt] * count)

    wrong_times(4)
    clock.turn(25 * 3600 - 1)
    assert ["WRONG 0", "THROTTLED 30"] == wrong_times(2)
    clock.turn(25 * 3600)
    assert ["WRONG 0"] * 5 + ["THROTTLED 30"] == wrong_times(6)


def test_only_unknown_accounts_are_strangers(store: Store, clock: TurnedClock) -> None:
    """Mistyped codes of a company's own people exhaust no caller."""
    service = serve(store, clock)
    bring(service, "shop/a")
    mine, wrong = token(service, "shop/"), wrong_code_at(clock())
    decide(service, *(Attempt(wrong, n, mine) for n in ("shop/a", "shop/b", "bank/a")))

    (caller,) = service.callers.all()
    assert caller.strangers == 2


@pytest.mark.parametrize(("expected", "widest"), [("WRONG 0", 0), ("ACCEPTED 0", 1)])
def test_no_account_has_a_wider_window_than_the_service(
    clock: TurnedClock, expected: str, widest: int
) -> None:
    """OTPSEAL_WINDOW=0 holds for accounts that were made with a window of 1."""
    storage_key = StorageKey(Secret(b"k" * 32))
    service = Service(
        MemoryStore(),
        keys=None,  # type: ignore[arg-type]  # nothing here is sealed
        storage_key=storage_key,
        clock=clock,
        window=widest,
    )
    bring(service, "shop/a")

    assert [expected] == decide(service, Attempt(code_at(clock() + 30), "shop/a"))


def test_a_recovery_code_burns_the_devices_steps(
    store: Store, clock: TurnedClock
) -> None:
    """A device that is ahead shows its own current and next code."""
    service = serve(store, clock)
    bring(service, "shop/a")
    ahead = clock() + 30 * 10
    pair = code_at(ahead), code_at(ahead + 30)
    decide(service, Attempt(pair[0], "shop/a", None, Purpose.RESYNC, pair[1]))
    clock.turn(300)
    (code, *_) = service.accounts.make_recovery_codes("shop/a")
    decide(service, recover(code, "shop/a"))

    row = service.account("shop/a")
    assert row is not None
    assert row.state.last_step == totp.CLASSIC.step_at(clock()) + 11 + 1


def test_a_clock_that_is_behind_is_told_with_its_count(
    store: Store, clock: TurnedClock
) -> None:
    """The event's count is that of the attempts that were refused."""
    service = serve(store, clock)
    bring(service, "shop/a")
    decide(service, Attempt(code_at(clock()), "shop/a"))
    clock.turn(-10)
    decide(service, *[Attempt(code_at(clock()), "shop/a")] * 3)

    with store.transaction() as tx:
        (event,) = tx.newest_events(9, kind=Kind.CLOCK_BEHIND)
    assert event.detail == '{"count":3}'


NAMES = (
    *("", "\0", "a\0", "\ud800", "x\udfff", "x" * 8000, "\u00e9" * 4000, "\U0001f600"),
    *(
        "shop/none",
        "bank/a",
        "shop/a\n",
        "SHOP/A",
        "shop/../a",
        "'; --",
        "%",
        "default",
    ),
)
CODES = ("", "000000", "00000000", "\ud800", "\0", "\uff11" * 6, "9" * 8000, "000000\n")


def test_no_attempt_fails_the_batch_of_others(store: Store, clock: TurnedClock) -> None:
    """Whatever text stands in it, in whatever place, for whatever purpose."""
    service = serve(store, clock)
    bring(service, "shop/a")
    bring(service, "bank/a", seed=Secret(b"x" * 20))
    last = Parameters(type=OtpType.HOTP)
    bring(service, "shop/last", last, Secret(b"h" * 20), counter=2**63 - 101)
    callers = token(service, "shop/"), token(service), None, b"z" * 32
    names = (*NAMES, "shop/last")
    strange = [
        Attempt(code, name, caller, purpose, CODES[-place])
        for name, caller, purpose in product(names, callers, Purpose)
        for place, code in enumerate(CODES)
    ]

    told = decide(service, *strange, Attempt(code_at(clock()), "shop/a"))

    assert told[-1] == "ACCEPTED 0"
    assert not [one for one in told[:-1] if one.startswith("ACCEPTED")]
    service.upkeep.settle()


def test_zeros_make_no_other_seed(store: Store, clock: TurnedClock) -> None:
    """What makes the same codes has one account, and its spent steps stay spent."""
    service = serve(store, clock)
    longer = Secret(SEED.reveal() + b"\0")
    right = code_at(clock())
    assert right == code_at(clock(), longer)
    bring(service, "shop/a")
    assert ["ACCEPTED 0"] == decide(service, Attempt(right, "shop/a"))

    with pytest.raises(SeedConflict):
        bring(service, "shop/b", seed=longer)
    service.accounts.delete("shop/a")
    bring(service, "shop/b", seed=longer)

    assert ["REPLAYED 0"] == decide(service, Attempt(right, "shop/b"))


def test_a_counter_that_comes_back_further_on_stays_there(
    store: Store, clock: TurnedClock
) -> None:
    """What is remembered of a seed lowers nothing that its new account knows."""
    service = serve(store, clock)
    counting = Parameters(type=OtpType.HOTP)
    bring(service, "shop/a", counting, counter=5)
    service.accounts.delete("shop/a")
    bring(service, "shop/a", counting, counter=100)

    row = service.account("shop/a")
    assert row is not None
    assert row.state.last_step == 99


def test_another_seed_knows_no_drift(store: Store, clock: TurnedClock) -> None:
    """It is in another device, and its window is around our own clock."""
    service = serve(store, clock)
    bring(service, "shop/a")
    pair = code_at(clock() + 300), code_at(clock() + 330)
    decide(service, Attempt(pair[0], "shop/a", None, Purpose.RESYNC, pair[1]))

    other = Secret(b"y" * 20)
    service.accounts.replace_seed("shop/a", other)

    right = code_at(clock(), other)
    assert ["ACCEPTED 0"] == decide(service, Attempt(right, "shop/a"))


def test_enabling_ends_the_row_of_failures(store: Store, clock: TurnedClock) -> None:
    """Or the first mistake after it would disable the account again."""
    service = serve(store, clock)
    bring(service, "shop/a")
    wrong = wrong_code_at(clock())
    for _ in range(25):
        decide(service, *[Attempt(wrong, "shop/a", token(service))] * 4)
    row = service.account("shop/a")
    assert row is not None
    assert row.state.status is Status.DISABLED

    service.accounts.enable("shop/a")

    mine = token(service)
    assert ["WRONG 0"] == decide(service, Attempt(wrong, "shop/a", mine))
    assert ["ACCEPTED 0"] == decide(service, Attempt(code_at(clock()), "shop/a", mine))


def test_a_mark_that_another_raised_meanwhile_stays(clock: TurnedClock) -> None:
    """Replicas read and raise it beside one another; none lowers it."""
    store, timekeeper = MemoryStore(), Timekeeper(lambda: clock.now)
    later = round(clock.now * 1000) + 4000
    with store.transaction() as tx:
        assert timekeeper.may_verify(tx, clock())
        tx.raise_mark(CLOCK_MARK, later)
        timekeeper.advance(tx)

        assert later == tx.mark(CLOCK_MARK)


def test_an_accepted_time_is_believed_from_then_on(clock: TurnedClock) -> None:
    """The process that accepted it moves the mark on from there, not from before."""
    store, started = MemoryStore(), clock.now
    timekeeper = Timekeeper(lambda: started)
    with store.transaction() as tx:
        assert timekeeper.may_verify(tx, clock())
        timekeeper.advance(tx)
        clock.turn(3600)
        timekeeper.accept(tx, clock())
        clock.turn(1)
        assert timekeeper.may_verify(tx, clock())
        timekeeper.advance(tx)

        assert round(clock.now * 1000) == tx.mark(CLOCK_MARK)


def test_a_count_that_is_pending_is_not_forgotten(store: Store) -> None:
    """However long ago the last event about it was."""
    pending = Tally(Kind.SEED_REFUSED, "a", 1, 5.0)
    over = Tally(Kind.SEED_REFUSED, "b", 0, 5.0)
    with store.transaction() as tx:
        tx.put_tally(pending)
        tx.put_tally(over)
        tx.forget_tallies(5.0)

        assert [pending] == tx.tallies()


def test_an_exhausted_caller_is_counted(
    clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a row for each name, but not unseen by the audit log."""
    monkeypatch.setattr(decider, "MAX_STRANGERS", 0)
    service = serve(MemoryStore(), clock)
    mine, wrong = token(service), wrong_code_at(clock())

    decide(service, *(Attempt(wrong, f"x{n}", mine) for n in range(3)))

    with service.store.transaction() as tx:
        (event,) = tx.newest_events(9, kind=Kind.ATTEMPT_UNKNOWN)
    assert event.detail == '{"count":3}'
