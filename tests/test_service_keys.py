"""otpseal.service_keys: private keys that rest in the store."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from conftest import TurnedClock
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey

from otpseal.errors import SeedUnreadable, StoreUnavailable
from otpseal.ports import Store, Transaction
from otpseal.secret import Secret
from otpseal.service_keys import ServiceKeys
from otpseal.storage_key import StorageKey


@pytest.fixture
def storage_key() -> StorageKey:
    """A storage key."""
    return StorageKey.generate()


def test_the_receipt_key_is_made_once(
    store: Store, storage_key: StorageKey, clock: TurnedClock
) -> None:
    """Processes that need it at once get the same one; it is made once, and told."""
    found: list[str] = []

    def need() -> None:
        found.append(ServiceKeys(store, storage_key, clock).receipt_key()[0])

    threads = [threading.Thread(target=need) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with store.transaction() as tx:
        rows, events = tx.service_keys("sig"), tx.newest_events(10)
    assert 4 * [rows[0].kid] == found
    assert 1 == len(rows)
    assert ["key.made"] == [event.kind for event in events]


def test_the_receipt_key_survives(
    store: Store, storage_key: StorageKey, clock: TurnedClock
) -> None:
    """Another process signs with the very same private key, named by RFC 7638."""
    kid, key = ServiceKeys(store, storage_key, clock).receipt_key()

    again = ServiceKeys(store, storage_key, clock).receipt_key()

    assert (kid, key.private_bytes_raw()) == (again[0], again[1].private_bytes_raw())
    assert OKPKey.import_key(key.public_key()).thumbprint() == kid


def test_the_private_half_rests_encrypted(
    store: Store, storage_key: StorageKey, clock: TurnedClock
) -> None:
    """The row does not hold the private key."""
    kid, key = ServiceKeys(store, storage_key, clock).receipt_key()

    with store.transaction() as tx:
        (row,) = tx.service_keys()
    assert key.private_bytes_raw() not in row.sealed
    assert kid == row.kid


def test_another_storage_key_opens_nothing(
    store: Store, storage_key: StorageKey, clock: TurnedClock
) -> None:
    """A key that does not decrypt is an error, and not a reason to make another."""
    ServiceKeys(store, storage_key, clock).receipt_key()

    with pytest.raises(SeedUnreadable):
        ServiceKeys(store, StorageKey.generate(), clock).receipt_key()


@pytest.mark.parametrize(
    ("purpose", "name"), [("recovery", "kid"), ("receipt", "kie"), ("receip", "tkid")]
)
def test_a_secret_is_bound_to_its_place(
    storage_key: StorageKey, purpose: str, name: str
) -> None:
    """A sealed secret opens for its own use and kid, and for no other."""
    secret = Ed25519PrivateKey.generate().private_bytes_raw()
    sealed = storage_key.seal_secret(Secret(secret), "receipt", "kid")

    assert secret == storage_key.open_secret(sealed, "receipt", "kid").reveal()
    with pytest.raises(SeedUnreadable):
        storage_key.open_secret(sealed, purpose, name)


@pytest.mark.parametrize("damage", [b"", b"\x01", b"\x02" + bytes(60), bytes(61)])
def test_a_damaged_secret_is_refused(storage_key: StorageKey, damage: bytes) -> None:
    """Cut short, of another version or altered: refused by the one error."""
    with pytest.raises(SeedUnreadable):
        storage_key.open_secret(damage, "receipt", "kid")


def test_a_planted_public_key_is_not_published(
    store: Store, storage_key: StorageKey, clock: TurnedClock
) -> None:
    """A row that the database's writer put there under a name of his own."""
    own = ServiceKeys(store, storage_key, clock)
    kid, key = own.receipt_key()
    with store.transaction() as tx:
        (row,) = tx.service_keys()
        tx.add_service_key(replace(row, kid="his"))

    (jwk,) = own.receipt_jwks()

    assert kid == jwk["kid"]
    assert key.public_key() == OKPKey.import_key(jwk).public_key


class FailsOnce:
    """A store whose first commit fails."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failed = False

    @contextlib.contextmanager
    def transaction(self, **options: Any) -> Iterator[Transaction]:  # noqa: ANN401
        """Take everything back at the first end."""
        with self._store.transaction(**options) as tx:
            yield tx
            if not self._failed:
                self._failed = True
                raise StoreUnavailable("the disk is full")

    def close(self) -> None:
        """See `otpseal.ports.Store`."""


def test_what_did_not_become_durable_signs_nothing(
    store: Store, storage_key: StorageKey, clock: TurnedClock
) -> None:
    """A commit that fails leaves no key behind in the process."""
    own = ServiceKeys(FailsOnce(store), storage_key, clock)
    with pytest.raises(StoreUnavailable):
        own.receipt_key()

    kid, _ = own.receipt_key()

    with store.transaction() as tx:
        assert [kid] == [row.kid for row in tx.service_keys("sig")]


def test_a_pq_key_that_does_not_open_is_not_replaced(
    store: Store, storage_key: StorageKey, clock: TurnedClock
) -> None:
    """It is an error, and nothing else is published in its place."""
    ServiceKeys(store, storage_key, clock).pq_jwks()

    with pytest.raises(SeedUnreadable):
        ServiceKeys(store, StorageKey.generate(), clock).pq_jwks()


def test_the_pq_key_that_is_sealed_to_is_the_published_one(
    store: Store, storage_key: StorageKey, clock: TurnedClock
) -> None:
    """The first is made when it is asked for; then it stays, and opens."""
    made = ServiceKeys(store, storage_key, clock).pq_import_key()

    own = ServiceKeys(store, storage_key, clock)
    (jwk,) = own.pq_jwks()
    assert made == own.pq_import_key()
    assert (made.kid, made.jwk["pub"]) == (jwk["kid"], jwk["pub"])
    opening = own.pq_key(made.kid)
    assert opening is not None
    assert made == opening.public_key
