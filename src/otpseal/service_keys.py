"""The service's own signing key, for receipts: made when first needed, kept sealed.

It rests in the store under the storage key, so that it lives wherever the store does
and needs no file of its own.
"""

import contextlib
import json
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from joserfc.jwk import OKPKey

from otpseal.audit import Event, Kind
from otpseal.errors import SeedUnreadable
from otpseal.ledger import Ledger
from otpseal.ports import Clock, Store, Transaction
from otpseal.ports_keys import ServiceKeyRow
from otpseal.receipt import signing_kid
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey

RECEIPTS: Final = "sig"
_ACTIVE: Final = "active"


class ServiceKeys:
    """Gives the key that signs receipts.

    Args:
        store: durable state.
        storage_key: what protects the key at rest.
        clock: gives the Unix time.
    """

    def __init__(self, store: Store, storage_key: StorageKey, clock: Clock) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock
        self._found: tuple[str, Ed25519PrivateKey] | None = None

    def receipt_key(self) -> tuple[str, Ed25519PrivateKey]:
        """Return the kid and the key; makes them in a store that has none.

        Raises:
            SeedUnreadable: what rests in the store does not open.
            StoreUnavailable: there is no key.
        """
        if self._found is None:
            # Opened in the transaction: the storage key may be replaced after it.
            with self._store.transaction() as tx:
                row = self._newest(tx) or self._made(tx)
                self._found = row.kid, self._opened(row)
        return self._found

    def public_jwks(self) -> list[dict[str, object]]:
        """Return the public halves that receipts verify by, each a JWK.

        Of keys whose private half opens, and made of it: whoever can write the
        database must not publish a key of his own.
        """
        found = []
        with self._store.transaction(shared=True) as tx:
            for row in tx.service_keys(RECEIPTS):
                with contextlib.suppress(SeedUnreadable):
                    public = self._opened(row).public_key()
                    found.append(json.loads(_public_jwk(public, row.kid)))
        return found

    def _newest(self, tx: Transaction) -> ServiceKeyRow | None:
        rows = [row for row in tx.service_keys(RECEIPTS) if row.state == _ACTIVE]
        return rows[-1] if rows else None

    def _made(self, tx: Transaction) -> ServiceKeyRow:
        key = Ed25519PrivateKey.generate()
        kid = signing_kid(key.public_key())
        now = self._clock()
        sealed = self._storage_key.seal_secret(
            Secret(key.private_bytes_raw()), RECEIPTS, kid
        )
        row = ServiceKeyRow(
            kid, RECEIPTS, _ACTIVE, _public_jwk(key.public_key(), kid), sealed, now
        )
        tx.add_service_key(row)
        event = Event(Kind.KEY_MADE, now, detail={"use": RECEIPTS, "kid": kid})
        Ledger(tx, self._storage_key).record(event)
        return row

    def _opened(self, row: ServiceKeyRow) -> Ed25519PrivateKey:
        secret = self._storage_key.open_secret(row.sealed, RECEIPTS, row.kid)
        return Ed25519PrivateKey.from_private_bytes(secret.reveal())


def _public_jwk(key: Ed25519PublicKey, kid: str) -> str:
    public = OKPKey.import_key(key).as_dict(private=False)
    jwk = {**public, "kid": kid, "use": RECEIPTS, "alg": "Ed25519"}
    return json.dumps(jwk, sort_keys=True, separators=(",", ":"))
