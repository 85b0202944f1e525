"""The service's use cases, on a real store: what comes in, goes out and survives."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_store import MemoryStore
from repetitions import rounds
from stores import make_sqlite

from otpseal import Settings, envelope, open_service, throttle, totp
from otpseal.adapters.file_keys import RsaKeys
from otpseal.audit import Kind
from otpseal.errors import (
    AccountMissing,
    KeyUnavailable,
    OtpsealError,
    SeedConflict,
    SeedMissing,
    SeedUnreadable,
    StoreMismatch,
    StoreUnavailable,
    SuiteRefused,
    UnsealFailed,
)
from otpseal.ledger import AuditLog
from otpseal.ports import Store
from otpseal.secret import Secret
from otpseal.service import Attempt, Imported, Service
from otpseal.storage_key import StorageKey
from otpseal.suite import Suite
from otpseal.totp import Parameters
from otpseal.verification import Decision, Outcome

A, B = Secret(b"a" * 32), Secret(b"b" * 32)
STORAGE_KEY = StorageKey(Secret(b"k" * 32))
MakeService = Callable[[Store], Service]
Clock = Callable[[], float]


@pytest.fixture
def make_service(service_keys: RsaKeys, clock: Clock) -> MakeService:
    """What makes a service on a store; the storage key is always the same."""
    return lambda store: Service(
        store, keys=service_keys, storage_key=STORAGE_KEY, clock=clock
    )


@pytest.fixture
def service(make_service: MakeService) -> Service:
    """A service on an empty store in memory."""
    return make_service(MemoryStore())


def events(service: Service) -> list[tuple[str, dict[str, object]]]:
    """Return kind and detail of every event; each must be genuine."""
    records = AuditLog(service.store, STORAGE_KEY, service.clock).newest(10**6)
    assert all(record.genuine for record in records)
    return [(record.row.kind, json.loads(record.row.detail)) for record in records]


def right_code(service: Service, seed: Secret = A) -> str:
    """Return the current code."""
    return totp.generate(seed, service.clock()).text


def wrong_code(service: Service, seed: Secret = A) -> str:
    """Return a code that belongs to no step near now."""
    now = service.clock()
    near = {totp.generate(seed, now + 30 * offset).text for offset in range(-3, 4)}
    return next(text for text in ("000000", "111111", "222222") if text not in near)


def change(path: Path, statement: str, *values: object) -> None:
    """Do to the database what whoever can write its file could do."""
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


# A seed arrives.


def test_a_sealed_seed_is_opened_and_kept(service: Service) -> None:
    """Who sealed the seed and the service have the same codes from then on."""
    sealed = envelope.seal(A, service.keys.public_key)

    imported = service.import_sealed(sealed)

    assert imported is Imported.NEW
    assert service.verify(right_code(service)).outcome is Outcome.ACCEPTED
    assert events(service)[0] == (
        "seed.imported",
        {"source": "sealed", "sender": "not authenticated"},
    )


def test_the_same_seed_again_changes_nothing(service: Service) -> None:
    """A repeated import leaves the account as it is, and is counted."""
    service.import_seed(A, source="sealed")
    service.verify(right_code(service))
    before = service.account()

    imported = [service.import_seed(A, source="sealed") for _ in range(5)]
    service.import_seed(A, source="sealed", replace_existing=True)

    assert [Imported.REPEATED] * 5 == imported
    assert service.account() == before
    assert events(service)[2:] == [("seed.repeated", {"count": 1})]


def test_another_seed_is_refused_and_counted(service: Service, clock: Clock) -> None:
    """A conflict leaves the first seed, and its count survives the exception."""
    service.import_seed(A, source="sealed")
    before = service.account()

    for _ in range(3):
        with pytest.raises(SeedConflict):
            service.import_seed(B, source="sealed")
    clock.turn(60)  # type: ignore[attr-defined]
    service.upkeep.settle()

    assert service.account() == before
    assert events(service)[1:] == [
        ("seed.refused", {"count": 1}),
        ("seed.refused", {"count": 2}),
    ]


@pytest.mark.parametrize("sealed", ["", "?", "A" * 684, "A" * 10_000, "\ud800"])
def test_what_does_not_open_is_counted(
    service: Service, sealed: str, clock: Clock
) -> None:
    """Every failure to open is the same error, keeps nothing, and is counted."""
    for _ in range(3):
        with pytest.raises(UnsealFailed, match=r"^Decryption failed$"):
            service.import_sealed(sealed)
    clock.turn(60)  # type: ignore[attr-defined]
    service.upkeep.settle()

    assert service.account() is None
    assert events(service) == [
        ("seed.refused", {"count": 1}),
        ("seed.refused", {"count": 2}),
    ]


def test_an_administrator_can_replace_a_seed(service: Service) -> None:
    """After a replacement the new seed's codes are right and the old one's wrong."""
    service.import_seed(A, source="sealed")

    imported = service.import_seed(B, source="sealed", replace_existing=True)

    assert imported is Imported.REPLACED
    assert service.verify(right_code(service, A)).outcome is Outcome.WRONG
    assert service.verify(right_code(service, B)).outcome is Outcome.ACCEPTED
    assert (
        "seed.replaced",
        {"source": "sealed", "sender": "not authenticated"},
    ) in events(service)


def test_a_replacement_frees_nobody(service: Service) -> None:
    """A running wait and a disabled account outlive the replacement of the seed."""
    service.import_seed(A, source="sealed")
    for _ in range(5):
        service.verify(wrong_code(service))

    service.import_seed(B, source="sealed", replace_existing=True)
    waiting = service.verify(right_code(service, B))
    service.accounts.disable()
    service.import_seed(A, source="sealed", replace_existing=True)
    disabled = service.verify(right_code(service, A))

    assert waiting.outcome is Outcome.THROTTLED
    assert disabled.outcome is Outcome.DISABLED


def test_spent_stays_spent_when_a_seed_comes_back(service: Service) -> None:
    """Replaced by another and back again, a seed still knows its last step."""
    service.import_seed(A, source="sealed")
    code = right_code(service)
    service.verify(code)

    service.import_seed(B, source="sealed", replace_existing=True)
    service.verify(right_code(service, B))
    service.import_seed(A, source="sealed", replace_existing=True)
    service.import_seed(B, source="sealed", replace_existing=True)
    assert service.verify(right_code(service, B)).outcome is Outcome.REPLAYED
    service.import_seed(A, source="sealed", replace_existing=True)

    assert service.verify(code).outcome is Outcome.REPLAYED


def test_spent_stays_spent_in_another_account(service: Service) -> None:
    """A seed that moves to another account takes its last step along."""
    service.import_seed(A, source="sealed")
    code = right_code(service)
    service.verify(code)

    service.import_seed(B, source="sealed", replace_existing=True)
    service.import_seed(A, source="sealed", account="other")

    assert service.verify(code, "other").outcome is Outcome.REPLAYED


def test_tombstones_do_not_pile_up(service: Service, clock: Clock) -> None:
    """Whoever replaces seeds daily for a month leaves one day's tombstones."""
    service.import_seed(A, source="sealed")
    for day in range(30):
        clock.turn(86_400)  # type: ignore[attr-defined]
        seed = Secret(bytes([day]) * 32)
        service.import_seed(seed, source="sealed", replace_existing=True)
        service.upkeep.settle()

    assert isinstance(service.store, MemoryStore)
    assert len(service.store.committed.tombstones) == 1


