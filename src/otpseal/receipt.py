"""Receipts: the service tells the authority that the right seed arrived.

A receipt is a JWS in compact form (RFC 7515), signed by an Ed25519 key that the
service has for nothing else. The signature says who speaks; the MAC in it, under a
key made of the seed itself, that he has the seed and has it for this account, from
this envelope. So an authority can tell arrival from loss without anyone showing a
code.

::

    header  = {"alg":"Ed25519","typ":"otpseal-receipt+jwt","kid":signing kid}
    payload = {"iss":signing kid, "iat":Unix seconds, "envelope":base64url of SHA-256
               of the envelope's text, "account":id, "kid":of the import key,
               "event":id of the service's audit event, "nonce":the envelope's,
               "service_nonce":16 bytes, "mac":32 bytes}
    mac     = HMAC-SHA-256(subkey, lp16(SHA-256 of the envelope) || lp16(account)
              || lp16(kid) || lp16(nonce) || lp16(service_nonce))
    subkey  = HKDF-SHA-256(seed, no salt, info "otpseal receipt v1", 32 bytes)

Binary members are base64url without padding; `lp16(x)` is two bytes of length, big
endian, then x. All members are there and no others. Every refusal is one error with
one text.

Leaves out: which key a service signs with, and which envelope a receipt is for.
"""

import hmac
import json
from dataclasses import dataclass, field
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from otpseal import base64url, public_jwk
from otpseal.errors import ReceiptRefused
from otpseal.receipt_form import MAX_CHARS, parse
from otpseal.secret import Secret
from otpseal.seed_claims import NONCE_BYTES

__all__ = [
    "MAX_CHARS",
    "NONCE_BYTES",
    "Delivery",
    "Receipt",
    "claimed_account",
    "claimed_envelope",
    "confirmation",
    "confirms",
    "make",
    "verify",
]

TYPE: Final = "otpseal-receipt+jwt"
ALGORITHM: Final = "Ed25519"  # RFC 9864; the older name EdDSA is not taken
INFO: Final = b"otpseal receipt v1"


class Claims(Protocol):
    """What a receipt confirms of an envelope's claims."""

    @property
    def account(self) -> str:
        """The account's id."""

    @property
    def seed(self) -> Secret:
        """The seed."""

    @property
    def nonce(self) -> bytes:
        """The authority's nonce."""


class Opened(Protocol):
    """An envelope that was opened; `otpseal.signed_envelope.OpenedEnvelope` is one."""

    @property
    def claims(self) -> Claims:
        """What the authority signed."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the envelope's text."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What both sides know of one envelope, and a receipt confirms.

    Attributes:
        digest: SHA-256 of the envelope's text.
        account: the account that the seed is for.
        kid: the import key that the envelope is sealed to.
        nonce: the authority's, from the envelope.
        seed: the seed.
    """

    digest: bytes
    account: str
    kid: str
    nonce: bytes
    seed: Secret = field(repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt that verified.

    Attributes:
        issuer: kid of the key that signed it.
        event: id of the service's audit event.
        issued_at: when by the service's clock, in Unix seconds.
    """

    issuer: str
    event: int
    issued_at: int


def make(
    opened: Opened,
    *,
    kid: str,
    event: int,
    service_nonce: bytes,
    signing_kid: str,
    key: Ed25519PrivateKey,
    now: float,
) -> str:
    """Return the receipt of an envelope whose seed is stored.

    Args:
        opened: the envelope.
        kid: the import key that opened it.
        event: id of the audit event about it, 0 to 2**53 - 1.
        service_nonce: `NONCE_BYTES` fresh random bytes.
        signing_kid: RFC 7638 thumbprint of `key`.
        key: the service's receipt key.
        now: Unix seconds.
    """
    if len(service_nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
    claims = opened.claims
    sent = Delivery(opened.digest, claims.account, kid, claims.nonce, claims.seed)
    payload = {
        "iss": signing_kid,
        "iat": int(now),
        "envelope": base64url.encode(sent.digest),
        "account": sent.account,
        "kid": kid,
        "event": event,
        "nonce": base64url.encode(sent.nonce),
        "service_nonce": base64url.encode(service_nonce),
        "mac": base64url.encode(confirmation(sent, service_nonce)),
    }
    return jws.serialize_compact(
        {"alg": ALGORITHM, "typ": TYPE, "kid": signing_kid},
        json.dumps(payload, separators=(",", ":")).encode("ascii"),
        OKPKey.import_key(key),
        algorithms=[ALGORITHM],
    )


def confirmation(sent: Delivery, service_nonce: bytes) -> bytes:
    """Return the 32 bytes that only who has the seed can make."""
    subkey = HKDF(algorithm=SHA256(), length=32, salt=None, info=INFO).derive(
        sent.seed.reveal()
    )
    parts = (
        sent.digest,
        sent.account.encode("utf-8"),
        sent.kid.encode("utf-8"),
        sent.nonce,
        service_nonce,
    )
    return hmac.digest(subkey, b"".join(map(_lp16, parts)), "sha256")


def confirms(text: str, seed: Secret) -> bool:
    """Tell whether a receipt of one's own confirms this seed and no other.

    For the service itself, whose signature is not looked at.

    Raises:
        ReceiptRefused: this is no receipt.
    """
    said = parse(text)
    sent = Delivery(said.digest, said.account, said.kid, said.nonce, seed)
    return hmac.compare_digest(confirmation(sent, said.service_nonce), said.mac)


def verify(text: str, *, key: Ed25519PublicKey, sent: Delivery) -> Receipt:
    """Return what a receipt says, if the service of `key` confirms `sent` by it.

    Args:
        text: from a stranger.
        key: the service's receipt key, from where it was pinned.
        sent: what the authority remembers of the envelope.

    Raises:
        ReceiptRefused: for every cause alike.
    """
    kid = public_jwk.thumbprint(key)
    found = parse(text)
    if found.header != {"alg": ALGORITHM, "typ": TYPE, "kid": kid}:
        raise ReceiptRefused
    try:
        jws.deserialize_compact(text, OKPKey.import_key(key), algorithms=[ALGORITHM])
    except (JoseError, ValueError):
        raise ReceiptRefused from None
    expected = (kid, sent.digest, sent.account, sent.kid, sent.nonce)
    said = (found.issuer, found.digest, found.account, found.kid, found.nonce)
    mac = confirmation(sent, found.service_nonce)
    if said != expected or not hmac.compare_digest(mac, found.mac):
        raise ReceiptRefused
    return Receipt(found.issuer, found.event, found.issued_at)


def claimed_envelope(text: str) -> bytes:
    """Return SHA-256 of the envelope that a receipt claims to be for.

    Nothing of it is verified: it only says which envelope to `verify` it against.

    Raises:
        ReceiptRefused: this is no receipt.
    """
    return parse(text).digest


def claimed_account(text: str) -> str:
    """Return the account that a receipt claims to be for; as `claimed_envelope`."""
    return parse(text).account


def _lp16(part: bytes) -> bytes:
    return len(part).to_bytes(2, "big") + part
