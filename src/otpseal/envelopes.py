"""Sealed seeds whose sender is known: from an envelope to an account.

Only authorities that this service has pinned are believed, and only about accounts
behind their fence. What fails before a pinned authority's signature is known to be
good is one error, and one count in the audit log; what fails after it says why,
because only that authority, or who repeats its envelope, can cause it.

The receipt of an envelope that was accepted is given again to whoever has the envelope,
as long as its id is remembered: its caller may have died before he had the answer.

What an accepted envelope does to an account is `otpseal.envelope_acceptance`'s.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from otpseal import receipt
from otpseal.access import Scope
from otpseal.audit import NO_ACCOUNT, Kind
from otpseal.callers import enter
from otpseal.envelope_acceptance import Acceptance, Brought
from otpseal.errors import (
    AccountExists,
    AccountIdRefused,
    ClaimsRefused,
    EnvelopeExpired,
    EnvelopeMisdirected,
    EnvelopeRefused,
    EnvelopeReplayed,
    EnvelopeStale,
    Forbidden,
    OtpsealError,
    ParametersRefused,
    PinForged,
    ReceiptMissing,
    ReceiptRefused,
    SeedConflict,
    SeedUnreadable,
    StoreUnavailable,
    SuiteRefused,
)
from otpseal.ledger import Ledger, is_genuine
from otpseal.ports import Clock, Store, Transaction
from otpseal.ports_trust import KeptReceipt
from otpseal.signed_envelope import OpenedEnvelope, PinnedKeys
from otpseal.storage_key import StorageKey
from otpseal.trust import Pinned
from otpseal.trust_book import pinned_authorities

#: Opens an envelope of any accepted suite with the service's keys.
Opener = Callable[[str, PinnedKeys], OpenedEnvelope]

#: Gives the key that signs receipts, and its kid.
ReceiptKey = Callable[[], tuple[str, Ed25519PrivateKey]]

_KINDS: Final[dict[type[OtpsealError], Kind]] = {
    EnvelopeRefused: Kind.ENVELOPE_REFUSED,
    ClaimsRefused: Kind.ENVELOPE_MISDIRECTED,
    Forbidden: Kind.ENVELOPE_MISDIRECTED,
    EnvelopeReplayed: Kind.ENVELOPE_REPLAYED,
    EnvelopeStale: Kind.ENVELOPE_STALE,
    EnvelopeExpired: Kind.ENVELOPE_EXPIRED,
    EnvelopeMisdirected: Kind.ENVELOPE_MISDIRECTED,
    SuiteRefused: Kind.SUITE_REFUSED,
    PinForged: Kind.PIN_FORGED,
}

#: What is counted of those before there is a transaction to accept an envelope in.
_UNOPENED: Final = (EnvelopeRefused, ClaimsRefused, SuiteRefused, PinForged)


@dataclass(frozen=True, slots=True)
class Recalled:
    """What an envelope brought that was accepted before.

    Attributes:
        account: the account that it was for.
        authority: who sealed its seed.
        receipt: the one that was made then.
        has_seed: whether the account has the seed of that envelope still.
    """

    account: str
    authority: str
    receipt: str
    has_seed: bool


class EnvelopeImporter:
    """Brings seeds out of envelopes into accounts.

    Args:
        store: durable state.
        storage_key: what protects the store's seeds.
        clock: gives the Unix time.
        opener: opens an envelope.
        receipt_key: gives what receipts are signed with.
    """

    def __init__(
        self,
        store: Store,
        storage_key: StorageKey,
        clock: Clock,
        *,
        opener: Opener,
        receipt_key: ReceiptKey,
    ) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock
        self._opener = opener
        self._receipt_key = receipt_key

    def bring(self, text: str, *, credential: bytes | None = None) -> Brought:
        """Open an envelope and keep its seed; costs one RSA decryption.

        Args:
            text: the envelope, of any accepted suite.
            credential: the caller's, who needs the scope `import`; None for this
                machine's own.

        Raises:
            EnvelopeRefused: not by a pinned authority for this service, for
                whatever cause; that is counted.
            EnvelopeReplayed, EnvelopeStale, EnvelopeExpired, EnvelopeMisdirected,
            ClaimsRefused, AccountExists, SeedConflict: an authority's own envelope,
                but not now, not here or not again; that is counted.
            SuiteRefused: envelopes of this form are switched off; that is counted.
            PinForged: no authority is believed; that is counted.
            Unauthenticated, Forbidden, StoreUnavailable: nothing was stored.
        """
        try:
            with self._store.transaction(shared=True) as tx:
                now = self._clock()
                enter(tx, credential, Scope.IMPORT, now)
                pinned = pinned_authorities(tx, self._storage_key)
            opened = self._opener(text, Pinned(pinned, now))
        except _UNOPENED as error:
            self._count(_KINDS[type(error)])
            raise
        signer = self._receipt_key()
        refused: OtpsealError
        with self._store.transaction() as tx:
            now = self._clock()
            caller = enter(tx, credential, Scope.IMPORT, now)
            try:
                acceptance = Acceptance(tx, self._storage_key, opened, now)
                return acceptance.accept(pinned, caller, signer)
            except _REFUSALS as error:
                # Nothing but the envelope's id was written before the last check.
                kind = _KINDS.get(type(error), Kind.SEED_REFUSED)
                Ledger(tx, self._storage_key).count(kind, NO_ACCOUNT, now)
                refused = error
        # Raised only here: an exception inside would undo the count.
        raise refused

    def bring_or_recall(self, text: str) -> Brought | Recalled:
        """Bring an envelope, or find what it brought; for this machine's own callers.

        What was accepted before is no replay here, and is not counted as one: whoever
        asks for the same seed again gets the same envelope again.

        Raises:
            As `bring`, `EnvelopeReplayed` if there is no receipt any more.
        """
        digest = envelope_digest(text)
        try:
            return self.recall(digest)
        except ReceiptMissing:
            pass
        try:
            return self.bring(text)
        except EnvelopeReplayed as error:
            # The same command at the same time was faster.
            replayed = error
        try:
            return self.recall(digest)
        except ReceiptMissing:
            raise replayed from None

    def recall(self, digest: bytes, *, credential: bytes | None = None) -> Recalled:
        """Return what the envelope of this SHA-256 brought when it was accepted.

        Args:
            digest: 32 bytes.
            credential: the caller's, who needs the scope `import`; None for this
                machine's own.

        Raises:
            ReceiptMissing: none is remembered, or none for this caller's accounts.
            Unauthenticated, Forbidden, StoreUnavailable: nothing was looked for.
        """
        with self._store.transaction(shared=True) as tx:
            caller = enter(tx, credential, Scope.IMPORT, self._clock())
            found = self._recalled(tx, tx.receipt_for(digest))
        # Beyond the fence is as if it were not there: no tenant learns by this what
        # another one got.
        if caller is not None and not caller.has(found.account):
            raise ReceiptMissing
        return found

    def recall_newest(self, account: str) -> Recalled:
        """Return what the newest envelope brought that was accepted for an account.

        For who has no envelope any more; on this machine only.

        Raises:
            ReceiptMissing, StoreUnavailable: as `recall`.
        """
        kind = Kind.ENVELOPE_ACCEPTED.value
        with self._store.transaction(shared=True) as tx:
            kept = None
            for event in tx.newest_events(1, account=account, kind=kind):
                if is_genuine(self._storage_key, event):
                    detail = json.loads(event.detail)
                    kept = tx.receipt_of(detail["authority"], detail["jti"])
            return self._recalled(tx, kept)

    def _recalled(self, tx: Transaction, kept: KeptReceipt | None) -> Recalled:
        if kept is None:
            raise ReceiptMissing
        try:
            account = receipt.claimed_account(kept.receipt)
            row = tx.accounts([account]).get(account)
            seed = None if row is None else row.open_seed(self._storage_key)
            has_seed = seed is not None and receipt.confirms(kept.receipt, seed)
        except SeedUnreadable:
            has_seed = False
        except ReceiptRefused:
            raise StoreUnavailable(
                "a row of the accepted_envelopes table is damaged: restore the"
                " database from a backup"
            ) from None
        return Recalled(account, kept.authority, kept.receipt, has_seed)

    def _count(self, kind: Kind) -> None:
        with self._store.transaction() as tx:
            Ledger(tx, self._storage_key).count(kind, NO_ACCOUNT, self._clock())


#: What is counted, and told to whoever sent it.
_REFUSALS: Final[tuple[type[OtpsealError], ...]] = (
    *_KINDS,
    AccountExists,
    AccountIdRefused,
    ParametersRefused,
    SeedConflict,
)


def envelope_digest(text: str) -> bytes:
    """Return what an envelope's receipt is found by: SHA-256 of its text, 32 bytes."""
    return hashlib.sha256(text.encode("utf-8")).digest()
