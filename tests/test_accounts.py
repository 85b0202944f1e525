"""Accounts as applications and administrators deal with them; and the callers' book."""

from collections.abc import Callable

import pytest
from conftest import TurnedClock
from memory_store import MemoryStore
from test_decider import HOTP, SEED, bring, code_at, serve, token

from otpseal import throttle, totp
from otpseal.access import Scope
from otpseal.account_state import Status
from otpseal.accounts import NewAccount
from otpseal.audit import Kind
from otpseal.errors import (
    AccountExists,
    AccountIdRefused,
    AccountMissing,
    CallerMissing,
    CallerRefused,
    Forbidden,
    OtpsealError,
    ParametersRefused,
    SeedConflict,
    Unauthenticated,
)
from otpseal.secret import Secret
from otpseal.service import Service
from otpseal.totp import Parameters
from otpseal.verification import Outcome

OTHER = Secret(b"y" * 20)


@pytest.fixture
def service(clock: TurnedClock) -> Service:
    """A service with the accounts shop/a and bank/a."""
    made = serve(MemoryStore(), clock)
    bring(made, "shop/a")
    bring(made, "bank/a", seed=OTHER)
    return made


def events(service: Service, kind: Kind) -> list[tuple[str, str]]:
    """Return the account and detail of the events of a kind."""
    with service.store.transaction() as tx:
        rows = tx.newest_events(1000, kind=kind)
    return [(row.account, row.detail) for row in rows]


# Made.


def test_a_new_account_has_a_seed_of_its_own(service: Service) -> None:
    """Of 20 bytes or more, from the machine's randomness, waiting to be confirmed."""
    first, seed = service.accounts.create(NewAccount("a"))
    _, other = service.accounts.create(NewAccount("b"), seed_bytes=64)

    assert len(seed) == 20
    assert len(other) == 64
    assert first.state.status is Status.PENDING
    assert service.account("a") == first
    assert first.open_seed(service.storage_key) == seed


@pytest.mark.parametrize(
    "new",
    [
        NewAccount("a", Parameters(algorithm="MD5")),
        NewAccount("a", Parameters(digits=5)),
        NewAccount("a", Parameters(digits=9)),
        NewAccount("a", Parameters(period=14)),
        NewAccount("a", Parameters(period=301)),
        NewAccount("a", Parameters(window=2)),
        NewAccount("a", Parameters(window=-1)),
        NewAccount("a", HOTP, counter=-1),
        NewAccount("a", HOTP, counter=2**63),
        NewAccount("a", issuer="x" * 129),
        NewAccount("a", label="a\nb"),
        NewAccount("a", label="\ud800"),
        NewAccount("default", Parameters(digits=8)),
    ],
)
def test_parameters_out_of_range(service: Service, new: NewAccount) -> None:
    """Nothing is made, and the reason is named."""
    with pytest.raises(ParametersRefused):
        service.accounts.create(new)

    assert service.account(new.id) is None


@pytest.mark.parametrize("length", [15, 65])
def test_a_seed_of_a_wrong_length(service: Service, length: int) -> None:
    """RFC 4226 R6: at least 128 bits."""
    with pytest.raises(ParametersRefused):
        service.accounts.bring(NewAccount("a"), Secret(b"z" * length))


@pytest.mark.parametrize("length", [19, 65])
def test_a_new_seed_of_a_wrong_length(service: Service, length: int) -> None:
    """Seeds of our own have 20 to 64 bytes."""
    with pytest.raises(ParametersRefused):
        service.accounts.create(NewAccount("a"), seed_bytes=length)


@pytest.mark.parametrize("name", ["", "A", "a/", "/a", "a//b", "a b", "ä", "a" * 129])
def test_what_is_no_id(service: Service, name: str) -> None:
    """Refused, never folded: one account has one spelling."""
    with pytest.raises(AccountIdRefused):
        service.accounts.create(NewAccount(name))


def test_an_id_has_one_account(service: Service) -> None:
    """A second one of the id is refused and changes nothing."""
    before = service.account("shop/a")

    with pytest.raises(AccountExists):
        service.accounts.create(NewAccount("shop/a"))

    assert before == service.account("shop/a")


