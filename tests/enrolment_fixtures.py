"""An authority's desk over a store, and services that enrol."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from otpseal import enrolment_request, receipt, subscription
from otpseal.adapters.file_keys import RsaKeys
from otpseal.enrolment import EnrolmentDesk, Identity
from otpseal.ports import Clock, Store
from otpseal.public_jwk import VerifyingKey, thumbprint
from otpseal.secret import Secret
from otpseal.signed_envelope import (
    OpenedEnvelope,
    Signer,
    open_envelope,
)
from otpseal.storage_key import StorageKey
from otpseal.subscribers import Offer, SubscriberBook

NAME = "university"
STORAGE_KEY = StorageKey(Secret(bytes(range(32))))
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


@dataclass(frozen=True)
class Pinning:
    """A service's pins: one authority's keys."""

    keys: dict[str, VerifyingKey]

    def find(
        self, *, kid: str | None, algorithm: str, chain: object
    ) -> tuple[str, VerifyingKey] | None:
        """See `otpseal.signed_envelope.PinnedKeys`."""
        key = self.keys.get(kid or "")
        return None if key is None else (NAME, key)


@dataclass
class Desk:
    """An authority: its use cases and its store."""

    store: Store
    clock: Clock
    signing_key: Ed25519PrivateKey | RSAPrivateKey = SIGNING_KEY
    book: SubscriberBook = field(init=False)
    desk: EnrolmentDesk = field(init=False)

    def __post_init__(self) -> None:
        """Open both over the store."""
        self.book = SubscriberBook(self.store, STORAGE_KEY, self.clock)
        self.desk = EnrolmentDesk(
            self.store,
            STORAGE_KEY,
            self.clock,
            identity=Identity(NAME, Signer(self.signing_key)),
            read_request=enrolment_request.read,
        )

    def ticket(self, account: str = "shop/anna", subscriber: str = "shop") -> Secret:
        """Give a ticket, to a subscriber that is made for it if need be."""
        if subscriber not in [row.id for row in self.book.all()]:
            self.book.add(subscriber)
        return self.book.give_ticket(subscriber, Offer(account)).ticket

    def events(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return kind, account and detail of every audit event."""
        with self.store.transaction() as tx:
            rows = tx.newest_events(1000)
        return [(row.kind, row.account, json.loads(row.detail)) for row in rows]

    def kinds(self) -> list[str]:
        """Return the kinds of all events."""
        return [kind for kind, _, _ in self.events()]


@dataclass
class Service:
    """A service: an import key and a receipt key."""

    keys: RsaKeys
    receipt_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def receipt_public(self) -> bytes:
        """The public half, raw."""
        return self.receipt_key.public_key().public_bytes_raw()

    def request(self, ticket: Secret) -> bytes:
        """Make the PKCS#10 request for a ticket."""
        digest = subscription.ticket_digest(ticket)
        assert digest is not None
        challenge = subscription.challenge_of(digest)
        return enrolment_request.make(self.keys, challenge)

    def open(
        self, envelope: str, signer: Ed25519PrivateKey | RSAPrivateKey = SIGNING_KEY
    ) -> OpenedEnvelope:
        """Open an envelope of an authority that is pinned by its key."""
        public = signer.public_key()
        return open_envelope(
            envelope,
            unwrap={self.keys.kid: self.keys.oaep_decrypt}.get,
            pinned=Pinning({thumbprint(public): public}),
        )

    def receipt(self, envelope: str, *, event: int = 5, **changes: Any) -> str:  # noqa: ANN401
        """Open an envelope and confirm it."""
        opened = self.open(envelope)
        given: dict[str, Any] = {
            "kid": self.keys.kid,
            "event": event,
            "service_nonce": hashlib.sha256(envelope.encode()).digest()[:16],
            "signing_kid": thumbprint(self.receipt_key.public_key()),
            "key": self.receipt_key,
            "now": 1_800_000_001.0,
        }
        return receipt.make(opened, **{**given, **changes})
