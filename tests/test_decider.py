"""Attempts of many callers on many accounts: who is told what, and what it costs."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from conftest import TurnedClock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_store import MemoryStore, MemoryTransaction

from otpseal import decider, recovery, totp
from otpseal.access import Scope, token_digest
from otpseal.account_state import Status
from otpseal.accounts import NewAccount
from otpseal.attempt import Purpose
from otpseal.audit import Kind
from otpseal.errors import (
    AccountNotPending,
    CallerExhausted,
    ClockBehind,
    Forbidden,
    OtpsealError,
    SeedMissing,
    Unauthenticated,
)
from otpseal.ledger import AuditLog
from otpseal.ports import Store
from otpseal.secret import Secret
from otpseal.service import Attempt, Service
from otpseal.storage_key import StorageKey
from otpseal.timekeeper import CLOCK_MARK
from otpseal.totp import OtpType, Parameters
from otpseal.verification import Decision

SEED = Secret(b"12345678901234567890")
HOTP = Parameters(type=OtpType.HOTP)
EVERYTHING = frozenset({Scope.VERIFY, Scope.ACCOUNTS})


@pytest.fixture
def service(store: Store, clock: TurnedClock) -> Service:
    """A service with the accounts shop/a and bank/a."""
    made = serve(store, clock)
    bring(made, "shop/a")
    bring(made, "bank/a", seed=Secret(b"x" * 20))
    return made


def serve(store: Store, clock: TurnedClock) -> Service:
    """Return a service that believes no leap of its clock."""
    return Service(
        store,
        keys=None,  # type: ignore[arg-type]  # nothing here is sealed
        storage_key=StorageKey(Secret(b"k" * 32)),
        clock=clock,
        monotonic=lambda: clock.now - 1_800_000_000.0,
    )


def bring(
    service: Service,
    account: str,
    parameters: Parameters = totp.CLASSIC,
    seed: Secret = SEED,
    counter: int = 0,
) -> None:
    """Make an active account."""
    new = NewAccount(account, parameters, counter=counter)
    service.accounts.bring(new, seed)


def token(
    service: Service, prefix: str = "", scopes: frozenset[Scope] = EVERYTHING
) -> bytes:
    """Return a new caller's credential."""
    made = service.callers.create("app", scopes, prefix=prefix)
    assert made.token is not None
    digest = token_digest(made.token.reveal())
    assert digest is not None
    return digest


def code_at(
    now: float, seed: Secret = SEED, parameters: Parameters = totp.CLASSIC
) -> str:
    """Return the right code at a time."""
    step = parameters.step_at(now)
    return totp.hotp(
        seed.reveal(), step, digits=parameters.digits, algorithm=parameters.algorithm
    )


def wrong_code_at(now: float) -> str:
    """Return a code of no step near that time, of none of the seeds used here."""
    seeds = (SEED, Secret(b"x" * 20))
    near = {code_at(now + 30 * n, seed) for n in range(-70, 71) for seed in seeds}
    return next(code for code in map("{:06}".format, range(1000)) if code not in near)


def told(result: Decision | OtpsealError) -> str:
    """Return what a caller learns."""
    if isinstance(result, OtpsealError):
        return result.code
    return f"{result.outcome.name} {result.retry_after_s}"


def decide(service: Service, *attempts: Attempt) -> list[str]:
    """Decide about attempts in one batch; what the callers learn."""
    return [told(result) for result in service.verify_batch(attempts)]


def kinds(service: Service) -> list[str]:
    """Return the kinds of all events, oldest first."""
    with service.store.transaction() as tx:
        return [row.kind for row in tx.newest_events(10_000)]


# Each caller has a budget of its own.


def test_a_caller_at_his_limit_locks_nobody_out(
    service: Service, clock: TurnedClock
) -> None:
    """Five wrong codes make one caller wait; another's right code is accepted."""
    mine, yours = token(service), token(service)
    wrong, right = wrong_code_at(clock()), code_at(clock())

    assert ["WRONG 0"] * 5 == decide(service, *[Attempt(wrong, "shop/a", mine)] * 5)
    assert ["THROTTLED 30"] == decide(service, Attempt(right, "shop/a", mine))
    assert ["ACCEPTED 0"] == decide(service, Attempt(right, "shop/a", yours))


