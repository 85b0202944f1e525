"""Keys of the suite pq: ML-KEM-768 with X25519 to seal to, Ed25519 with ML-DSA-65.

An import key is the KEM MLKEM768-X25519 of draft-ietf-hpke-pq (0x647a, the same as
X-Wing) and rests as that draft's 32 bytes::

    seed    = 32 random bytes
    d || z || x = SHAKE256(seed), 64 bytes for ML-KEM-768 (FIPS 203), 32 for X25519
    public  = ML-KEM-768 encapsulation key (1184) || X25519 public key (32)
    kid     = RFC 7638 thumbprint of {"alg":"otpseal-pq1","kty":"AKP","pub":public}

`cryptography` has no form of its own for such a key, neither private nor public.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.hpke import (
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
)

from otpseal import base64url
from otpseal.errors import KeyRefused
from otpseal.kid import kid_of
from otpseal.public_jwk import thumbprint
from otpseal.secret import Secret

#: What the suite's texts begin with, and the `alg` of its import keys.
MARKER: Final = "otpseal-pq1"

SEED_BYTES: Final = 32
_KEM_SEED_BYTES: Final = 64
_KEM_PUBLIC_BYTES: Final = 1184
#: Of a public import key.
IMPORT_KEY_BYTES: Final = _KEM_PUBLIC_BYTES + 32
_EXPANDED_BYTES: Final = 96


@dataclass(frozen=True)
class ImportPublicKey:
    """What an authority seals to.

    Attributes:
        raw: 1216 bytes, see the module.
    """

    raw: bytes

    def __post_init__(self) -> None:
        """Refuse bytes that are no such key.

        Raises:
            KeyRefused: another length, or a part that is out of its range.
        """
        try:
            x25519 = X25519PublicKey.from_public_bytes(self.raw[_KEM_PUBLIC_BYTES:])
            # Fails for the points of small order: every secret with them is zero.
            X25519PrivateKey.from_private_bytes(bytes(31) + b"@").exchange(x25519)
            MLKEM768PublicKey.from_public_bytes(self.raw[:_KEM_PUBLIC_BYTES])
        except ValueError:
            raise KeyRefused("this is no pq import key") from None

    @cached_property
    def kid(self) -> str:
        """RFC 7638 thumbprint, 43 base64url characters."""
        return kid_of(self.jwk)

    @property
    def jwk(self) -> dict[str, str]:
        """The key's required members, as the key type AKP."""
        return {"alg": MARKER, "kty": "AKP", "pub": base64url.encode(self.raw)}

    @cached_property
    def hpke(self) -> MLKEM768X25519PublicKey:
        """The key as `cryptography` takes it."""
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.raw[:_KEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(self.raw[_KEM_PUBLIC_BYTES:]),
        )


@dataclass(frozen=True)
class ImportKey:
    """What a service opens with.

    Attributes:
        seed: 32 random bytes; the whole private key.
    """

    seed: Secret

    def __post_init__(self) -> None:
        """Refuse a seed of another length.

        Raises:
            KeyRefused: not 32 bytes.
        """
        if len(self.seed) != SEED_BYTES:
            raise KeyRefused(f"a pq import key is made of {SEED_BYTES} bytes")

    @cached_property
    def public_key(self) -> ImportPublicKey:
        """The key's public half."""
        kem, x25519 = self._parts
        return ImportPublicKey(
            kem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        )

    @property
    def kid(self) -> str:
        """The public half's."""
        return self.public_key.kid

    @cached_property
    def hpke(self) -> MLKEM768X25519PrivateKey:
        """The key as `cryptography` takes it."""
        return MLKEM768X25519PrivateKey(*self._parts)

    @cached_property
    def _parts(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        expanded = hashlib.shake_256(self.seed.reveal()).digest(_EXPANDED_BYTES)
        return (
            MLKEM768PrivateKey.from_seed_bytes(expanded[:_KEM_SEED_BYTES]),
            X25519PrivateKey.from_private_bytes(expanded[_KEM_SEED_BYTES:]),
        )


@dataclass(frozen=True, slots=True)
class PqSigner:
    """What an authority signs with: both keys, always.

    Attributes:
        ed25519: holds while there is no quantum computer.
        ml_dsa: holds if there is one (FIPS 204).
    """

    ed25519: Ed25519PrivateKey
    ml_dsa: MLDSA65PrivateKey

    @property
    def kids(self) -> tuple[str, str]:
        """The kids of both public halves, Ed25519's first."""
        return (
            thumbprint(self.ed25519.public_key()),
            thumbprint(self.ml_dsa.public_key()),
        )
