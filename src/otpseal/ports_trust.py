"""The part of `otpseal.ports.Transaction` that is about authorities and envelopes."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PinnedRow:
    """An authority that is trusted, as it rests.

    Attributes:
        name: the authority's.
        prefix: the accounts that it may send seeds for begin so; "" for all.
        material: its keys, in the canonical form of `otpseal.trust`.
        added_at: when it was pinned, in Unix seconds.
        mac: over all of these, see `otpseal.trust_book`. A row whose MAC is wrong
            was planted by somebody who can write the database.
    """

    name: str
    prefix: str
    material: str
    added_at: float
    mac: bytes


@dataclass(frozen=True, slots=True)
class EnvelopeSequence:
    """The newest envelope that was accepted for an account.

    Outlives the account: an envelope of before its deletion must not bring it back.

    Attributes:
        account: the account's id.
        authority: whose envelope it was.
        sequence: its sequence, 1 to 2**53 - 1.
        accepted_at: Unix seconds.
    """

    account: str
    authority: str
    sequence: int
    accepted_at: float


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """The receipt of an envelope that was accepted.

    Attributes:
        authority: whose envelope it was.
        receipt: see `otpseal.receipt`.
    """

    authority: str
    receipt: str


class TrustTransaction(Protocol):
    """Pinned authorities, and the envelopes that were accepted from them."""

    def pinned_authorities(self) -> list[PinnedRow]:
        """Return every pinned authority, by name."""

    def pin_authority(self, row: PinnedRow) -> None:
        """Insert a pinned authority, or replace the one of that name."""

    def unpin_authority(self, name: str) -> bool:
        """Delete a pinned authority; False if there was none."""

    def remember_envelope(self, authority: str, jti: str, expires_at: float) -> bool:
        """Remember that an envelope was accepted; False if it was remembered before.

        Of two transactions that remember the same at once, the second waits for the
        first, and gets False once that is committed.
        """

    def keep_receipt(
        self, authority: str, jti: str, *, digest: bytes, receipt: str
    ) -> None:
        """Store the receipt of an envelope that is remembered.

        `digest` is SHA-256 of the envelope's text, 32 bytes.
        """

    def receipt_for(self, digest: bytes) -> KeptReceipt | None:
        """Return the receipt of the envelope of that digest, or None."""

    def receipt_of(self, authority: str, jti: str) -> KeptReceipt | None:
        """Return the receipt of an envelope by its id, or None."""

    def forget_envelopes(self, before: float) -> int:
        """Forget the envelopes that expired before that, and their receipts.

        Returns how many.
        """

    def envelope_sequence(self, account: str) -> EnvelopeSequence | None:
        """Return the account's newest envelope, its row locked.

        Locked even if there is none: who asks for the same account next waits.
        """

    def put_envelope_sequence(self, sequence: EnvelopeSequence) -> None:
        """Insert an account's newest envelope, or replace it."""