@pytest.mark.parametrize("replace_existing", [False, True])
def test_one_seed_belongs_to_one_account(
    service: Service, *, replace_existing: bool
) -> None:
    """A seed of two accounts would be accepted once by each: the second is refused."""
    service.import_seed(A, source="sealed", account="a")
    service.import_seed(B, source="sealed", account="b")

    with pytest.raises(SeedConflict):
        service.import_seed(
            A, source="sealed", account="b", replace_existing=replace_existing
        )

    assert service.verify(right_code(service, B), "b").outcome is Outcome.ACCEPTED
    assert events(service)[2] == ("seed.refused", {"count": 1})


# Codes go out.


def test_asking_for_a_code_spends_nothing(service: Service) -> None:
    """However often a code is shown, it is accepted afterwards, once."""
    service.import_seed(A, source="sealed")

    shown = service.show_code()
    assert service.current_codes(["default"] * 3) == [shown] * 3

    assert service.verify(shown.text).outcome is Outcome.ACCEPTED
    assert ("code.shown", {}) in events(service)


def test_codes_fail_one_by_one(service: Service) -> None:
    """Accounts without a seed get their error in the list, the others their code."""
    service.import_seed(A, source="sealed", account="a")

    none, code, odd = service.current_codes(["none", "a", "\ud800"])

    assert isinstance(none, SeedMissing)
    assert totp.generate(A, service.clock()) == code
    assert isinstance(odd, SeedMissing)
    with pytest.raises(SeedMissing):
        service.show_code("none")


