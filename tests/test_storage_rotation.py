"""otpseal.storage_rotation: a storage key that leaked opens nothing any more."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from conftest import TurnedClock
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from keys_fixture import opened_at, seed_of
from server_fixture import code_at

from otpseal.adapters.file_keys import RsaKeys
from otpseal.attempt import Attempt, Purpose
from otpseal.config import Settings
from otpseal.errors import SeedUnreadable, StoreMismatch
from otpseal.key_lifecycle import KeyTable
from otpseal.key_records import ImportKeyRow, KeyState
from otpseal.key_watch import STORAGE_KEY_MARK
from otpseal.ledger import AuditLog
from otpseal.ports import Store
from otpseal.recovery import parse
from otpseal.secret import Secret
from otpseal.seed_keeping import NewSeed, SeedKeeper
from otpseal.service import Imported, Service
from otpseal.storage_key import StorageKey
from otpseal.storage_rotation import StorageRotation
from otpseal.trust_book import TrustBook
from otpseal.verification import Outcome
from otpseal.wiring import open_service
from otpseal.wiring_admin import make_storage_rotation


@dataclass
class Shop:
    """A service over a store, and its storage key."""

    store: Store
    keys: RsaKeys
    storage_key: StorageKey
    clock: TurnedClock

    def service(self, storage_key: StorageKey | None = None) -> Service:
        """Return the service, as a process with that storage key has it."""
        return Service(
            self.store,
            keys=self.keys,
            storage_key=storage_key or self.storage_key,
            clock=self.clock,
        )

    def record(self) -> bytes:
        """Return the storage key's record."""
        with self.store.transaction() as tx:
            record = tx.storage_key_record()
        assert record is not None
        return record

    def rotation(self) -> StorageRotation:
        """Return what replaces the storage key."""
        return StorageRotation(self.store, self.storage_key, self.keys, self.clock)

    def restarted(self) -> tuple[Service, StorageKey]:
        """Return the service as a process that starts now has it."""
        storage_key = StorageKey.unwrap(self.record(), self.keys)
        return self.service(storage_key), storage_key


@pytest.fixture
def shop(store: Store, clock: TurnedClock, service_keys: RsaKeys) -> Iterator[Shop]:
    """A service with two seeds."""
    storage_key = StorageKey.generate()
    with store.transaction() as tx:
        tx.set_storage_key_record(storage_key.wrap(service_keys))
    shop = Shop(store, service_keys, storage_key, clock)
    for number, name in enumerate(("a", "b"), start=1):
        shop.service().import_seed(seed_of(number), source="sealed", account=name)
    return shop


