"""An authority's desk over a store, and services that enrol."""

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from otpseal import enrolment_request, pq_envelope, receipt, subscription
from otpseal.adapters.file_keys import RsaKeys
from otpseal.enrolment import EnrolmentDesk
from otpseal.issuing import Identity
from otpseal.ports import Clock, Store
from otpseal.pq_keys import ImportKey, PqSigner
from otpseal.public_jwk import VerifyingKey, thumbprint
from otpseal.secret import Secret
from otpseal.signed_envelope import (
    OpenedEnvelope,
    Signer,
    open_envelope,
)
from otpseal.storage_key import StorageKey
from otpseal.subscribers import Offer, SubscriberBook
from otpseal.suite import Suite

NAME = "university"
STORAGE_KEY = StorageKey(Secret(bytes(range(32))))
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PQ_SIGNER = PqSigner(
    Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34))),
    MLDSA65PrivateKey.from_seed_bytes(bytes(range(3, 35))),
)


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
    pq_signer: PqSigner | None = PQ_SIGNER
    book: SubscriberBook = field(init=False)
    desk: EnrolmentDesk = field(init=False)

    def __post_init__(self) -> None:
        """Open both over the store."""
        self.book = SubscriberBook(self.store, STORAGE_KEY, self.clock)
        self.desk = EnrolmentDesk(
            self.store,
            STORAGE_KEY,
            self.clock,
            identity=lambda: Identity(
                NAME, Signer(self.signing_key), pq_signer=self.pq_signer
            ),
            read_request=enrolment_request.read,
        )

    def ticket(
        self,
        account: str = "shop/anna",
        subscriber: str = "shop",
        suite: Suite = Suite.V1,
    ) -> Secret:
        """Give a ticket, to a subscriber that is made for it if need be."""
        if subscriber not in [row.id for row in self.book.all()]:
            self.book.add(subscriber)
        return self.book.give_ticket(subscriber, Offer(account, suite=suite)).ticket

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
    """A service: its import keys and its receipt key."""

    keys: RsaKeys
    receipt_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    pq_key: ImportKey = field(
        default_factory=lambda: ImportKey(Secret(secrets.token_bytes(32)))
    )

    @property
    def receipt_public(self) -> bytes:
        """The public half, raw."""
        return self.receipt_key.public_key().public_bytes_raw()

    @property
    def receipt_kid(self) -> str:
        """What the receipt key is named by."""
        return thumbprint(self.receipt_key.public_key())

    def request(self, ticket: Secret, *named: str) -> bytes:
        """Make the PKCS#10 request for a ticket, which names keys beside it."""
        digest = subscription.ticket_digest(ticket)
        assert digest is not None
        challenge = subscription.challenge_of(digest)
        return enrolment_request.make(self.keys, challenge, named)

    def enrol(self, desk: EnrolmentDesk, ticket: Secret) -> str:
        """Enrol with all of its keys; return the envelope."""
        csr = self.request(ticket, self.receipt_kid, self.pq_key.kid)
        pq_key = self.pq_key.public_key.raw
        enrolled = desk.enrol(csr, receipt_key=self.receipt_public, pq_key=pq_key)
        return enrolled.envelope

    def open_pq(self, envelope: str, signer: PqSigner = PQ_SIGNER) -> OpenedEnvelope:
        """Open an envelope of the suite pq, of an authority that pinned both keys."""
        keys = (signer.ed25519.public_key(), signer.ml_dsa.public_key())
        return pq_envelope.open_envelope(
            envelope,
            unwrap={self.pq_key.kid: self.pq_key}.get,
            pinned=Pinning(dict(zip(signer.kids, keys, strict=True))),
        )

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
        is_pq = pq_envelope.is_pq(envelope)
        opened = self.open_pq(envelope) if is_pq else self.open(envelope)
        given: dict[str, Any] = {
            "kid": opened.kid,
            "event": event,
            "service_nonce": hashlib.sha256(envelope.encode()).digest()[:16],
            "signing_kid": self.receipt_kid,
            "key": self.receipt_key,
            "now": 1_800_000_001.0,
        }
        return receipt.make(opened, **{**given, **changes})