def test_the_classic_api_is_a_caller_of_its_own(
    service: Service, clock: TurnedClock
) -> None:
    """Its wait is not the token's, and the other way round."""
    mine = token(service)
    wrong, right = wrong_code_at(clock()), code_at(clock())
    decide(service, *[Attempt(wrong, "shop/a")] * 5)

    assert ["THROTTLED 30"] == decide(service, Attempt(right, "shop/a"))
    assert ["ACCEPTED 0"] == decide(service, Attempt(right, "shop/a", mine))


def test_a_budget_is_for_one_account(service: Service, clock: TurnedClock) -> None:
    """A caller that waits for one account may try another."""
    mine = token(service)
    wrong = wrong_code_at(clock())
    decide(service, *[Attempt(wrong, "shop/a", mine)] * 5)

    assert ["WRONG 0"] == decide(service, Attempt(wrong, "bank/a", mine))


def test_all_callers_together_disable_an_account(
    service: Service, clock: TurnedClock
) -> None:
    """The 100th wrong code in a row disables it, whoever sent it."""
    wrong = wrong_code_at(clock())
    for _ in range(20):
        caller = token(service)
        decide(service, *[Attempt(wrong, "shop/a", caller)] * 5)

    row = service.account("shop/a")
    assert row is not None
    assert row.state.status is Status.DISABLED
    assert kinds(service).count(Kind.ACCOUNT_DISABLED) == 1
    assert ["DISABLED 0"] == decide(
        service, Attempt(code_at(clock()), "shop/a", token(service))
    )


def test_an_acceptance_does_not_free_another_caller(
    service: Service, clock: TurnedClock
) -> None:
    """Who guesses gets no new tries whenever the owner logs in."""
    owner, thief = token(service), token(service)
    wrong = wrong_code_at(clock())
    decide(service, *[Attempt(wrong, "shop/a", thief)] * 5)

    assert ["ACCEPTED 0"] == decide(service, Attempt(code_at(clock()), "shop/a", owner))
    assert ["THROTTLED 30"] == decide(service, Attempt(wrong, "shop/a", thief))


def test_enabling_gives_all_callers_a_fresh_budget(
    service: Service, clock: TurnedClock
) -> None:
    """An administrator's decision ends every wait."""
    mine = token(service)
    wrong = wrong_code_at(clock())
    decide(service, *[Attempt(wrong, "shop/a", mine)] * 5)

    service.accounts.enable("shop/a")

    assert ["WRONG 0"] == decide(service, Attempt(wrong, "shop/a", mine))


def test_a_refused_wait_is_told_once_it_is_over(
    service: Service, clock: TurnedClock
) -> None:
    """What a caller's wait refused is one event, by the minute at the latest."""
    mine = token(service)
    wrong = wrong_code_at(clock())
    decide(service, *[Attempt(wrong, "shop/a", mine)] * 8)
    service.upkeep.settle()
    assert Kind.ATTEMPT_THROTTLED not in kinds(service)
    clock.turn(31)

    service.upkeep.settle()
    service.upkeep.settle()

    with service.store.transaction() as tx:
        (event,) = tx.newest_events(9, kind=Kind.ATTEMPT_THROTTLED)
    assert '"count":3' in event.detail
    assert event.account == "shop/a"


# Who may call.


