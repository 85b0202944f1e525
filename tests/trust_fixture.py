"""What the tests of envelopes share: authorities, claims, and a book of pinned keys."""

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc.jwk import OKPKey, RSAKey

from otpseal.adapters.file_keys import RsaKeys
from otpseal.public_jwk import VerifyingKey, thumbprint
from otpseal.secret import Secret
from otpseal.seed_claims import SeedClaims
from otpseal.signed_envelope import (
    OpenedEnvelope,
    Signer,
    open_envelope,
    seal,
)

NOW = 1_800_000_000


def encoded(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


@dataclass
class Pins:
    """Keys that are pinned, by kid."""

    keys: dict[str, tuple[str, VerifyingKey]] = field(default_factory=dict)

    def pin(self, name: str, key: VerifyingKey) -> None:
        """Pin a key under an authority's name."""
        self.keys[thumbprint(key)] = name, key

    def find(
        self, *, kid: str | None, algorithm: str, chain: Sequence[bytes]
    ) -> tuple[str, VerifyingKey] | None:
        """See `otpseal.signed_envelope.PinnedKeys`."""
        return None if kid is None else self.keys.get(kid)


@dataclass
class Headquarters:
    """An authority with a key, and the service that pinned it."""

    keys: RsaKeys
    name: str = "hq"
    signer: Signer = field(default_factory=lambda: Signer(Ed25519PrivateKey.generate()))
    last: int = 0

    @property
    def pins(self) -> Pins:
        """A book with this authority alone."""
        pins = Pins()
        pins.pin(self.name, self.signer.key.public_key())
        return pins

    def public_jwks(self) -> bytes:
        """Return what it gives to services: its public key as a JWKS."""
        key = self.signer.key.public_key()
        if isinstance(key, RSAPublicKey):
            jwk = RSAKey.import_key(key).as_dict(private=False)
        else:
            jwk = OKPKey.import_key(key).as_dict(private=False)
        return json.dumps({"keys": [dict(jwk)]}).encode()

    def claims(self, **changed: Any) -> SeedClaims:  # noqa: ANN401 - any claim
        """Return new claims, each later than the one before."""
        self.last += 1
        made = SeedClaims(
            issuer=self.name,
            audience=self.keys.kid,
            account="shop/alice",
            seed=Secret(os.urandom(20)),
            issued_at=NOW,
            expires_at=NOW + 3600,
            jti=encoded(os.urandom(16)),
            sequence=self.last,
            nonce=os.urandom(16),
        )
        return replace(made, **changed)

    def seal(self, claims: SeedClaims | None = None) -> str:
        """Return an envelope for the service."""
        made = self.claims() if claims is None else claims
        return seal(made, signer=self.signer, recipient=self.keys.public_key)

    def open(self, text: str, pins: Pins | None = None) -> OpenedEnvelope:
        """Open an envelope as the service does."""
        return open_envelope(
            text,
            unwrap=lambda kid: self.keys.oaep_decrypt if kid == self.keys.kid else None,
            pinned=self.pins if pins is None else pins,
        )
