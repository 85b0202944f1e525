"""The forms in which a sealed seed may arrive.

One suite has one form, which names itself: nothing is negotiated, so that nobody can
talk both sides down to the weakest.
"""

from enum import StrEnum


class Suite(StrEnum):
    """How a seed was sealed, and what is known of its sender."""

    CLASSIC = "classic"
    """`otpseal.envelope`: RSA-OAEP alone. Whoever has the public key can seal one."""

    V1 = "v1"
    """`otpseal.signed_envelope`: signed by an authority, RSA-OAEP and AES-256-GCM."""

    PQ = "pq"
    """`otpseal.pq_envelope`: signed twice, HPKE with ML-KEM-768 and X25519."""
