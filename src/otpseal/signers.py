"""Whom an envelope may be by, the same for every suite whose sender is known.

Leaves out: which keys are pinned (`otpseal.trust`), and the envelopes themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from otpseal.public_jwk import VerifyingKey
from otpseal.seed_claims import SeedClaims
from otpseal.suite import Suite


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