def test_a_seed_has_one_account(service: Service) -> None:
    """Two would each accept a code once; the refusal is counted."""
    with pytest.raises(SeedConflict):
        service.accounts.bring(NewAccount("c"), SEED)
    with pytest.raises(SeedConflict):
        service.accounts.replace_seed("bank/a", SEED)

    assert service.account("c") is None
    assert [("", '{"count":1}'), ("bank/a", '{"count":1}')] == events(
        service, Kind.SEED_REFUSED
    )


# Who may.

Call = Callable[[Service, bytes], object]
NEW = Secret(b"n" * 20)
CALLS: dict[str, tuple[Scope, Call]] = {
    "create": (
        Scope.ACCOUNTS,
        lambda s, c: s.accounts.create(NewAccount("shop/n"), credential=c),
    ),
    "bring": (
        Scope.IMPORT,
        lambda s, c: s.accounts.bring(NewAccount("shop/n"), NEW, credential=c),
    ),
    "show": (Scope.ACCOUNTS, lambda s, c: s.accounts.show("shop/a", credential=c)),
    "page": (Scope.ACCOUNTS, lambda s, c: s.accounts.page("", 9, credential=c)),
    "code": (Scope.CODE, lambda s, c: s.accounts.current_code("shop/a", credential=c)),
    "enable": (Scope.ACCOUNTS, lambda s, c: s.accounts.enable("shop/a", credential=c)),
    "disable": (
        Scope.ACCOUNTS,
        lambda s, c: s.accounts.disable("shop/a", credential=c),
    ),
    "recovery": (
        Scope.ACCOUNTS,
        lambda s, c: s.accounts.make_recovery_codes("shop/a", credential=c),
    ),
    "replace": (
        Scope.ADMIN,
        lambda s, c: s.accounts.replace_seed("shop/a", credential=c),
    ),
    "delete": (Scope.ADMIN, lambda s, c: s.accounts.delete("shop/a", credential=c)),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("scope", Scope)
def test_each_call_needs_its_scope(service: Service, name: str, scope: Scope) -> None:
    """Deleting and replacing need more than using; admin may do everything."""
    needed, call = CALLS[name]
    caller = token(service, "shop/", frozenset({scope}))

    if scope in (needed, Scope.ADMIN):
        call(service, caller)
    else:
        with pytest.raises(Forbidden):
            call(service, caller)
        assert service.account("shop/a") is not None
        assert service.account("shop/n") is None


@pytest.mark.parametrize("name", CALLS)
def test_a_revoked_token_may_nothing(service: Service, name: str) -> None:
    """From the next call on."""
    made = service.callers.create("app", frozenset({Scope.ADMIN}))
    service.callers.revoke(made.caller.id)

    with pytest.raises(Unauthenticated):
        CALLS[name][1](service, made.caller.digest)


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"create", "bring", "page"}))
def test_a_foreign_account_is_missing(service: Service, name: str) -> None:
    """It is answered for exactly as one that does not exist."""
    foreign = token(service, "bank/", frozenset({Scope.ADMIN}))

    with pytest.raises(AccountMissing) as refused:
        CALLS[name][1](service, foreign)
    service.accounts.delete("shop/a")
    with pytest.raises(AccountMissing) as missing:
        CALLS[name][1](service, foreign)

    assert str(refused.value) == str(missing.value)


@pytest.mark.parametrize("name", ["create", "bring"])
def test_nobody_makes_an_account_over_the_fence(service: Service, name: str) -> None:
    """Whether it exists or not."""
    foreign = token(service, "bank/", frozenset({Scope.ADMIN}))

    for _ in range(2):
        with pytest.raises(Forbidden):
            CALLS[name][1](service, foreign)
        service.accounts.create(NewAccount(f"shop/{'n' if _ == 0 else 'm'}"))


def test_a_page_shows_ones_own(service: Service) -> None:
    """A fenced caller sees its own, whatever prefix it asks for."""
    fenced = token(service, "shop/", frozenset({Scope.ACCOUNTS}))

    def seen(prefix: str) -> list[str]:
        rows = service.accounts.page("", 9, prefix=prefix, credential=fenced)
        return [row.id for row in rows]

    assert ["shop/a"] == seen("") == seen("shop/") == seen("s")
    assert [] == seen("bank/") == seen("shop/b")
    assert ["bank/a", "shop/a"] == [row.id for row in service.accounts.page("", 9)]


