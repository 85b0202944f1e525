"""The authority's answers to subscribers: an envelope for a ticket, once; receipts.

A ticket is consumed in the transaction that makes, stores and so answers the
envelope: of a hundred requests at once, with as many keys, one is answered. The same
ticket with the same key has the same answer again, so that an answer that was lost
on the way is no lost ticket.

Requests that name no ticket and no envelope of ours are turned away without the
store's exclusive lock: a flood of them does not keep the others waiting.

The classic requests are `otpseal.authority`'s.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from otpseal import keypolicy, receipt, requested_keys, subscription
from otpseal.audit import NO_ACCOUNT, Event, Kind
from otpseal.errors import (
    CertificateExpired,
    EnrolmentRefused,
    KeyRefused,
    ReceiptRefused,
    StoreUnavailable,
    SuiteRefused,
)
from otpseal.issuing import Identity, issue
from otpseal.ledger import Ledger, StrangerCounts
from otpseal.ports import Clock, Store, Transaction
from otpseal.receipt import Delivery, Receipt
from otpseal.requested_keys import Requested
from otpseal.storage_key import StorageKey
from otpseal.subscription import IssuedEnvelope, Ticket
from otpseal.suite import Suite

#: Reads a PKCS#10 request, DER, which proves that its key is held. Raises
#: `EnrolmentRefused` or `KeyRefused`.
ReadRequest = Callable[[bytes], Requested]


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
        identity: gives what it signs with now.
        read_request: checks a request and its signature.
    """

    def __init__(
        self,
        store: Store,
        storage_key: StorageKey,
        clock: Clock,
        *,
        identity: Callable[[], Identity],
        read_request: ReadRequest,
    ) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock
        self._identity = identity
        self._read = read_request
        self._strangers = StrangerCounts(store, storage_key, clock)

    def enrol(
        self,
        csr: bytes,
        *,
        receipt_key: bytes | None = None,
        pq_key: bytes | None = None,
    ) -> Enrolled:
        """Answer a service's request with an envelope for its key.

        Args:
            csr: PKCS#10 (RFC 2986), DER: signed by the import key, with SHA-256 of
                the ticket as challengePassword and the names of the other keys.
            receipt_key: the Ed25519 key that the service will sign its receipt by,
                32 bytes; without it no receipt is taken.
            pq_key: the import key of the suite pq, 1216 bytes; a ticket for that
                suite needs it, and no other looks at it.

        Raises:
            EnrolmentRefused: the request, its signature, a key that it does not name,
                or its ticket; that is counted.
            KeyRefused: an RSA key that the policy does not accept; counted likewise.
            SuiteRefused: a good ticket that needs another key; counted likewise, and
                the ticket is as good as before.
            CapacityReached, CertificateExpired, StoreUnavailable: nothing was made,
                and the ticket is as good as before.
        """
        try:
            asked = self._read(csr)
            keys = requested_keys.bound(asked, receipt_key=receipt_key, pq_key=pq_key)
            digest = subscription.digest_of(asked.challenge)
            if digest is None:
                raise EnrolmentRefused
        except (EnrolmentRefused, KeyRefused):
            self._strangers.count(Kind.ENROLMENT_REFUSED)
            raise
        with self._store.transaction(shared=True) as tx:
            is_known = tx.ticket(subscription.resting(digest)) is not None
        if not is_known:
            self._strangers.count(Kind.ENROLMENT_REFUSED)
            raise EnrolmentRefused
        identity = self._identity()
        with self._store.transaction() as tx:
            now = self._clock()
            ledger = Ledger(tx, self._storage_key)
            found = tx.ticket(subscription.resting(digest))
            owner = None if found is None else tx.subscriber(found.subscriber)
            kid = keypolicy.key_id(keys.rsa)
            try:
                ticket = subscription.admit(found, owner, kid, now)
                if ticket.suite is Suite.V1:
                    identity.valid.expect(now)
                if ticket.answer is not None:
                    ledger.count(Kind.ENVELOPE_REPEATED, NO_ACCOUNT, now)
                else:
                    ticket = issue(
                        tx,
                        ticket,
                        keys=keys,
                        identity=identity,
                        storage_key=self._storage_key,
                        now=now,
                    )
            except (EnrolmentRefused, SuiteRefused) as error:
                ledger.count(Kind.ENROLMENT_REFUSED, NO_ACCOUNT, now)
                refusal = error
            else:
                return _answer(ticket, now)
        # Raised only here: an exception inside would undo the count.
        raise refusal

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
            self._strangers.count(Kind.RECEIPT_REFUSED)
            raise
        with self._store.transaction(shared=True) as tx:
            is_known = tx.issued_envelope(digest) is not None
        if not is_known:
            self._strangers.count(Kind.RECEIPT_REFUSED)
            raise ReceiptRefused
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

    def settle(self) -> None:
        """Write what was only counted; called every minute, and at the end.

        Raises:
            StoreUnavailable: nothing was written; the next call may succeed.
        """
        self._strangers.settle()


def _answer(ticket: Ticket, now: float) -> Enrolled:
    try:
        content = json.loads(ticket.answer or "")
        is_over = now > content.get("until", math.inf)
        answer = Enrolled(content["envelope"], content["certificate"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreUnavailable(
            "a row of the enrolment_tickets table is damaged: restore the database"
            " from a backup"
        ) from None
    if is_over:
        # Renewed or not: what is repeated holds the certificate of then.
        raise CertificateExpired(
            "an envelope is asked for again, and the signing certificate in it has"
            " expired since: give its subscriber a new ticket"
        )
    return answer
