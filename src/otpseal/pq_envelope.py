"""Envelopes of the suite pq: a seed that is signed twice, then sealed twice over.

Whoever records an envelope today must not read its seed on a quantum computer later,
so it is sealed by HPKE (RFC 9180, base mode) with MLKEM768-X25519
(draft-ietf-hpke-pq), HKDF-SHA256 and AES-256-GCM, and signed by Ed25519 *and*
ML-DSA-65 (FIPS 204). Each half holds if the other one falls::

    envelope = "otpseal-pq1." kid "." base64url(enc (1120) || ciphertext)
    info     = lp16("otpseal-pq1") || lp16(kid);   aad is empty
    in it    = lp16(Ed25519 kid) || lp16(ML-DSA kid)
            || lp16(Ed25519 signature) || lp16(ML-DSA signature) || lp16(claims)
    signed   = lp16("otpseal-pq1 signed seed") || lp16(kid)
            || lp16(Ed25519 kid) || lp16(ML-DSA kid) || lp16(claims)
    claims   = `otpseal.seed_claims`

Both signing keys must be pinned for one authority. Whatever fails before both
signatures are known to be good is one error and costs the same, as in
`otpseal.signed_envelope`.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.mldsa import (
    MLDSA65PrivateKey,
    MLDSA65PublicKey,
)
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM
from cryptography.hazmat.primitives.hpke import Suite as HpkeSuite

from otpseal import base64url, seed_claims
from otpseal.errors import EnvelopeRefused
from otpseal.kid import is_kid
from otpseal.pq_keys import MARKER, ImportKey, ImportPublicKey, PqSigner
from otpseal.seed_claims import SeedClaims
from otpseal.signers import OpenedEnvelope, PinnedKeys
from otpseal.stumbling import stumble
from otpseal.suite import Suite

#: Longest envelope that is looked at, in characters; one has about 7,000.
MAX_ENVELOPE_CHARS: Final = 32 * 1024

ED25519: Final = "Ed25519"
ML_DSA_65: Final = "ML-DSA-65"
_SIGNED: Final = b"otpseal-pq1 signed seed"
_TEXT_PARTS: Final = 3
_FIELDS: Final = 5

_Keys = tuple[Ed25519PublicKey, MLDSA65PublicKey]


def is_pq(text: str) -> bool:
    """Tell whether a text says that it is an envelope of this suite."""
    return text.startswith(f"{MARKER}.")


def seal(claims: SeedClaims, *, signer: PqSigner, recipient: ImportPublicKey) -> str:
    """Sign claims twice and seal them to a service's pq import key.

    Raises:
        ClaimsRefused: a claim is out of its range.
    """
    payload = seed_claims.to_json(claims)
    kids = [kid.encode("ascii") for kid in signer.kids]
    message = _message(recipient.kid, kids, payload)
    signatures = [signer.ed25519.sign(message), signer.ml_dsa.sign(message)]
    plaintext = _joined([*kids, *signatures, payload])
    sealed = _hpke().encrypt(plaintext, recipient.hpke, info=_info(recipient.kid))
    return f"{MARKER}.{recipient.kid}.{base64url.encode(sealed)}"


def open_envelope(
    text: str, *, unwrap: Callable[[str], ImportKey | None], pinned: PinnedKeys
) -> OpenedEnvelope:
    """Open an envelope and believe it, if a pinned authority signed it with both keys.

    Args:
        text: from a stranger.
        unwrap: gives the pq import key of a kid, or None.
        pinned: whom to believe.

    Raises:
        EnvelopeRefused: for every cause alike.
        ClaimsRefused: a pinned authority signed claims that are none.
    """
    kid, sealed = _parts(text)
    key = unwrap(kid)
    if key is None:
        raise EnvelopeRefused
    authority, payload = _verified(kid, _opened(sealed, key), pinned)
    # The one place where it is said: all that fails has come this far.
    if authority is None:
        raise EnvelopeRefused
    digest = hashlib.sha256(text.encode("ascii")).digest()
    return OpenedEnvelope(
        seed_claims.parse(payload), authority, Suite.PQ, digest, key.kid
    )


def _parts(text: str) -> tuple[str, bytes]:
    if len(text) > MAX_ENVELOPE_CHARS or not text.isascii():
        raise EnvelopeRefused
    parts = text.split(".")
    if len(parts) != _TEXT_PARTS or parts[0] != MARKER or not is_kid(parts[1]):
        raise EnvelopeRefused
    try:
        return parts[1], base64url.decode(parts[2])
    except ValueError:
        raise EnvelopeRefused from None


def _opened(sealed: bytes, key: ImportKey) -> bytes:
    """Return what was sealed; the stand-in for it if that does not open."""
    try:
        opened = _hpke().decrypt(sealed, key.hpke, info=_info(key.kid))
    except InvalidTag:
        return _joined(_stand_in())
    stumble()
    return bytes(opened)


def _verified(
    kid: str, plaintext: bytes, pinned: PinnedKeys
) -> tuple[str | None, bytes]:
    """Return the authority that signed, or None, and the payload."""
    fields = _fields(plaintext)
    if not fields:
        # What is no fields takes the time of some: it was not read to its end.
        _joined(_stand_in())
        fields = _stand_in()
    authority, keys = _signers(fields[:2], pinned) or (None, _standing_keys())
    if authority is None:
        fields = _stand_in()
    *kids, ed25519, ml_dsa, payload = fields
    message = _message(kid, kids, payload)
    # Both, always: which of the two is bad is nobody's business.
    good = [_is_good(keys[0], ed25519, message), _is_good(keys[1], ml_dsa, message)]
    return (authority if all(good) else None), payload


def _signers(kids: list[bytes], pinned: PinnedKeys) -> tuple[str, _Keys] | None:
    names = [kid.decode("latin-1") for kid in kids]
    if not all(is_kid(name) for name in names):
        return None
    one = pinned.find(kid=names[0], algorithm=ED25519, chain=())
    two = pinned.find(kid=names[1], algorithm=ML_DSA_65, chain=())
    # Of two authorities, one would vouch for the other's half.
    if one is None or two is None or one[0] != two[0]:
        return None
    if isinstance(one[1], Ed25519PublicKey) and isinstance(two[1], MLDSA65PublicKey):
        return one[0], (one[1], two[1])
    return None


def _is_good(
    key: Ed25519PublicKey | MLDSA65PublicKey, signature: bytes, message: bytes
) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _message(kid: str, kids: list[bytes], payload: bytes) -> bytes:
    return _joined([_SIGNED, kid.encode("ascii"), *kids, payload])


def _info(kid: str) -> bytes:
    return _joined([MARKER.encode("ascii"), kid.encode("ascii")])


def _joined(fields: list[bytes]) -> bytes:
    return b"".join(len(field).to_bytes(2, "big") + field for field in fields)


def _fields(raw: bytes) -> list[bytes]:
    """Return the five fields; [] if they are not five, or anything is left over."""
    fields: list[bytes] = []
    at = 0
    while at < len(raw):
        end = at + 2 + int.from_bytes(raw[at : at + 2], "big")
        fields.append(raw[at + 2 : end])
        at = end
    return fields if len(fields) == _FIELDS and at == len(raw) else []


@cache
def _hpke() -> HpkeSuite:
    return HpkeSuite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


# Stand-ins: work is done on them, and nothing is believed that they say.


@cache
def _standing_signer() -> PqSigner:
    return PqSigner(
        Ed25519PrivateKey.from_private_bytes(bytes(32)),
        MLDSA65PrivateKey.from_seed_bytes(bytes(32)),
    )


@cache
def _standing_keys() -> _Keys:
    signer = _standing_signer()
    return signer.ed25519.public_key(), signer.ml_dsa.public_key()


@cache
def _stand_in() -> list[bytes]:
    """Return the fields of an envelope like any other, by nobody, and badly signed."""
    kids = [b"0" * 43, b"1" * 43]
    signer = _standing_signer()
    other = _message("0" * 43, kids, b"0" * 512)
    signed = [signer.ed25519.sign(other), signer.ml_dsa.sign(other)]
    return [*kids, *signed, b" " * 512]