def test_everything_is_there_under_the_new_key(shop: Shop) -> None:
    """Seeds open, events and pins are genuine, own keys and import keys hold."""
    kid, signing = shop.service().own_keys.receipt_key()
    pem = Ed25519PrivateKey.generate().public_key()
    book = TrustBook(shop.store, shop.storage_key, shop.clock)
    book.add("hq", pem.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with shop.store.transaction() as tx:
        row = ImportKeyRow("next", KeyState.NEXT, "{}", 1.0)
        KeyTable(tx, shop.storage_key).put(row)

    done = shop.rotation().replace()

    service, storage_key = shop.restarted()
    assert (2, 1, 0, []) == (done.accounts, done.own_keys, done.altered, [])
    for number, name in enumerate(("a", "b"), start=1):
        row_now = service.account(name)
        assert row_now is not None
        assert seed_of(number).reveal() == row_now.open_seed(storage_key).reveal()
    records = AuditLog(shop.store, storage_key, shop.clock).newest(100)
    assert all(record.genuine for record in records)
    assert "storage-key.replaced" == records[-1].row.kind
    own = service.own_keys.receipt_key()
    assert (kid, signing.private_bytes_raw()) == (own[0], own[1].private_bytes_raw())
    pins = TrustBook(shop.store, storage_key, shop.clock).all()
    assert [("hq", True)] == [(pin.authority.name, pin.genuine) for pin in pins]
    with shop.store.transaction() as tx:
        assert {"next"} == set(KeyTable(tx, storage_key).lives.rows)


def test_the_old_storage_key_opens_nothing(shop: Shop) -> None:
    """A canary: who has an old backup's storage key reads neither old nor new seeds.

    Nor does an event that he writes look genuine.
    """
    old = StorageKey.unwrap(shop.record(), shop.keys)
    shop.service().own_keys.receipt_key()

    shop.rotation().replace()

    service, storage_key = shop.restarted()
    service.import_seed(seed_of(9), source="sealed", account="new")
    for name in ("a", "b", "new"):
        row = service.account(name)
        assert row is not None
        with pytest.raises(SeedUnreadable):
            row.open_seed(old)
    with shop.store.transaction() as tx:
        (own,) = tx.service_keys()
    with pytest.raises(SeedUnreadable):
        old.open_secret(own.sealed, own.use, own.kid)
    assert old.authenticate(b"event") != storage_key.authenticate(b"event")
    assert old.backup_mac().digest() != storage_key.backup_mac().digest()
    assert old.import_key_mac(b"row") != storage_key.import_key_mac(b"row")
    assert old.trust_mac(b"row") != storage_key.trust_mac(b"row")
    assert old.dummy_seed("x").reveal() != storage_key.dummy_seed("x").reveal()


def test_what_is_one_way_goes_on(shop: Shop) -> None:
    """One seed has one account, spent stays spent, recovery codes stay right."""
    service = shop.service()
    code = code_at(shop.clock(), seed_of(1))
    assert Outcome.ACCEPTED is service.verify(code, "a").outcome
    (recovery, *_others) = service.accounts.make_recovery_codes("b")
    service.accounts.delete("a")

    shop.rotation().replace()

    after, _ = shop.restarted()
    assert Imported.NEW is after.import_seed(seed_of(1), source="sealed", account="c")
    assert Outcome.REPLAYED is after.verify(code, "c").outcome
    repeated = after.import_seed(seed_of(2), source="sealed", account="b")
    assert Imported.REPEATED is repeated
    attempt = Attempt(parse(recovery) or "", "b", purpose=Purpose.RECOVER)
    assert Outcome.ACCEPTED is after.decide(attempt).outcome


def test_recovery_codes_can_be_voided(shop: Shop) -> None:
    """All of them, and told how many; who has the old key can't make one either."""
    shop.service().accounts.make_recovery_codes("b")
    old = StorageKey.unwrap(shop.record(), shop.keys)

    done = shop.rotation().replace(void_recovery=True)

    _, storage_key = shop.restarted()
    assert 10 == done.recovery_void
    with shop.store.transaction() as tx:
        assert set() == tx.recovery_digests(["b"])
    digests = {key.recovery_digest("b", b"code") for key in (old, storage_key)}
    assert 2 == len(digests)


def test_what_was_altered_stays_recognisable(shop: Shop) -> None:
    """A forged event and a damaged seed are not made genuine by the new key."""
    with shop.store.transaction() as tx:
        (event, *_) = tx.newest_events(10)
        tx.append_events([replace(event, account="forged")])
        row = tx.accounts(["a"])["a"]
        tx.put_account(replace(row, sealed_seed=row.sealed_seed[:-1] + b"?"))

    done = shop.rotation().replace()

    service, storage_key = shop.restarted()
    records = AuditLog(shop.store, storage_key, shop.clock).newest(100)
    assert ["forged"] == [r.row.account for r in records if not r.genuine]
    assert (1, ["a"], 1) == (done.accounts, done.unreadable, done.altered)
    damaged = service.account("a")
    assert damaged is not None
    with pytest.raises(SeedUnreadable):
        damaged.open_seed(storage_key)


def test_a_failure_on_the_way_changes_nothing(shop: Shop) -> None:
    """One transaction: the store is as it was, under the old key."""
    before = shop.record()

    def fail(_count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.rotation().replace(told=fail)

    assert before == shop.record()
    for name in ("a", "b"):
        row = shop.service().account(name)
        assert row is not None
        row.open_seed(shop.storage_key)


def test_more_rows_than_one_chunk(shop: Shop) -> None:
    """Every page of a long list is gone through."""
    service = shop.service()
    for number in range(1100):
        seed = Secret(number.to_bytes(32, "big"))
        with shop.store.transaction() as tx:
            SeedKeeper(tx, shop.storage_key).add(NewSeed(f"n{number:04}", seed), 1.0)
    told: list[int] = []

    done = shop.rotation().replace(told=told.append)

    after, storage_key = shop.restarted()
    last = after.account("n1099")
    assert last is not None
    last.open_seed(storage_key)
    assert 1102 == done.accounts
    assert sorted(told) == told
    assert service is not after


def test_a_second_replacement(shop: Shop) -> None:
    """What was kept is kept again, and only the newest key opens."""
    shop.rotation().replace()
    _, second = shop.restarted()
    StorageRotation(shop.store, second, shop.keys, shop.clock).replace()

    after, third = shop.restarted()

    row = after.account("a")
    assert row is not None
    assert seed_of(1).reveal() == row.open_seed(third).reveal()
    with pytest.raises(SeedUnreadable):
        row.open_seed(second)
    assert shop.storage_key.fingerprint(seed_of(1)) == third.fingerprint(seed_of(1))
    with shop.store.transaction() as tx:
        assert 2 == tx.mark(STORAGE_KEY_MARK)


def _replaced_elsewhere(settings: Settings, clock: TurnedClock) -> None:
    with opened_at(settings, clock) as other:
        make_storage_rotation(other, clock=clock).replace()


def test_a_running_service_goes_on(settings: Settings, clock: TurnedClock) -> None:
    """It takes the new key before it decides: accounts, strangers, events, imports."""
    with opened_at(settings, clock) as opened:
        service = opened.service
        service.import_seed(seed_of(1), source="sealed", account="a")
        old = StorageKey.unwrap(_record(opened.store), opened.keys)

        _replaced_elsewhere(settings, clock)

        code = code_at(clock(), seed_of(1))
        assert Outcome.ACCEPTED is service.verify(code, "a").outcome
        assert Outcome.REPLAYED is service.verify(code, "a").outcome
        service.import_seed(seed_of(2), source="sealed", account="b")
        row = service.account("b")
        assert row is not None
        with pytest.raises(SeedUnreadable):
            row.open_seed(old)
        assert seed_of(2).reveal() == row.open_seed(opened.storage_key).reveal()
        assert all(record.genuine for record in opened.audit.newest(100))


def test_attempts_on_unknown_accounts_go_on(
    settings: Settings, clock: TurnedClock
) -> None:
    """What stands in for an unknown account's seed is of the new key, too."""
    with opened_at(settings, clock) as opened:
        subjects = opened.service._decider.subjects
        subjects.stranger("nobody", clock())
        _replaced_elsewhere(settings, clock)
        opened.service.account("a")

        subject = subjects.stranger("nobody", clock())

    assert not subject.account.known


def test_a_command_that_sealed_before_ends(
    settings: Settings, clock: TurnedClock
) -> None:
    """What it sealed under the old key never comes into the store."""
    with open_service(settings, clock=clock, one_shot=True) as opened:
        _replaced_elsewhere(settings, clock)

        with (
            pytest.raises(StoreMismatch, match="run it again"),
            opened.store.transaction() as tx,
        ):
            tx.set_mark("never", 1)


def _record(store: Store) -> bytes:
    with store.transaction() as tx:
        record = tx.storage_key_record()
    assert record is not None
    return record


def test_the_command(settings: Settings, clock: TurnedClock) -> None:
    """`keys rotate --storage` says what it did, and shows no key."""
    with opened_at(settings, clock) as opened:
        opened.service.import_seed(seed_of(1), source="sealed", account="a")

    ran = subprocess.run(
        [
            *(sys.executable, "-m", "otpseal", "keys", "rotate", "--storage"),
            *("--data-dir", settings.data_dir, "--key-file", str(settings.key_file)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == ran.returncode, ran.stderr
    assert [
        "the storage key was replaced",
        "encrypted anew: 1 seeds, 0 own keys",
    ] == ran.stdout.splitlines()[:2]