# Attempts are decided.


def test_a_batch_is_decided_in_order(service: Service) -> None:
    """Each attempt sees what those before it changed, and errors stay with theirs."""
    service.import_seed(A, source="sealed", account="a")
    service.import_seed(B, source="sealed", account="b")
    code = right_code(service, A)
    attempts = [
        Attempt(code, "a"),
        Attempt(code, "none"),
        Attempt(code, "a"),
        Attempt(code, "\ud800"),
        Attempt(code, "\0"),
        *[Attempt(wrong_code(service, B), "b")] * 5,
        Attempt(right_code(service, B), "b"),
    ]

    results = service.verify_batch(attempts)

    def name(result: Decision | OtpsealError) -> str:
        is_error = isinstance(result, OtpsealError)
        return result.code if is_error else result.outcome.name

    assert [
        "ACCEPTED",
        "seed_missing",
        "REPLAYED",
        "seed_missing",
        "seed_missing",
        *["WRONG"] * 5,
        "THROTTLED",
    ] == [name(result) for result in results]
    row = service.account("b")
    assert row is not None
    assert throttle.State(5, service.clock() + 30, 1) == row.state.budget


def test_what_is_refused_in_bulk_is_counted(service: Service, clock: Clock) -> None:
    """A thousand replays are two events, a thousand on a disabled account two more."""
    service.import_seed(A, source="sealed")
    code = right_code(service)
    service.verify(code)

    for _ in range(1000):
        service.verify(code)
    service.accounts.disable()
    for _ in range(1000):
        service.verify(code)
    clock.turn(60)  # type: ignore[attr-defined]
    service.upkeep.settle()
    service.upkeep.settle()

    counted = [(kind, detail) for kind, detail in events(service) if "count" in detail]
    assert sorted(counted, key=str) == [
        ("attempt.disabled", {"count": 1}),
        ("attempt.disabled", {"count": 999}),
        ("attempt.replayed", {"count": 1}),
        ("attempt.replayed", {"count": 999}),
    ]


def test_a_batch_counts_each_attempt(service: Service, clock: Clock) -> None:
    """Replays and refusals that share a transaction are counted one by one."""
    service.import_seed(A, source="sealed")
    code, wrong = right_code(service), wrong_code(service)

    service.verify_batch([Attempt(code)] * 51)
    service.verify_batch([Attempt(wrong)] * 5 + [Attempt(code)] * 20)
    clock.turn(60)  # type: ignore[attr-defined]
    service.upkeep.settle()

    assert ("attempt.replayed", {"count": 50}) in events(service)
    assert ("attempt.throttled", {"count": 20}) in events(service)


def test_a_wait_is_one_event_with_a_count(service: Service, clock: Clock) -> None:
    """Refusals are told once their wait is over, in one event, and not before."""
    service.import_seed(A, source="sealed")
    for _ in range(5):
        service.verify(wrong_code(service))
    for _ in range(100):
        service.verify(right_code(service))

    clock.turn(29)  # type: ignore[attr-defined]
    service.upkeep.settle()
    during = events(service)
    clock.turn(1)  # type: ignore[attr-defined]
    service.upkeep.settle()
    service.upkeep.settle()

    expected = ("attempt.throttled", {"count": 100})
    assert expected not in during
    assert events(service).count(expected) == 1
    assert sum(kind == "attempt.throttled" for kind, _ in events(service)) == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_an_administrator_loses_no_count(service: Service, *, enabled: bool) -> None:
    """Enabling or disabling in the middle of a wait tells what it refused so far."""
    service.import_seed(A, source="sealed")
    for _ in range(5):
        service.verify(wrong_code(service))
    for _ in range(7):
        service.verify(right_code(service))

    (service.accounts.enable if enabled else service.accounts.disable)()

    *_, throttled, decided = events(service)
    assert throttled == ("attempt.throttled", {"count": 7})
    assert decided == ("account.enabled" if enabled else "account.disabled", {})


