"""The authority's answers to subscribers: an envelope for a ticket, once; receipts.

A ticket is consumed in the transaction that makes, stores and so answers the
envelope: of a hundred requests at once, with as many keys, one is answered. The same
ticket with the same key has the same answer again, so that an answer that was lost
on the way is no lost ticket.

The classic requests are `otpseal.authority`'s.
"""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal import (
    base64url,
    keypolicy,
    public_jwk,
    receipt,
    signed_envelope,
    subscription,
)
from otpseal.audit import NO_ACCOUNT, Event, Kind
from otpseal.errors import (
    EnrolmentRefused,
    KeyRefused,
    ReceiptRefused,
    StoreUnavailable,
)
from otpseal.ledger import Ledger
from otpseal.ports import Clock, Store, Transaction
from otpseal.receipt import Delivery, Receipt
from otpseal.secret import Secret
from otpseal.seed_claims import SeedClaims
from otpseal.signed_envelope import Signer
from otpseal.storage_key import StorageKey
from otpseal.subscription import IssuedEnvelope, Ticket
from otpseal.validity import ALWAYS, Validity

RECEIPT_KEY_BYTES: Final = 32
_JTI_BYTES: Final = 16

#: Makes a certificate, PEM, for a subscriber's key at a time in Unix seconds.
Certify = Callable[[RSAPublicKey, str, float], str]

#: Reads a PKCS#10 request, DER: the key, which the request proves to be held, and the
#: challengePassword. Raises `EnrolmentRefused` or `KeyRefused`.
ReadRequest = Callable[[bytes], tuple[RSAPublicKey, str]]