def test_scopes_and_revocation_hold_in_the_batch(
    service: Service, clock: TurnedClock
) -> None:
    """Unknown, unscoped and revoked callers are refused beside one that is not."""
    right = code_at(clock())
    revoked = service.callers.create("app", EVERYTHING)
    assert revoked.token is not None
    gone = token_digest(revoked.token.reveal())
    service.callers.revoke(revoked.caller.id)
    coder = token(service, scopes=frozenset({Scope.CODE}))

    results = service.verify_batch(
        [
            Attempt(right, "shop/a", secrets.token_bytes(32)),
            Attempt(right, "shop/a", gone),
            Attempt(right, "shop/a", coder),
            Attempt(right, "shop/a", token(service)),
        ]
    )

    assert [Unauthenticated, Unauthenticated, Forbidden, Decision] == [
        type(result) for result in results
    ]
    assert told(results[-1]) == "ACCEPTED 0"


def test_a_verifier_changes_no_account(service: Service, clock: TurnedClock) -> None:
    """Confirming and resynchronising need another scope than checking codes."""
    verifier = token(service, scopes=frozenset({Scope.VERIFY}))
    right = code_at(clock())

    assert ["forbidden"] * 2 == decide(
        service,
        Attempt(right, "shop/a", verifier, Purpose.CONFIRM),
        Attempt(right, "shop/a", verifier, Purpose.RESYNC, right),
    )


def test_an_expired_caller_is_refused(service: Service, clock: TurnedClock) -> None:
    """From its last second on."""
    made = service.callers.create("app", EVERYTHING, lasts_s=60)
    assert made.token is not None
    digest = token_digest(made.token.reveal())
    wrong = wrong_code_at(clock())

    assert ["WRONG 0"] == decide(service, Attempt(wrong, "shop/a", digest))
    clock.turn(60)
    assert ["unauthenticated"] == decide(service, Attempt(wrong, "shop/a", digest))


# Accounts that do not exist, or are not the caller's.

STRANGE = ("shop/none", "bank/a", "SHOP/A", "shop/a ", "", "\0", "\ud800", "shop//a")


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("gap", [1.0, 30.0, 26 * 3600.0])
def test_a_stranger_is_told_what_a_wrong_code_is_told(
    service: Service, clock: TurnedClock, name: str, gap: float
) -> None:
    """Whatever the rhythm, unknown and foreign accounts answer as existing ones do."""
    mine = token(service, "shop/")
    for _ in range(14):
        wrong = wrong_code_at(clock())
        known, unknown = decide(
            service, Attempt(wrong, "shop/a", mine), Attempt(wrong, name, mine)
        )

        assert known == unknown
        clock.turn(gap)


@pytest.mark.parametrize("purpose", Purpose)
def test_every_purpose_is_blind(
    service: Service, clock: TurnedClock, purpose: Purpose
) -> None:
    """None of the ways to try a code tells which accounts there are."""
    mine = token(service, "shop/")
    service.accounts.create(NewAccount("shop/new"))
    known = "shop/new" if purpose is Purpose.CONFIRM else "shop/a"
    wrong = wrong_code_at(clock())

    def seen(name: str) -> list[str]:
        attempt = Attempt(wrong, name, mine, purpose, wrong)
        return [decide(service, attempt)[0] for _ in range(8)]

    assert seen(known) == seen("shop/none") == seen("bank/a")


@pytest.mark.parametrize("purpose", Purpose)
def test_who_is_given_up_tells_nothing(
    service: Service, clock: TurnedClock, purpose: Purpose
) -> None:
    """After a hundred wrong codes both are disabled, for malformed codes too."""
    mine = token(service, "shop/")
    service.accounts.create(NewAccount("shop/new"))
    known = "shop/new" if purpose is Purpose.CONFIRM else "shop/a"
    for _ in range(105):
        wrong = wrong_code_at(clock())
        decide(
            service,
            *[
                Attempt(wrong, name, mine, purpose, wrong)
                for name in (known, "shop/none")
            ],
        )
        clock.turn(86_401 if _ > 10 else 3_600)

    for code in ("x", "000000"):
        found = decide(
            service,
            *[
                Attempt(code, name, mine, purpose, code)
                for name in (known, "shop/none", known, "shop/none")
            ],
        )
        assert ["DISABLED 0"] * 4 == found