def test_enabling_gives_a_fresh_budget_and_no_spent_step(service: Service) -> None:
    """An enabled account may try at once, but what was spent stays spent."""
    service.import_seed(A, source="sealed")
    code = right_code(service)
    service.verify(code)
    for _ in range(5):
        service.verify(wrong_code(service))
    service.accounts.disable()

    service.accounts.enable()

    row = service.account()
    assert row is not None
    assert throttle.FRESH == row.state.budget
    assert service.verify(code).outcome is Outcome.REPLAYED
    for decide in (service.accounts.enable, service.accounts.disable):
        with pytest.raises(AccountMissing):
            decide("none")


def test_an_attempt_does_not_print_its_code() -> None:
    """The code is in no `repr`: attempts may end up in a log."""
    attempt = Attempt("314159", next_code="265358", credential=b"979323")

    for secret in ("314159", "265358", "979323"):
        assert secret not in repr(attempt)


# What rests is damaged, or tampered with.


@pytest.mark.parametrize(
    "damage",
    [
        "sealed_seed = x'00'",
        "sealed_seed = x''",
        "sealed_seed = zeroblob(61)",
        (
            "sealed_seed = CAST(substr(sealed_seed, 1, 60)"
            " || CASE substr(sealed_seed, 61)"
            " WHEN x'00' THEN x'01' ELSE x'00' END AS BLOB)"
        ),
        "sealed_seed = (SELECT sealed_seed FROM accounts WHERE id = 'b')",
        "digits = 1",
        "period = 0",
        "period = 1000000000",
        "algorithm = 'MD5'",
        "algorithm = ''",
    ],
)
def test_a_damaged_row_is_unreadable_and_never_wrong(
    tmp_path: Path, make_service: MakeService, damage: str
) -> None:
    """A row that was damaged, moved or weakened is an error that names the account."""
    store = make_sqlite(tmp_path)
    service = make_service(store)
    service.import_seed(A, source="sealed", account="a")
    service.import_seed(B, source="sealed", account="b")
    change(tmp_path / "otpseal.db", f"UPDATE accounts SET {damage} WHERE id = 'a'")

    damaged, healthy = service.verify_batch(
        [Attempt(right_code(service, A), "a"), Attempt(right_code(service, B), "b")]
    )
    code, other_code = service.current_codes(["a", "b"])

    assert isinstance(damaged, SeedUnreadable)
    assert "'a'" in str(damaged)
    assert isinstance(code, SeedUnreadable)
    assert isinstance(healthy, Decision)
    assert healthy.outcome is Outcome.ACCEPTED
    assert isinstance(other_code, totp.Code)
    with pytest.raises(SeedUnreadable, match="'a'"):
        service.show_code("a")
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "sealed_seed = CAST(sealed_seed AS TEXT)",
        "sealed_seed = 'canary'",
        "fingerprint = CAST(x'FF' || 'canary' AS TEXT)",
        "algorithm = CAST(x'FF' || 'canary' AS TEXT)",
        "last_step = 'canary'",
        "failures = 'canary'",
        "wait_until = 'canary'",
        "refused = 'canary'",
        "imported_at = 'canary'",
    ],
)
def test_a_row_of_other_types_decides_nothing(
    tmp_path: Path, make_service: MakeService, damage: str
) -> None:
    """Text where numbers or bytes belong is a damaged store; it is not echoed."""
    store = make_sqlite(tmp_path)
    service = make_service(store)
    service.import_seed(A, source="sealed")
    change(tmp_path / "otpseal.db", f"UPDATE accounts SET {damage}")

    with pytest.raises((StoreUnavailable, SeedUnreadable)) as caught:
        service.verify(right_code(service))

    assert "canary" not in str(caught.value)
    assert str(caught.value).isprintable()
    store.close()


def test_other_parameters_are_not_served() -> None:
    """What this version cannot have written it does not read."""
    service = Service(
        MemoryStore(),
        keys=None,
        storage_key=STORAGE_KEY,
        clock=lambda: 0.0,  # type: ignore[arg-type]
    )
    service.import_seed(A, source="sealed")
    row = service.account()
    assert row is not None

    for parameters in (
        Parameters("SHA256"),
        Parameters(digits=8),
        Parameters(period=1),
    ):
        with pytest.raises(SeedUnreadable):
            replace(row, parameters=parameters).open_seed(STORAGE_KEY)