@dataclass(frozen=True, slots=True)
class Identity:
    """What an authority signs with.

    Attributes:
        name: its name, which services pin.
        signer: the key that signs envelopes, with its certificates for services
            that pin the CA, without for those that pin the key.
        certify: makes certificates for services' keys; None to give none.
        valid: when its certificate is.
    """

    name: str
    signer: Signer = field(repr=False)
    certify: Certify | None = None
    valid: Validity = ALWAYS


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a service is answered.

    Attributes:
        envelope: the sealed seed.
        certificate: of the service's key, PEM; None if the authority gives none.
    """

    envelope: str
    certificate: str | None = None


class EnrolmentDesk:
    """Answers subscribers.

    Args:
        store: durable state.
        storage_key: what protects the authority's copies of the seeds.
        clock: gives the Unix time.
        identity: what it signs with.
        read_request: checks a request and its signature.
    """

    def __init__(
        self,
        store: Store,
        storage_key: StorageKey,
        clock: Clock,
        *,
        identity: Identity,
        read_request: ReadRequest,
    ) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock
        self._identity = identity
        self._read = read_request

    def enrol(self, csr: bytes, *, receipt_key: bytes | None = None) -> Enrolled:
        """Answer a service's request with an envelope for its key.

        Args:
            csr: PKCS#10 (RFC 2986), DER: signed by the import key, with SHA-256 of
                the ticket as challengePassword.
            receipt_key: the Ed25519 key that the service will sign its receipt by,
                32 bytes; without it no receipt is taken.

        Raises:
            EnrolmentRefused: the request, its signature or its ticket; that is
                counted.
            KeyRefused: a key that the policy does not accept; counted likewise.
            CapacityReached, CertificateExpired, StoreUnavailable: nothing was made,
                and the ticket is as good as before.
        """
        try:
            key, challenge = self._read(csr)
            kid = keypolicy.key_id(key)
            digest = subscription.digest_of(challenge)
            if digest is None or not _is_receipt_key(receipt_key):
                raise EnrolmentRefused
        except (EnrolmentRefused, KeyRefused):
            self._count(Kind.ENROLMENT_REFUSED)
            raise
        with self._store.transaction() as tx:
            now = self._clock()
            ledger = Ledger(tx, self._storage_key)
            found = tx.ticket(subscription.resting(digest))
            owner = None if found is None else tx.subscriber(found.subscriber)
            try:
                ticket = subscription.admit(found, owner, kid, now)
            except EnrolmentRefused:
                ledger.count(Kind.ENROLMENT_REFUSED, NO_ACCOUNT, now)
            else:
                # A stored answer, too, was signed for this certificate.
                self._identity.valid.expect(now)
                if ticket.answer is not None:
                    ledger.count(Kind.ENVELOPE_REPEATED, NO_ACCOUNT, now)
                    return _answer(ticket.answer)
                return self._issue(tx, ticket, key, receipt_key, now)
        # Raised only here: an exception inside would undo the count.
        raise EnrolmentRefused

    def _issue(
        self,
        tx: Transaction,
        ticket: Ticket,
        key: RSAPublicKey,
        receipt_key: bytes | None,
        now: float,
    ) -> Enrolled:
        claims = self._claims(tx, ticket, key, now)
        identity = self._identity
        text = signed_envelope.seal(claims, signer=identity.signer, recipient=key)
        certificate = None
        if identity.certify is not None:
            certificate = identity.certify(key, ticket.subscriber, now)
        place = subscription.envelope_place(claims.jti, claims.account, claims.audience)
        tx.put_issued_envelope(
            IssuedEnvelope(
                jti=claims.jti,
                subscriber=ticket.subscriber,
                account=claims.account,
                kid=claims.audience,
                sequence=claims.sequence,
                digest=hashlib.sha256(text.encode("ascii")).digest(),
                sealed_seed=self._storage_key.seal_seed(claims.seed, place),
                nonce=claims.nonce,
                issued_at=now,
                receipt_key=receipt_key,
            )
        )
        stored = json.dumps({"envelope": text, "certificate": certificate})
        tx.put_ticket(replace(ticket, kid=claims.audience, answer=stored))
        detail: dict[str, int | str] = {
            "subscriber": ticket.subscriber,
            "kid": claims.audience,
            "jti": claims.jti,
            "seq": claims.sequence,
        }
        event = Event(Kind.ENVELOPE_ISSUED, now, claims.account, detail)
        Ledger(tx, self._storage_key).record(event)
        return Enrolled(text, certificate)

    def _claims(
        self, tx: Transaction, ticket: Ticket, key: RSAPublicKey, now: float
    ) -> SeedClaims:
        length = subscription.SEED_BYTES[ticket.parameters.algorithm]
        return SeedClaims(
            issuer=self._identity.name,
            audience=keypolicy.key_id(key),
            account=ticket.account,
            seed=Secret(secrets.token_bytes(length)),
            parameters=ticket.parameters,
            service_name=ticket.issuer,
            label=ticket.label,
            issued_at=int(now),
            expires_at=int(now) + subscription.ENVELOPE_LIFETIME_S,
            jti=base64url.encode(secrets.token_bytes(_JTI_BYTES)),
            sequence=subscription.next_sequence(tx.last_sequence(ticket.account), now),
            nonce=secrets.token_bytes(receipt.NONCE_BYTES),
        )

    def confirm(self, text: str) -> Receipt:
        """Take a service's receipt: the right seed arrived.

        The first receipt of an envelope stays; it, or another good one, is taken
        again without changing anything.

        Raises:
            ReceiptRefused: for no envelope of ours, not by its service, or without
                its seed; that is counted.
            SeedUnreadable, StoreUnavailable: nothing was decided.
        """
        try:
            digest = receipt.claimed_envelope(text)
        except ReceiptRefused:
            self._count(Kind.RECEIPT_REFUSED)
            raise
        with self._store.transaction() as tx:
            now = self._clock()
            ledger = Ledger(tx, self._storage_key)
            issued = tx.issued_envelope(digest)
            try:
                found = self._verified(tx, issued, text)
            except ReceiptRefused:
                ledger.count(Kind.RECEIPT_REFUSED, NO_ACCOUNT, now)
            else:
                assert issued is not None
                if issued.receipt is None:
                    tx.put_issued_envelope(
                        replace(issued, receipt=text, confirmed_at=now)
                    )
                    detail: dict[str, int | str] = {
                        "subscriber": issued.subscriber,
                        "jti": issued.jti,
                        "event": found.event,
                    }
                    kind = Kind.RECEIPT_STORED
                    ledger.record(Event(kind, now, issued.account, detail))
                return found
        raise ReceiptRefused

    def _verified(
        self, tx: Transaction, issued: IssuedEnvelope | None, text: str
    ) -> Receipt:
        if issued is None or issued.receipt_key is None:
            raise ReceiptRefused
        owner = tx.subscriber(issued.subscriber)
        if owner is None or owner.revoked_at is not None:
            raise ReceiptRefused
        sent = Delivery(
            digest=issued.digest,
            account=issued.account,
            kid=issued.kid,
            nonce=issued.nonce,
            seed=self._storage_key.open_seed(issued.sealed_seed, issued.place),
        )
        key = Ed25519PublicKey.from_public_bytes(issued.receipt_key)
        return receipt.verify(text, key=key, sent=sent)

    def _count(self, kind: Kind) -> None:
        with self._store.transaction() as tx:
            Ledger(tx, self._storage_key).count(kind, NO_ACCOUNT, self._clock())


def _is_receipt_key(raw: bytes | None) -> bool:
    if raw is None:
        return True
    try:
        public_jwk.check_key(Ed25519PublicKey.from_public_bytes(raw))
    except (ValueError, UnsupportedAlgorithm, KeyRefused):
        return False
    return True


def _answer(stored: str) -> Enrolled:
    try:
        content = json.loads(stored)
        return Enrolled(content["envelope"], content["certificate"])
    except (ValueError, KeyError, TypeError):
        raise StoreUnavailable(
            "a row of the enrolment_tickets table is damaged: restore the database"
            " from a backup"
        ) from None