def test_a_match_of_the_dummy_seed_is_wrong(
    service: Service, clock: TurnedClock
) -> None:
    """Even the code that an unknown account would have is wrong."""
    dummy = service.storage_key.dummy_seed("shop/none")
    mine = token(service)

    assert ["WRONG 0"] == decide(
        service, Attempt(code_at(clock(), dummy), "shop/none", mine)
    )


def test_a_foreign_accounts_code_is_wrong_and_spends_nothing(
    service: Service, clock: TurnedClock
) -> None:
    """Nobody can burn another tenant's codes, nor count failures against him."""
    mine, theirs = token(service, "shop/"), token(service, "bank/")
    right = code_at(clock(), Secret(b"x" * 20))
    decide(service, *[Attempt(right, "bank/a", mine)] * 5)

    row = service.account("bank/a")
    assert row is not None
    assert row.state.failures == 0
    assert ["ACCEPTED 0"] == decide(service, Attempt(right, "bank/a", theirs))


def test_what_a_stranger_typed_is_in_no_event(
    service: Service, clock: TurnedClock
) -> None:
    """The audit log holds who tried, not what."""
    mine = token(service)
    decide(service, Attempt(wrong_code_at(clock()), "shop/canary", mine))

    with service.store.transaction() as tx:
        (event,) = tx.newest_events(9, kind=Kind.ATTEMPT_UNKNOWN)
    assert event.account == ""
    assert "canary" not in event.detail