@pytest.mark.parametrize(
    "change_to",
    [
        "kind = 'attempt.wrong'",
        "at_ms = at_ms + 1",
        "account = 'other'",
        "detail = '{}'",
        "mac = zeroblob(32)",
        "mac = x''",
    ],
)
def test_an_altered_event_is_not_genuine(
    tmp_path: Path, make_service: MakeService, change_to: str
) -> None:
    """Whatever column of an event is altered, the list says so, of that one only."""
    store = make_sqlite(tmp_path)
    service = make_service(store)
    service.import_seed(A, source="sealed")
    service.verify(right_code(service))
    service.show_code()

    change(tmp_path / "otpseal.db", f"UPDATE audit_events SET {change_to} WHERE id = 2")

    audit = AuditLog(store, STORAGE_KEY, service.clock)
    assert [True, False, True] == [record.genuine for record in audit.newest(9)]
    store.close()


# Housekeeping.


def test_pruning_deletes_what_is_old_and_says_so(
    service: Service, clock: Clock
) -> None:
    """Events older than so many days go; how many is an event; a second run is none."""
    service.import_seed(A, source="sealed")
    service.show_code()
    clock.turn(10 * 86_400)  # type: ignore[attr-defined]
    service.show_code()
    audit = AuditLog(service.store, STORAGE_KEY, clock)

    assert [audit.prune(days) for days in (11, 10, 9, 9)] == [0, 0, 2, 0]

    assert events(service) == [
        ("code.shown", {}),
        ("audit.pruned", {"count": 2, "before": "2027-01-16T08:00:00Z"}),
    ]


def test_events_can_be_listed_by_account_and_kind(service: Service) -> None:
    """The audit log narrows to an account, a kind, and the newest."""
    service.import_seed(A, source="sealed", account="a")
    service.import_seed(B, source="sealed", account="b")
    service.show_code("b")
    audit = AuditLog(service.store, STORAGE_KEY, service.clock)

    listed = audit.newest(1, account="b", kind=Kind.SEED_IMPORTED.value)

    assert [("seed.imported", "b")] == [
        (record.row.kind, record.row.account) for record in listed
    ]


# Key and store, opened for real.


def test_a_restart_forgets_nothing(settings: Settings, clock: Clock) -> None:
    """Spent steps, a running wait and a disabled account survive the process."""
    with open_service(settings, clock=clock) as opened:
        service = opened.service
        service.import_sealed(envelope.seal(A, opened.keys.public_key))
        code = right_code(service)
        assert service.verify(code).outcome is Outcome.ACCEPTED

    with open_service(settings, clock=clock) as opened:
        service = opened.service
        assert service.verify(code).outcome is Outcome.REPLAYED
        for _ in range(5):
            service.verify(wrong_code(service))

    with open_service(settings, clock=clock) as opened:
        assert opened.service.verify(code).retry_after_s == 30
        opened.service.accounts.disable()

    with open_service(settings, clock=clock) as opened:
        assert opened.service.verify(code).outcome is Outcome.DISABLED
        assert all(record.genuine for record in opened.audit.newest(99))


def test_a_store_is_opened_by_its_own_key_only(
    settings: Settings, other_keys: RsaKeys, tmp_path: Path
) -> None:
    """Another key is refused, and the store opens again with its own."""
    from otpseal.adapters.file_keys import write_key_pair

    with open_service(settings) as opened:
        opened.service.import_seed(A, source="sealed")
    other_file = tmp_path / "other_private.pem"
    write_key_pair(other_keys._private_key, other_file)
    other = settings.model_copy(update={"key_file": other_file})

    with pytest.raises(StoreMismatch, match=other_keys.kid), open_service(other):
        pass

    with open_service(settings) as opened:
        assert opened.service.account() is not None


def test_a_store_without_its_key_is_never_rekeyed(settings: Settings) -> None:
    """If the key is gone, no new one is made: the store is refused as it is."""
    assert settings.key_file is not None
    with open_service(settings) as opened:
        opened.service.import_seed(A, source="sealed")
    away = settings.key_file.rename(settings.key_file.with_name("away"))

    told = pytest.raises(KeyUnavailable, match="a new key does not open this store")
    with told, open_service(settings):
        pass

    assert not settings.key_file.exists()
    away.rename(settings.key_file)
    with open_service(settings) as opened:
        assert opened.service.account() is not None