# Changed and removed.


def test_a_deleted_seed_that_comes_back_is_spent(
    service: Service, clock: TurnedClock
) -> None:
    """For a day, under whichever id it comes back."""
    code = code_at(clock())
    assert service.verify(code, "shop/a").outcome is Outcome.ACCEPTED

    service.accounts.delete("shop/a")
    bring(service, "shop/b")

    assert service.account("shop/a") is None
    assert service.verify(code, "shop/b").outcome is Outcome.REPLAYED


def test_a_replaced_seed_that_comes_back_is_spent(
    service: Service, clock: TurnedClock
) -> None:
    """There and back again reopens nothing."""
    code = code_at(clock())
    assert service.verify(code, "shop/a").outcome is Outcome.ACCEPTED

    _, made = service.accounts.replace_seed("shop/a")
    assert made is not None
    assert service.verify(code, "shop/a").outcome is Outcome.WRONG
    service.accounts.replace_seed("shop/a", SEED)

    assert service.verify(code, "shop/a").outcome is Outcome.REPLAYED


def test_a_replacement_keeps_parameters_and_throttle(
    service: Service, clock: TurnedClock
) -> None:
    """A new seed gives nobody new tries, and no other kind of code."""
    parameters = Parameters(algorithm="SHA256", digits=8, period=60, window=0)
    bring(service, "shop/8", parameters, NEW)
    for _ in range(5):
        service.verify("00000000", "shop/8")

    service.accounts.replace_seed("shop/8")

    row = service.account("shop/8")
    assert row is not None
    assert row.parameters == parameters
    assert row.state.failures == 5
    assert service.verify("00000000", "shop/8").outcome is Outcome.THROTTLED


def test_a_disabled_account_gives_way_to_nothing(
    service: Service, clock: TurnedClock
) -> None:
    """Enabled again it has a fresh budget, and what was spent stays spent."""
    code = code_at(clock())
    service.verify(code, "shop/a")
    service.accounts.disable("shop/a")
    assert service.verify("000000", "shop/a").outcome is Outcome.DISABLED

    row = service.accounts.enable("shop/a")

    assert row.state.budget is throttle.FRESH
    assert service.verify(code, "shop/a").outcome is Outcome.REPLAYED


def test_the_code_that_is_shown_is_the_one_that_is_accepted(
    service: Service, clock: TurnedClock
) -> None:
    """Whatever the parameters; asking is recorded with who asked."""
    parameters = Parameters(algorithm="SHA512", digits=8, period=300)
    bring(service, "shop/8", parameters, NEW)
    caller = token(service, "shop/", frozenset({Scope.CODE}))

    shown = service.accounts.current_code("shop/8", credential=caller)

    assert len(shown.text) == 8
    assert 1 <= shown.valid_for <= 300
    assert service.verify(shown.text, "shop/8").outcome is Outcome.ACCEPTED
    ((account, detail),) = events(service, Kind.CODE_SHOWN)
    assert account == "shop/8"
    assert '"caller":"c' in detail


def test_a_counter_has_no_current_code(service: Service) -> None:
    """To show one would mean to spend it, or to show the same for ever."""
    bring(service, "shop/h", HOTP, NEW)

    with pytest.raises(ParametersRefused):
        service.accounts.current_code("shop/h")


def test_seed_lengths_and_algorithms_agree_with_pyotp(
    service: Service, clock: TurnedClock
) -> None:
    """What is shown is what another library computes."""
    import base64
    import hashlib

    import pyotp

    digests = {
        "SHA1": hashlib.sha1,
        "SHA256": hashlib.sha256,
        "SHA512": hashlib.sha512,
    }
    for number, (name, digest) in enumerate(digests.items()):
        for digits in (6, 7, 8):
            seed = Secret(bytes([number, digits] * 16))
            new = NewAccount(f"x/{name.lower()}-{digits}", Parameters(name, digits, 60))
            service.accounts.bring(new, seed)
            text = base64.b32encode(seed.reveal()).decode().rstrip("=")
            expected = pyotp.TOTP(text, digits=digits, digest=digest, interval=60)

            shown = service.accounts.current_code(new.id)

            assert expected.at(int(clock())) == shown.text


# Callers.