def test_strangers_fill_no_table(
    service: Service, clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the cap a caller gets 429 for whatever is not accepted, known or not."""
    monkeypatch.setattr(decider, "MAX_STRANGERS", 10)
    mine, other = token(service, "shop/"), token(service)
    wrong, right = wrong_code_at(clock()), code_at(clock())
    attempts = [Attempt(wrong, f"shop/x{n}", mine) for n in range(13)]

    expected = ["WRONG 0"] * 10 + ["too_many_unknown_accounts"] * 3
    found = decide(service, *attempts[:4]) + decide(service, *attempts[4:])

    assert expected == found
    with service.store.transaction() as tx:
        (caller, *_) = [c for c in tx.all_callers() if c.strangers]
        assert caller.strangers == 10
        keys = [
            (caller.id, service.storage_key.throttle_key(f"shop/x{n}"))
            for n in range(13)
        ]
        assert len(tx.budgets(keys)) == 10
    exhausted = ["too_many_unknown_accounts"]
    assert exhausted == decide(service, Attempt(wrong, "shop/a", mine))
    assert exhausted == decide(service, Attempt(wrong, "shop/x1", mine))
    assert ["ACCEPTED 0"] == decide(service, Attempt(right, "shop/a", mine))
    assert ["WRONG 0"] == decide(service, Attempt(wrong, "shop/none", other))

    clock.turn(25 * 3600 + 1)
    service.upkeep.settle()
    assert ["WRONG 0"] == decide(
        service, Attempt(wrong_code_at(clock()), "shop/none", mine)
    )


def test_the_limit_cannot_be_counted_up_to(
    clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near it the answers are by chance, whether the name before existed or not."""
    monkeypatch.setattr(decider, "MAX_STRANGERS", 1000)

    def answers(name: str) -> set[str]:
        told = set()
        for _ in range(3):
            service = serve(MemoryStore(), clock)
            bring(service, "shop/a")
            mine, wrong = token(service, "shop/"), wrong_code_at(clock())
            names = [f"shop/x{n}" for n in range(949)] + [name]
            decide(service, *[Attempt(wrong, one, mine) for one in names])
            fresh = [Attempt(wrong, f"shop/y{n}", mine) for n in range(40)]
            told |= set(decide(service, *fresh))
        return told

    both = {"WRONG 0", "too_many_unknown_accounts"}
    assert both == answers("shop/a") == answers("shop/none")


def test_a_wrong_code_counts_even_where_it_is_not_told(
    service: Service, clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exhausted caller guesses no faster for it."""
    monkeypatch.setattr(decider, "MAX_STRANGERS", 0)
    mine = token(service)
    wrong = wrong_code_at(clock())

    exhausted = decide(service, *[Attempt(wrong, "shop/a", mine)] * 6)

    assert ["too_many_unknown_accounts"] * 6 == exhausted
    row = service.account("shop/a")
    assert row is not None
    assert row.state.failures == 5


def test_the_length_of_a_code_tells_nothing(
    service: Service, clock: TurnedClock
) -> None:
    """Six to eight digits count as wrong alike, whatever the account's codes have."""
    mine = token(service)
    bring(service, "shop/8", Parameters(digits=8), Secret(b"y" * 20))

    for code in ("0000000", "00000000"):
        attempts = [Attempt(code, name, mine) for name in ("shop/a", "shop/8", "none")]
        assert ["WRONG 0"] * 3 == decide(service, *attempts)


# HOTP.


def hotp_code(counter: int) -> str:
    """Return a counter's code (RFC 4226 appendix D)."""
    return totp.hotp(SEED.reveal(), counter)


@pytest.fixture
def counted(store: Store, clock: TurnedClock) -> Service:
    """A service with one HOTP account, whose next counter is 3."""
    made = serve(store, clock)
    bring(made, "a", HOTP, counter=3)
    return made


@pytest.mark.parametrize(
    ("expected", "counter"),
    [
        ("WRONG 0", 1),
        ("REPLAYED 0", 2),
        ("ACCEPTED 0", 3),
        ("ACCEPTED 0", 12),
        ("WRONG 0", 13),
    ],
)
def test_the_look_ahead(counted: Service, expected: str, counter: int) -> None:
    """The next ten counters are accepted, the last spent one is a replay."""
    assert [expected] == decide(counted, Attempt(hotp_code(counter), "a"))


def test_a_counter_never_goes_back(counted: Service, clock: TurnedClock) -> None:
    """A matched counter is spent with all before it, whatever the time."""
    decide(counted, Attempt(hotp_code(7), "a"))
    clock.turn(-30)

    for counter in (7, 6, 5, 4, 3):
        assert ["ACCEPTED 0"] != decide(counted, Attempt(hotp_code(counter), "a"))


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(st.integers(0, 40), max_size=12),
    st.lists(st.integers(1, 5), min_size=12, max_size=12),
)
def test_batches_decide_as_one_by_one(
    clock: TurnedClock, counters: list[int], sizes: list[int]
) -> None:
    """How attempts fall into batches changes nothing about what is decided."""
    attempts = [Attempt(hotp_code(counter), "a") for counter in counters]

    def run(batches: Iterator[Sequence[Attempt]]) -> list[str]:
        service = serve(MemoryStore(), clock)
        bring(service, "a", HOTP)
        return [one for batch in batches for one in decide(service, *batch)]

    def batches() -> Iterator[Sequence[Attempt]]:
        start = 0
        for size in sizes:
            yield attempts[start : start + size]
            start += size

    assert run([one] for one in attempts) == run(batches())


# Resynchronisation.


@pytest.mark.parametrize(
    ("expected", "ahead"),
    [("WRONG 0", -62), ("ACCEPTED 0", -60), ("ACCEPTED 0", 59), ("WRONG 0", 60)],
)
def test_two_consecutive_codes_set_the_drift(
    service: Service, clock: TurnedClock, expected: str, ahead: int
) -> None:
    """Within 60 steps on either side; the device's codes are then accepted."""
    now = clock() + 30 * ahead
    first, second = code_at(now), code_at(now + 30)
    mine = token(service)

    attempt = Attempt(first, "shop/a", mine, Purpose.RESYNC, second)

    assert [expected] == decide(service, attempt)
    clock.turn(60)
    accepted = expected == "ACCEPTED 0"
    verified = decide(service, Attempt(code_at(now + 90), "shop/a", mine))
    assert (verified == ["ACCEPTED 0"]) is accepted
    row = service.account("shop/a")
    assert row is not None
    assert row.state.drift == (ahead + 1 if accepted else 0)


def test_resync_spends_and_is_spent_once(service: Service, clock: TurnedClock) -> None:
    """Neither code is accepted again, nor the pair."""
    now = clock() + 300
    first, second = code_at(now), code_at(now + 30)
    attempt = Attempt(first, "shop/a", None, Purpose.RESYNC, second)

    assert ["ACCEPTED 0", "REPLAYED 0"] == decide(service, attempt, attempt)
    for code in (first, second):
        assert ["ACCEPTED 0"] != decide(service, Attempt(code, "shop/a"))


@pytest.mark.parametrize("order", ["swapped", "apart", "same"])
def test_codes_that_are_not_consecutive_are_wrong(
    service: Service, clock: TurnedClock, order: str
) -> None:
    """And cost a failure, as any guess does."""
    now = clock()
    pair = {
        "swapped": (code_at(now + 30), code_at(now)),
        "apart": (code_at(now), code_at(now + 60)),
        "same": (code_at(now), code_at(now)),
    }[order]

    attempt = Attempt(pair[0], "shop/a", None, Purpose.RESYNC, pair[1])

    assert ["WRONG 0"] == decide(service, attempt)
    row = service.account("shop/a")
    assert row is not None
    assert row.state.failures == 1


def test_a_counter_is_resynchronised(counted: Service) -> None:
    """Within the next 100 counters."""
    far, further = (
        Attempt(hotp_code(n), "a", None, Purpose.RESYNC, hotp_code(n + 1))
        for n in (101, 202)
    )

    assert ["ACCEPTED 0", "WRONG 0"] == decide(counted, far, further)
    row = counted.account("a")
    assert row is not None
    assert (row.state.last_step, row.state.drift) == (102, 0)


# The first code.


def test_a_first_code_confirms_and_is_spent(
    service: Service, clock: TurnedClock
) -> None:
    """A pending account decides nothing until then."""
    mine = token(service)
    _, seed = service.accounts.create(NewAccount("shop/new"))
    right = code_at(clock(), seed)

    assert ["DISABLED 0"] == decide(service, Attempt(right, "shop/new", mine))
    confirm = Attempt(right, "shop/new", mine, Purpose.CONFIRM)
    assert ["ACCEPTED 0"] == decide(service, confirm)
    assert ["REPLAYED 0"] == decide(service, Attempt(right, "shop/new", mine))
    assert [AccountNotPending.code] == decide(service, confirm)


def test_first_codes_are_throttled(service: Service, clock: TurnedClock) -> None:
    """Guessing a first code costs what guessing any costs, and never confirms."""
    mine = token(service)
    service.accounts.create(NewAccount("shop/new"))
    wrong = wrong_code_at(clock())

    found = decide(service, *[Attempt(wrong, "shop/new", mine, Purpose.CONFIRM)] * 6)

    assert ["WRONG 0"] * 5 + ["THROTTLED 30"] == found


def test_what_cannot_be_confirmed_takes_nobody_down(
    service: Service, clock: TurnedClock
) -> None:
    """An error of one attempt stays with it, for this machine's callers too."""
    right = code_at(clock())

    assert ["account_not_pending", "seed_missing", "ACCEPTED 0"] == decide(
        service,
        Attempt(right, "shop/a", None, Purpose.CONFIRM),
        Attempt(right, "none"),
        Attempt(right, "shop/a"),
    )


# Recovery codes.


def recover(code: str, account: str = "shop/a", caller: bytes | None = None) -> Attempt:
    """Return an attempt with a recovery code."""
    return Attempt(recovery.parse(code) or "", account, caller, Purpose.RECOVER)


def test_a_recovery_code_is_accepted_once(service: Service) -> None:
    """Each of the ten, also twice in one batch."""
    mine = token(service)
    codes = service.accounts.make_recovery_codes("shop/a")

    found = decide(service, *[recover(code, caller=mine) for code in codes])
    again = decide(service, recover(codes[0], caller=mine))

    assert ["ACCEPTED 0"] * 10 == found
    assert ["WRONG 0"] == again
    assert len(codes) == 10


def test_one_batch_spends_a_recovery_code_once(service: Service) -> None:
    """Two that come at the same instant are two."""
    code = service.accounts.make_recovery_codes("shop/a")[0]

    assert ["ACCEPTED 0", "WRONG 0"] == decide(service, recover(code), recover(code))


def test_a_recovery_code_burns_two_steps(service: Service, clock: TurnedClock) -> None:
    """Who looked over a shoulder has a code of the current or the next step."""
    code = service.accounts.make_recovery_codes("shop/a")[0]
    current, following = code_at(clock()), code_at(clock() + 30)

    assert ["ACCEPTED 0"] == decide(service, recover(code))
    assert ["REPLAYED 0"] * 2 == decide(
        service, Attempt(current, "shop/a"), Attempt(following, "shop/a")
    )
    clock.turn(60)
    assert ["ACCEPTED 0"] == decide(service, Attempt(code_at(clock()), "shop/a"))


def test_recovery_codes_share_the_throttle(
    service: Service, clock: TurnedClock
) -> None:
    """Guessing them leaves no tries for codes, and the other way round."""
    mine = token(service)
    codes = service.accounts.make_recovery_codes("shop/a")
    decide(service, *[recover("aaaa-aaaa-aaaa-aaaa", caller=mine)] * 5)

    assert ["THROTTLED 30"] * 2 == decide(
        service,
        Attempt(code_at(clock()), "shop/a", mine),
        recover(codes[0], caller=mine),
    )
    clock.turn(31)
    assert ["ACCEPTED 0"] == decide(service, recover(codes[0], caller=mine))


def test_new_recovery_codes_void_the_old(service: Service) -> None:
    """Whoever makes new ones has lost the old ones."""
    old = service.accounts.make_recovery_codes("shop/a")[0]
    new = service.accounts.make_recovery_codes("shop/a")[0]

    assert ["WRONG 0", "ACCEPTED 0"] == decide(service, recover(old), recover(new))


def test_a_recovery_code_is_its_accounts_own(service: Service) -> None:
    """Nobody uses another's, even knowing it."""
    code = service.accounts.make_recovery_codes("shop/a")[0]

    assert ["WRONG 0"] == decide(service, recover(code, "bank/a"))


# Time.


def test_a_clock_that_is_behind_verifies_nothing(
    store: Store, clock: TurnedClock
) -> None:
    """Used steps are not reopened; it is told, counted, and over when it is right."""
    service = serve(store, clock)
    bring(service, "a")
    with store.transaction() as tx:
        tx.set_storage_key_record(b"some record")
    code = code_at(clock())
    assert ["ACCEPTED 0"] == decide(service, Attempt(code, "a"))

    late = TurnedClock(clock() - 5.5)
    behind = serve(store, late)
    assert ["clock_behind"] * 2 == decide(behind, *[Attempt(code, "a")] * 2)
    with pytest.raises(ClockBehind):
        behind.examine("a")
    assert Kind.CLOCK_BEHIND in kinds(service)
    late.turn(0.6)
    assert ["REPLAYED 0"] == decide(behind, Attempt(code, "a"))
    assert behind.examine("a") is not None


def test_a_leap_forward_does_not_poison_the_mark(
    store: Store, clock: TurnedClock
) -> None:
    """A wall clock that runs away alone moves the mark only as time passes."""
    believed = TurnedClock(clock())
    leaping = Service(
        store,
        keys=None,  # type: ignore[arg-type]
        storage_key=StorageKey(Secret(b"k" * 32)),
        clock=clock,
        monotonic=lambda: believed.now,
    )
    bring(leaping, "a")
    decide(leaping, Attempt("000000", "a"))
    clock.turn(31_536_000)
    believed.turn(2)
    decide(leaping, Attempt("000000", "a"))

    with store.transaction() as tx:
        assert tx.mark(CLOCK_MARK) == 1_800_000_002_000


def test_a_clock_ahead_at_the_start_prunes_nothing(
    store: Store, clock: TurnedClock
) -> None:
    """The audit log outlives a process that believes it is next year."""
    service = serve(store, clock)
    bring(service, "a")
    decide(service, Attempt("000000", "a"))
    ahead = TurnedClock(clock() + 400 * 86_400)
    wrong = serve(store, ahead)
    log = AuditLog(store, wrong.storage_key, ahead)
    before = kinds(service)

    for _ in range(3):
        wrong.upkeep.settle()
        log.prune(365, credible=wrong.timekeeper.latest_credible)
        ahead.turn(86_400)

    assert before == kinds(service)[: len(before)]
    assert log.prune(365) > 0


def test_old_events_go_in_time(store: Store, clock: TurnedClock) -> None:
    """A service that runs on prunes by its clock."""
    service = serve(store, clock)
    bring(service, "a")
    log = AuditLog(store, service.storage_key, clock)
    service.upkeep.settle()
    clock.turn(366 * 86_400)
    service.upkeep.settle()
    decide(service, Attempt("000000", "a"))

    assert log.prune(365, credible=service.timekeeper.latest_credible) == 1


class DatabaseClock(MemoryStore):
    """A store whose server has a clock of its own."""

    ahead_s = 0.0

    def __init__(self, clock: TurnedClock) -> None:
        super().__init__()
        self._clock = clock

    @contextmanager
    def transaction(
        self, *, patience_s: float = 4.0, shared: bool = False
    ) -> Iterator[MemoryTransaction]:
        """Open a transaction that tells the server's time."""
        del patience_s, shared
        with super().transaction() as tx:
            tx.server_time = self._clock() + self.ahead_s
            yield tx


@pytest.mark.parametrize(
    ("expected", "ahead_s"),
    [
        ("WRONG 0", 4.9),
        ("clock_behind", 5.1),
        ("WRONG 0", -4.9),
        ("clock_behind", -5.1),
    ],
)
def test_a_replica_compares_itself_with_the_database(
    clock: TurnedClock, expected: str, ahead_s: float
) -> None:
    """Either way: a clock that runs ahead would spend steps that are yet to come."""
    store = DatabaseClock(clock)
    service = serve(store, clock)
    bring(service, "a")
    store.ahead_s = ahead_s

    assert [expected] == decide(service, Attempt(wrong_code_at(clock()), "a"))


# Nothing else changes.


def test_the_local_callers_are_told_of_missing_accounts(service: Service) -> None:
    """An operator on this machine is no stranger."""
    with pytest.raises(SeedMissing):
        service.verify("000000", "none")


def test_exhaustion_is_an_error_with_a_time() -> None:
    """Who is refused for it is told when to come back."""
    assert CallerExhausted().retry_after_s > 0


def test_drift_out_of_bounds_is_no_decision_of_ours(
    service: Service, clock: TurnedClock
) -> None:
    """A database that claims it is not believed."""
    with service.store.transaction() as tx:
        row = tx.accounts(["shop/a"])["shop/a"]
        tx.save_states([("shop/a", replace(row.state, drift=61))])

    code = code_at(clock() + 61 * 30)
    assert ["seed_unreadable"] == decide(service, Attempt(code, "shop/a"))


@pytest.mark.parametrize(
    "changes", [{"digits": 8}, {"window": 0}, {"period": 60}, {"algorithm": "SHA256"}]
)
def test_parameters_are_bound_to_the_seed(
    service: Service, changes: dict[str, object]
) -> None:
    """A database that claims others is not believed, whichever they are."""
    with service.store.transaction() as tx:
        row = tx.accounts(["shop/a"])["shop/a"]
        parameters = replace(row.parameters, **changes)  # type: ignore[arg-type]
        tx.put_account(replace(row, parameters=parameters))

    assert ["seed_unreadable"] == decide(service, Attempt("000000", "shop/a"))
