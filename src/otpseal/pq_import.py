"""The service's import key of the suite pq: made when first asked for, kept sealed.

It rests in the store under the storage key, beside the key that signs receipts: 32
bytes from which the whole key is made.
"""

import contextlib
import json
import secrets
from typing import Final

from otpseal.audit import Event, Kind
from otpseal.errors import SeedUnreadable
from otpseal.ledger import Ledger
from otpseal.ports import Clock, Store, Transaction
from otpseal.ports_keys import ServiceKeyRow
from otpseal.pq_keys import SEED_BYTES, ImportKey
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey

USE: Final = "pq"
_ACTIVE: Final = "active"


class PqImportKeys:
    """Gives the key that pq envelopes are sealed to.

    Args:
        store: durable state.
        storage_key: what protects the key at rest.
        clock: gives the Unix time.
    """

    def __init__(self, store: Store, storage_key: StorageKey, clock: Clock) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock
        self._opened: dict[str, ImportKey] = {}

    def unwrap(self, kid: str) -> ImportKey | None:
        """Return the key of a kid, or None.

        Raises:
            SeedUnreadable: what rests in the store does not open.
            StoreUnavailable: nobody knows.
        """
        if kid not in self._opened:
            with self._store.transaction(shared=True) as tx:
                for row in tx.service_keys(USE):
                    if row.kid == kid and row.state == _ACTIVE:
                        self._opened[kid] = self._open(row)
        return self._opened.get(kid)

    def public_jwks(self) -> list[dict[str, object]]:
        """Return the public half as a JWK; makes the key in a store that has none.

        Made of the private half: whoever can write the database must not publish a
        key of his own, and read what is sealed to it.
        """
        with self._store.transaction(shared=True) as tx:
            keys = self._active(tx)
        if not keys:
            with self._store.transaction() as tx:
                keys = self._active(tx) or [self._made(tx)]
        return [_jwk(key) for key in keys]

    def _active(self, tx: Transaction) -> list[ImportKey]:
        # Opened in the transaction: the storage key may be replaced after it.
        found = []
        for row in tx.service_keys(USE):
            with contextlib.suppress(SeedUnreadable):
                if row.state == _ACTIVE:
                    found.append(self._open(row))
        return found

    def _made(self, tx: Transaction) -> ImportKey:
        key = ImportKey(Secret(secrets.token_bytes(SEED_BYTES)))
        now = self._clock()
        row = ServiceKeyRow(
            kid=key.kid,
            use=USE,
            state=_ACTIVE,
            public=json.dumps(_jwk(key), sort_keys=True, separators=(",", ":")),
            sealed=self._storage_key.seal_secret(key.seed, USE, key.kid),
            made_at=now,
        )
        tx.add_service_key(row)
        event = Event(Kind.KEY_MADE, now, detail={"use": USE, "kid": key.kid})
        Ledger(tx, self._storage_key).record(event)
        return key

    def _open(self, row: ServiceKeyRow) -> ImportKey:
        return ImportKey(self._storage_key.open_secret(row.sealed, USE, row.kid))


def _jwk(key: ImportKey) -> dict[str, object]:
    return {**key.public_key.jwk, "kid": key.kid, "use": "enc"}