@pytest.mark.parametrize(
    ("name", "scopes", "prefix", "certificate"),
    [
        ("", {Scope.VERIFY}, "", None),
        ("a\nb", {Scope.VERIFY}, "", None),
        ("x" * 65, {Scope.VERIFY}, "", None),
        ("app", set(), "", None),
        ("app", {Scope.VERIFY}, "shop", None),
        ("app", {Scope.VERIFY}, "/", None),
        ("app", {Scope.VERIFY}, "Shop/", None),
        ("app", {Scope.VERIFY}, "", "shop.example"),
    ],
)
def test_a_caller_that_cannot_be(
    service: Service,
    name: str,
    scopes: set[Scope],
    prefix: str,
    certificate: str | None,
) -> None:
    """Nothing is made of a name, scopes or a prefix that mean nothing."""
    with pytest.raises(CallerRefused):
        service.callers.create(
            name, frozenset(scopes), prefix=prefix, certificate=certificate
        )

    assert service.callers.all() == []


def test_a_certificates_name_is_used_once(service: Service) -> None:
    """A revoked one stays revoked: nobody admits it again by mistake."""
    scopes = frozenset({Scope.VERIFY})
    made = service.callers.create("a", scopes, certificate="DNS:shop.example")
    service.callers.revoke(made.caller.id)

    assert made.token is None
    with pytest.raises(CallerRefused):
        service.callers.create("b", scopes, certificate="DNS:shop.example")


def test_a_revocation_is_told_once(service: Service) -> None:
    """Who revokes what is not there learns it."""
    made = service.callers.create("a", frozenset({Scope.VERIFY}))
    service.callers.revoke(made.caller.id)

    for name in (made.caller.id, "none"):
        with pytest.raises(CallerMissing):
            service.callers.revoke(name)
    assert len(events(service, Kind.CALLER_REVOKED)) == 1
    assert len(events(service, Kind.CALLER_CREATED)) == 1


def test_a_token_rests_as_a_digest(service: Service) -> None:
    """Neither the token nor a part of it is in the store."""
    made = service.callers.create("a", frozenset({Scope.VERIFY}))
    assert made.token is not None

    with service.store.transaction() as tx:
        assert made.token.reveal().decode() not in repr(tx.all_callers())
    assert made.token.reveal().decode() not in repr(made)


# The alarm.


@pytest.mark.parametrize(
    ("alarms", "wrong", "accepted"), [(0, 9, 0), (1, 10, 0), (1, 10, 2), (0, 1, 1)]
)
def test_the_fleets_alarm(
    clock: TurnedClock, alarms: int, wrong: int, accepted: int
) -> None:
    """So many wrong codes a minute over all accounts, and the greater part, are one."""
    store = MemoryStore()
    service = Service(
        store,
        keys=None,  # type: ignore[arg-type]
        storage_key=serve(store, clock).storage_key,
        clock=clock,
        alarm_failures=10,
    )
    names = [f"a{n}" for n in range(max(wrong, accepted))]
    for number, name in enumerate(names):
        bring(service, name, seed=Secret(bytes([number]) * 20))
    for name in names[:accepted]:
        shown = service.accounts.current_code(name).text
        assert service.verify(shown, name).outcome is Outcome.ACCEPTED
    for name in names[:wrong]:
        service.verify("000000", name)

    service.upkeep.settle()
    service.upkeep.settle()

    found = events(service, Kind.FAILURE_RATE)
    assert len(found) == alarms
    if alarms:
        assert found == [("", f'{{"accepted":{accepted},"wrong":{wrong}}}')]


def test_errors_name_no_input(service: Service) -> None:
    """What was refused is not repeated."""
    for call in (
        lambda: service.accounts.create(NewAccount("CANARY")),
        lambda: service.accounts.create(NewAccount("a", Parameters("CANARY"))),
        lambda: service.accounts.show("canary"),
    ):
        with pytest.raises(OtpsealError) as caught:
            call()

        assert "canary" not in str(caught.value).lower()


def test_classic_parameters_are_those_of_the_exercise() -> None:
    """SHA1, 6 digits, 30 s and one step: what authenticator apps support."""
    assert Parameters("SHA1", 6, 30, totp.OtpType.TOTP, 1) == totp.CLASSIC