def test_a_store_whose_record_is_gone_is_refused(settings: Settings) -> None:
    """Seeds without a key record get no new record: they could never be read."""
    with open_service(settings) as opened:
        opened.service.import_seed(A, source="sealed")
    change(settings.data_dir / "otpseal.db", "DELETE FROM storage_keys")

    with pytest.raises(StoreMismatch, match="backup"), open_service(settings):
        pass


class Forger:
    """Whoever knows the public key and can write the database."""

    def __init__(self, victim: RsaKeys, own: RsaKeys) -> None:
        self.kid = victim.kid
        self.public_key = victim.public_key
        self.oaep_decrypt = own.oaep_decrypt
        self.pss_sign = own.pss_sign


def test_a_planted_storage_key_is_refused(
    settings: Settings, service_keys: RsaKeys, other_keys: RsaKeys
) -> None:
    """A storage key wrapped for the service, but signed by a stranger, plants nothing.

    Negative control: the same record signed by the service's own key is accepted.
    """
    with open_service(settings) as opened:
        opened.service.import_seed(A, source="sealed")
    own_key = StorageKey(Secret(b"!" * 32))
    forged = own_key.wrap(Forger(service_keys, other_keys))
    path = settings.data_dir / "otpseal.db"
    change(path, "UPDATE storage_keys SET record = ?", forged)

    with pytest.raises(StoreMismatch, match="not made by this private key"):
        open_service(settings).__enter__()

    change(path, "UPDATE storage_keys SET record = ?", own_key.wrap(service_keys))
    with open_service(settings) as opened, pytest.raises(SeedUnreadable):
        opened.service.show_code()


def test_a_plaintext_seed_file_is_adopted_once(
    settings: Settings, clock: Clock
) -> None:
    """An old deployment's seed.txt is imported, destroyed, and written down."""
    settings.data_dir.mkdir()
    path = settings.data_dir / "seed.txt"
    path.write_text(A.reveal().hex() + "\n")
    held = path.open("rb")  # shows what became of the bytes themselves

    with held, open_service(settings, clock=clock) as opened:
        code = right_code(opened.service)
        assert opened.service.verify(code).outcome is Outcome.ACCEPTED
        kinds = [record.row.kind for record in opened.audit.newest(9)]
        assert held.read() == b"\0" * 65

    assert kinds[1:3] == ["seed.imported", "seed.file-removed"]
    assert not path.exists()


@pytest.mark.parametrize("text", [b"", b"no seed", b"0" * 63, b"0" * 65])
def test_a_bad_seed_file_is_left_alone(settings: Settings, text: bytes) -> None:
    """What is no seed is neither imported nor destroyed, and hinders nothing."""
    settings.data_dir.mkdir()
    path = settings.data_dir / "seed.txt"
    path.write_bytes(text)

    with open_service(settings) as opened:
        assert opened.service.account() is None

    assert text == path.read_bytes()


def test_another_seed_file_is_left_alone(settings: Settings) -> None:
    """A seed.txt that contradicts the store changes no seed and is not destroyed."""
    with open_service(settings) as opened:
        opened.service.import_seed(B, source="sealed")
    path = settings.data_dir / "seed.txt"
    path.write_text(A.reveal().hex())

    with open_service(settings) as opened:
        code = right_code(opened.service, B)
        assert opened.service.verify(code).outcome is Outcome.ACCEPTED

    assert A.reveal().hex() == path.read_text()


_START = """
import sys
from otpseal import Settings, open_service, totp
from otpseal.errors import StoreUnavailable
from otpseal.secret import Secret

print("ready")
sys.stdin.readline()
now = 1_800_000_000.0
with open_service(Settings(data_dir=sys.argv[1]), clock=lambda: now) as opened:
    seed = Secret(b"a" * 32)
    imported = opened.service.import_seed(seed, source="sealed")
    code = totp.generate(seed, now).text
    while True:
        try:
            decision = opened.service.verify(code)
            break
        except StoreUnavailable:  # the others' start took its time: nothing was decided
            continue
    print(opened.keys.kid, imported.name, decision.outcome.name)
"""


