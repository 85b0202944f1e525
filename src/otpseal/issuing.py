"""An envelope for a ticket: its claims, its form, and what the authority keeps of it.

Leaves out: who may have one (`otpseal.enrolment`).
"""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal import (
    base64url,
    keypolicy,
    pq_envelope,
    receipt,
    signed_envelope,
    subscription,
)
from otpseal.audit import Event, Kind
from otpseal.errors import SuiteRefused
from otpseal.ledger import Ledger
from otpseal.ports import Transaction
from otpseal.pq_keys import PqSigner
from otpseal.requested_keys import RequestedKeys
from otpseal.secret import Secret
from otpseal.seed_claims import SeedClaims
from otpseal.signed_envelope import Signer
from otpseal.storage_key import StorageKey
from otpseal.subscription import IssuedEnvelope, Ticket
from otpseal.suite import Suite
from otpseal.validity import ALWAYS, Validity

_JTI_BYTES: Final = 16

#: Makes a certificate, PEM, for a subscriber's key at a time in Unix seconds; None if
#: it cannot then.
Certify = Callable[[RSAPublicKey, str, float], str | None]


@dataclass(frozen=True, slots=True)
class Identity:
    """What an authority signs with.

    Attributes:
        name: its name, which services pin.
        signer: the key that signs envelopes, with its certificates for services
            that pin the CA, without for those that pin the key.
        certify: makes certificates for services' keys; None to give none.
        valid: when the signer's certificate is, if it travels.
        pq_signer: the pair that signs envelopes of the suite pq; None if it has none.
    """

    name: str
    signer: Signer = field(repr=False)
    certify: Certify | None = None
    valid: Validity = ALWAYS
    pq_signer: PqSigner | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """How one seed is sealed.

    Attributes:
        suite: of the envelope.
        kid: the import key that it is sealed to.
        seal: makes the envelope.
    """

    suite: Suite
    kid: str
    seal: Callable[[SeedClaims], str]


def form(identity: Identity, suite: Suite, keys: RequestedKeys) -> Form:
    """Return how a service's seed is sealed: as its ticket says, and in no other form.

    Raises:
        SuiteRefused: the ticket says pq, and the service brought no key for it or the
            authority has none to sign it.
    """
    if suite is Suite.PQ:
        signer = identity.pq_signer
        # Never the other suite instead: who takes a key away chooses no form.
        if keys.pq is None:
            raise SuiteRefused(
                "The ticket is for an envelope of the suite pq, but the service takes"
                " none: its OTPSEAL_ACCEPT_SUITES has to name pq. The ticket is still"
                " good"
            )
        if signer is None:
            raise SuiteRefused(
                "The ticket is for an envelope of the suite pq, and this authority has"
                " no keys to sign it: its operator runs `otpseal authority init"
                " --add-pq`. The ticket is still good"
            )
        seal = partial(pq_envelope.seal, signer=signer, recipient=keys.pq)
        return Form(suite, keys.pq.kid, seal)
    seal = partial(signed_envelope.seal, signer=identity.signer, recipient=keys.rsa)
    return Form(Suite.V1, keypolicy.key_id(keys.rsa), seal)


def issue(
    tx: Transaction,
    ticket: Ticket,
    *,
    keys: RequestedKeys,
    identity: Identity,
    storage_key: StorageKey,
    now: float,
) -> Ticket:
    """Make an envelope and keep it; returns the ticket, taken and with its answer.

    Args:
        tx: where the envelope and the ticket are kept.
        ticket: one that the service may use, for the first time.
        keys: the service's.
        identity: what the authority signs with.
        storage_key: protects its copy of the seed.
        now: Unix seconds.

    Raises:
        SuiteRefused: see `form`; nothing was made.
        CapacityReached: the account's sequence numbers are used up.
    """
    chosen = form(identity, ticket.suite, keys)
    claims = _claims(tx, identity.name, ticket, chosen.kid, now)
    text = chosen.seal(claims)
    certificate = None
    if identity.certify is not None:
        certificate = identity.certify(keys.rsa, ticket.subscriber, now)
    place = subscription.envelope_place(claims.jti, claims.account, claims.audience)
    tx.put_issued_envelope(
        IssuedEnvelope(
            jti=claims.jti,
            subscriber=ticket.subscriber,
            account=claims.account,
            kid=claims.audience,
            sequence=claims.sequence,
            digest=hashlib.sha256(text.encode("ascii")).digest(),
            sealed_seed=storage_key.seal_seed(claims.seed, place),
            nonce=claims.nonce,
            issued_at=now,
            receipt_key=keys.receipt,
            suite=chosen.suite,
        )
    )
    answer: dict[str, str | float | None] = {
        "envelope": text,
        "certificate": certificate,
    }
    if chosen.suite is Suite.V1 and identity.valid != ALWAYS:
        # Of the certificate in the envelope, which nobody can look into here.
        answer["until"] = identity.valid.until
    # The ticket is the RSA key's, in every suite: that is the one that signed for it.
    taken = replace(
        ticket,
        kid=keypolicy.key_id(keys.rsa),
        answer=json.dumps(answer),
    )
    tx.put_ticket(taken)
    detail: dict[str, int | str] = {
        "subscriber": ticket.subscriber,
        "suite": chosen.suite,
        "kid": claims.audience,
        "jti": claims.jti,
        "seq": claims.sequence,
    }
    event = Event(Kind.ENVELOPE_ISSUED, now, claims.account, detail)
    Ledger(tx, storage_key).record(event)
    return taken


def _claims(
    tx: Transaction, issuer: str, ticket: Ticket, audience: str, now: float
) -> SeedClaims:
    length = subscription.SEED_BYTES[ticket.parameters.algorithm]
    return SeedClaims(
        issuer=issuer,
        audience=audience,
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
