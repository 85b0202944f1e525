"""Whom an envelope may be by, the same for every suite whose sender is known.

Leaves out: which keys are pinned (`otpseal.trust`), and the envelopes themselves.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal import base64url
from otpseal.keypolicy import key_id
from otpseal.seed_claims import SeedClaims
from otpseal.suite import Suite

VerifyingKey = RSAPublicKey | Ed25519PublicKey | MLDSA65PublicKey


class PinnedKeys(Protocol):
    """The keys that a service believes."""

    def find(
        self, *, kid: str | None, algorithm: str, chain: Sequence[bytes]
    ) -> tuple[str, VerifyingKey] | None:
        """Return the authority and its key, or None.

        Args:
            kid: of a key that is pinned itself; None if there is a chain.
            algorithm: "PS256", "Ed25519" or "ML-DSA-65"; the key must be of its kind.
            chain: certificates in DER, the signer's first; empty if there is a kid.
        """


@dataclass(frozen=True, slots=True)
class OpenedEnvelope:
    """An envelope whose sender is known.

    Attributes:
        claims: what the authority signed.
        authority: the name that its key is pinned under.
        suite: of the envelope.
        digest: SHA-256 of the envelope's text.
        kid: the import key that opened it.
    """

    claims: SeedClaims
    authority: str
    suite: Suite
    digest: bytes
    kid: str


def signing_kid(key: VerifyingKey) -> str:
    """Return the kid of an authority's signing key: its RFC 7638 thumbprint.

    Its members are those of RFC 7518 (RSA), RFC 8037 (Ed25519) and the key type AKP
    of draft-ietf-cose-dilithium (ML-DSA-65).
    """
    if isinstance(key, RSAPublicKey):
        return key_id(key)
    raw = base64url.encode(key.public_bytes_raw())
    if isinstance(key, Ed25519PublicKey):
        members = {"crv": "Ed25519", "kty": "OKP", "x": raw}
    else:
        members = {"alg": "ML-DSA-65", "kty": "AKP", "pub": raw}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return base64url.encode(hashlib.sha256(text.encode("ascii")).digest())