@pytest.mark.torture
@pytest.mark.parametrize("number", rounds(1, full=50))
def test_eight_processes_start_at_once(tmp_path: Path, number: int) -> None:
    """On an empty directory: one key, one schema, one import, one acceptance."""
    command = [sys.executable, "-u", "-c", _START, str(tmp_path / "data")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(8)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"

    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].split() for process in processes]

    assert [0] * 8 == [process.returncode for process in processes]
    assert len({kid for kid, _, _ in answers}) == 1
    assert sorted(imported for _, imported, _ in answers) == ["NEW", *["REPEATED"] * 7]
    assert sorted(outcome for _, _, outcome in answers) == [
        "ACCEPTED",
        *["REPLAYED"] * 7,
    ]
    with sqlite3.connect(tmp_path / "data" / "otpseal.db") as connection:
        created = "SELECT count(*) FROM audit_events WHERE kind = 'store.created'"
        assert connection.execute(created).fetchone() == (1,)
        versions = connection.execute("SELECT count(*) FROM alembic_version")
        assert versions.fetchone() == (1,)
    connection.close()


_ADOPT = """
import sys
from pathlib import Path
from otpseal import Settings, open_service
print("ready", flush=True)
sys.stdin.readline()
with open_service(Settings(data_dir=Path(sys.argv[1]))):
    pass
"""


def test_processes_that_start_beside_a_seed_file_all_start(settings: Settings) -> None:
    """One of them adopts and destroys it; the others go on without it."""
    with open_service(settings):
        pass
    (settings.data_dir / "seed.txt").write_text("a1" * 32)
    command = [sys.executable, "-u", "-c", _ADOPT, str(settings.data_dir)]
    environment = {**os.environ, "OTPSEAL_KEY_FILE": str(settings.key_file)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(6)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"

    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)

    assert [0] * 6 == [process.returncode for process in processes]
    assert not (settings.data_dir / "seed.txt").exists()
    with open_service(settings) as opened:
        assert opened.service.account() is not None


def test_repeated_imports_are_counted_without_a_commit_each(
    settings: Settings, clock: Clock
) -> None:
    """The first is an event at once, the rest of the minute one event with a count."""
    with open_service(settings, clock=clock) as opened:
        for _ in range(6):
            opened.service.import_seed(A, source="sealed")
        written = settings.data_dir / "otpseal.db"
        before = written.read_bytes()
        opened.service.import_seed(A, source="sealed")
        assert before == written.read_bytes()

        clock.turn(61)
        opened.service.upkeep.settle()

        records = opened.audit.newest(10, kind=Kind.SEED_REPEATED.value)
        assert ['{"count":1}', '{"count":5}'] == [r.row.detail for r in records]


def test_counts_that_cannot_be_written_are_counted_on(
    settings: Settings, clock: Clock
) -> None:
    """A minute in which the database is locked loses none of them."""
    with open_service(settings, clock=clock) as opened:
        for _ in range(6):
            opened.service.import_seed(A, source="sealed")
        clock.turn(61)
        other = sqlite3.connect(settings.data_dir / "otpseal.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable):
            opened.service.upkeep.settle()
        other.execute("ROLLBACK")
        other.close()

        opened.service.upkeep.settle()

        records = opened.audit.newest(10, kind=Kind.SEED_REPEATED.value)
        assert ['{"count":1}', '{"count":4}'] == [r.row.detail for r in records]


def test_a_key_that_was_taken_away_makes_no_store(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded before its maker failed and removed it, it is made anew, on the disk."""
    from otpseal import key_source, unlocking

    load = key_source.load_keys

    def load_and_lose(path: Path, passphrase: bytes | None = None) -> RsaKeys:
        keys = load(path, passphrase)
        path.unlink()
        path.with_name("student_public.pem").unlink(missing_ok=True)
        return keys

    monkeypatch.setattr(key_source, "load_keys", load_and_lose)
    monkeypatch.setattr(unlocking, "restore_public_half", lambda *_: None)
    with open_service(settings) as opened:
        kid = opened.keys.kid
    monkeypatch.undo()

    with open_service(settings) as opened:
        assert kid == opened.keys.kid


def test_seeds_without_a_sender_can_be_switched_off(
    settings: Settings, service_keys: RsaKeys
) -> None:
    """OTPSEAL_ACCEPT_SUITES without `classic`: a sealed seed is refused unopened."""
    off = settings.model_copy(update={"accept_suites": (Suite.V1, Suite.PQ)})
    sealed = envelope.seal(Secret(b"s" * 32), service_keys.public_key)

    with open_service(off) as opened:
        with pytest.raises(SuiteRefused, match="OTPSEAL_ACCEPT_SUITES"):
            opened.service.import_sealed(sealed)
        assert opened.service.account() is None
