"""The service's own private keys: made when first needed, kept sealed in the store.

One signs receipts (Ed25519), one opens envelopes of the suite pq. They rest under the
storage key, bound to their use and kid, so that they live wherever the store does and
need no files of their own.
"""

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from otpseal import public_jwk
from otpseal.audit import Event, Kind
from otpseal.errors import SeedUnreadable
from otpseal.ledger import Ledger
from otpseal.ports import Clock, Store, Transaction
from otpseal.ports_keys import ServiceKeyRow
from otpseal.pq_keys import SEED_BYTES, ImportKey, ImportPublicKey
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey

T = TypeVar("T")
Jwk = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Use(Generic[T]):
    """What a key is for.

    Attributes:
        name: as it stands in the row.
        new: makes the bytes that a key is made of.
        load: makes the key of them.
        jwk: its public half, with `kid` and `use`.
    """

    name: str
    new: Callable[[], bytes]
    load: Callable[[bytes], T]
    jwk: Callable[[T], Jwk]


class ServiceKeys:
    """Gives the service's own keys.

    Args:
        store: durable state.
        storage_key: what protects the keys at rest.
        clock: gives the Unix time.
    """

    def __init__(self, store: Store, storage_key: StorageKey, clock: Clock) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock
        self._receipts: tuple[str, Ed25519PrivateKey] | None = None
        self._pq: dict[str, ImportKey] = {}

    def receipt_key(self) -> tuple[str, Ed25519PrivateKey]:
        """Return the kid and the key that signs receipts; makes it if there is none.

        Raises:
            SeedUnreadable: what rests in the store does not open.
            StoreUnavailable: there is no key.
        """
        if self._receipts is None:
            with self._store.transaction() as tx:
                found = self._newest(tx, RECEIPTS)
            # Only now: what did not become durable must not sign.
            self._receipts = found
        return self._receipts

    def pq_key(self, kid: str) -> ImportKey | None:
        """Return the import key of the suite pq of that kid, or None.

        Raises:
            SeedUnreadable: what rests in the store does not open.
            StoreUnavailable: nobody knows.
        """
        if kid not in self._pq:
            with self._store.transaction(shared=True) as tx:
                for row in tx.service_keys(PQ.name):
                    if row.kid == kid:
                        self._pq[kid] = self._opened(row, PQ)
        return self._pq.get(kid)

    def pq_import_key(self) -> ImportPublicKey:
        """Return the public key that seeds are to be sealed to; makes a first one.

        Raises:
            SeedUnreadable: what rests in the store does not open.
            StoreUnavailable: there is no key.
        """
        with self._store.transaction() as tx:
            _, key = self._newest(tx, PQ)
        return key.public_key

    def receipt_jwks(self) -> list[Jwk]:
        """Return the public halves that receipts verify by; none before the first."""
        with self._store.transaction(shared=True) as tx:
            return self._published(tx, RECEIPTS)

    def pq_jwks(self) -> list[Jwk]:
        """Return what envelopes of the suite pq are sealed to; makes a first key."""
        with self._store.transaction(shared=True) as tx:
            found = self._published(tx, PQ)
        if found:
            return found
        with self._store.transaction() as tx:
            _, key = self._newest(tx, PQ)
        return [PQ.jwk(key)]

    def _published(self, tx: Transaction, use: _Use[T]) -> list[Jwk]:
        # Made of private halves that open: whoever can write the database must not
        # publish a key of his own, and read what is sealed to it.
        found = []
        for row in tx.service_keys(use.name):
            with contextlib.suppress(SeedUnreadable):
                found.append(use.jwk(self._opened(row, use)))
        return found

    # Opened within the transaction: the storage key may be replaced after it.

    def _newest(self, tx: Transaction, use: _Use[T]) -> tuple[str, T]:
        rows = tx.service_keys(use.name)
        row = rows[-1] if rows else self._made(tx, use)
        return row.kid, self._opened(row, use)

    def _made(self, tx: Transaction, use: _Use[T]) -> ServiceKeyRow:
        raw = use.new()
        kid = use.jwk(use.load(raw))["kid"]
        sealed = self._storage_key.seal_secret(Secret(raw), use.name, kid)
        now = self._clock()
        row = ServiceKeyRow(kid, use.name, sealed, now)
        tx.add_service_key(row)
        event = Event(Kind.KEY_MADE, now, detail={"use": use.name, "kid": kid})
        Ledger(tx, self._storage_key).record(event)
        return row

    def _opened(self, row: ServiceKeyRow, use: _Use[T]) -> T:
        secret = self._storage_key.open_secret(row.sealed, use.name, row.kid)
        return use.load(secret.reveal())


def _receipt_jwk(key: Ed25519PrivateKey) -> Jwk:
    public = key.public_key()
    named = {"kid": public_jwk.thumbprint(public), "use": "sig", "alg": "Ed25519"}
    return {**public_jwk.canonical(public), **named}


def _pq_jwk(key: ImportKey) -> Jwk:
    return {**key.public_key.jwk, "kid": key.kid, "use": "enc"}


RECEIPTS: Final = _Use(
    "sig",
    lambda: Ed25519PrivateKey.generate().private_bytes_raw(),
    Ed25519PrivateKey.from_private_bytes,
    _receipt_jwk,
)
PQ: Final = _Use(
    "pq",
    lambda: secrets.token_bytes(SEED_BYTES),
    lambda raw: ImportKey(Secret(raw)),
    _pq_jwk,
)
