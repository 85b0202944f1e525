"""One opened envelope in the transaction that accepts it, with its receipt.

An envelope may make an account, or replace the seed that the same authority put into
one. It never takes over an account that came to be in another way. The receipt rests
in the store together with the seed: an answer that is lost on its way is not lost.

Leaves out: what opens an envelope, and what becomes of one that is refused
(`otpseal.envelopes`).
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from otpseal import receipt
from otpseal.access import Caller
from otpseal.account_id import parse_account_id, within
from otpseal.audit import Event, Kind
from otpseal.callers import expect_covered
from otpseal.errors import (
    AccountExists,
    EnvelopeExpired,
    EnvelopeMisdirected,
    EnvelopeRefused,
    EnvelopeReplayed,
    EnvelopeStale,
    SeedConflict,
)
from otpseal.ledger import Ledger
from otpseal.ports import AccountRow, Transaction
from otpseal.ports_trust import EnvelopeSequence
from otpseal.seed_claims import SeedClaims
from otpseal.seed_keeping import NewSeed, SeedKeeper
from otpseal.signed_envelope import OpenedEnvelope
from otpseal.storage_key import StorageKey
from otpseal.trust import PinnedAuthority
from otpseal.trust_book import pinned_authorities

#: Longest time from `iat` to `exp`, in seconds: as long an envelope's id is kept.
MAX_LIFETIME_S: Final = 31 * 86_400

#: How far the authority's clock may be ahead of ours, in seconds.
MAX_AHEAD_S: Final = 60

_REPLAYED: Final = "This envelope was accepted before"


@dataclass(frozen=True, slots=True)
class Brought:
    """What an envelope brought.

    Attributes:
        row: the account as it rests now.
        authority: who sealed its seed.
        suite: of the envelope.
        receipt: for the authority, see `otpseal.receipt`.
        is_new: whether the account was made; else its seed was replaced.
    """

    row: AccountRow
    authority: str
    suite: str
    receipt: str
    is_new: bool

    @property
    def account(self) -> str:
        """The account's id."""
        return self.row.id


class Acceptance:
    """One opened envelope in the transaction that accepts it."""

    def __init__(
        self,
        tx: Transaction,
        storage_key: StorageKey,
        opened: OpenedEnvelope,
        now: float,
    ) -> None:
        self._tx = tx
        self._storage_key = storage_key
        self._opened = opened
        self._claims = opened.claims
        self._now = now

    def accept(
        self,
        pinned: Sequence[PinnedAuthority],
        caller: Caller | None,
        signer: tuple[str, Ed25519PrivateKey],
    ) -> Brought:
        """Check what the claims say, keep the seed, make the receipt.

        `pinned` are those that the signature was looked for among.
        """
        claims, tx = self._claims, self._tx
        self._expect_addressed(self._authority(pinned))
        self._expect_in_time()
        expect_covered(caller, claims.account)
        new = _new_seed(claims)
        old = tx.accounts([claims.account]).get(claims.account)
        self._expect_in_order(old)
        holder = tx.holder(self._storage_key.fingerprint(claims.seed))
        if holder is not None and holder != claims.account:
            raise SeedConflict("Another account has this seed")
        # The last check, since it is the first thing that is written.
        if not self._remember():
            raise EnvelopeReplayed(_REPLAYED)
        keeper = SeedKeeper(tx, self._storage_key)
        if old is None:
            row = keeper.add(new, self._now)
        else:
            row = keeper.replace(old, new, self._now)
        name = self._opened.authority
        tx.put_envelope_sequence(
            EnvelopeSequence(claims.account, name, claims.sequence, self._now)
        )
        event = self._record(caller, is_new=old is None)
        made = self._receipt(event, signer)
        tx.keep_receipt(name, claims.jti, digest=self._opened.digest, receipt=made)
        return Brought(row, name, self._opened.suite, made, is_new=old is None)

    def _authority(self, pinned: Sequence[PinnedAuthority]) -> PinnedAuthority:
        """Return who signed, if it is pinned still, and by the same keys.

        Looked up again here: who was removed, or whose keys were replaced, while an
        envelope of his was opened brings nothing by them any more.
        """
        for authority in pinned_authorities(self._tx, self._storage_key):
            if authority.name == self._opened.authority:
                if any(authority.material == before.material for before in pinned):
                    return authority
                break
        raise EnvelopeRefused

    def _expect_addressed(self, authority: PinnedAuthority) -> None:
        claims = self._claims
        if claims.issuer != authority.name or claims.audience != self._opened.kid:
            raise EnvelopeMisdirected(
                "The envelope names another sender or receiver than it has"
            )
        parse_account_id(claims.account)
        if not within(claims.account, authority.prefix):
            raise EnvelopeMisdirected("The authority is not pinned for this account")

    def _expect_in_time(self) -> None:
        claims, now = self._claims, self._now
        if claims.issued_at > now + MAX_AHEAD_S:
            raise EnvelopeExpired("The envelope is of the future: compare the clocks")
        if claims.expires_at - claims.issued_at > MAX_LIFETIME_S:
            raise EnvelopeExpired("The envelope is valid for more than 31 days")
        if claims.expires_at <= now:
            raise EnvelopeExpired("The envelope has expired: ask for another")

    def _expect_in_order(self, old: AccountRow | None) -> None:
        claims, name = self._claims, self._opened.authority
        last = self._tx.envelope_sequence(claims.account)
        if last is not None and claims.sequence <= last.sequence:
            # By whichever authority it was, and whether the account is there or not:
            # an older seed must not come back after a deletion.
            if not self._remember():
                raise EnvelopeReplayed(_REPLAYED)
            raise EnvelopeStale("A later envelope for this account was accepted")
        # An account that was deleted and made again, or had its seed replaced, here is
        # no longer what that envelope brought: its seed came at another time.
        if old is not None and (
            last is None
            or last.authority != name
            or last.accepted_at != old.imported_at
        ):
            raise AccountExists("The account's seed is not of this authority")

    def _remember(self) -> bool:
        claims = self._claims
        return self._tx.remember_envelope(
            self._opened.authority, claims.jti, float(claims.expires_at)
        )

    def _record(self, caller: Caller | None, *, is_new: bool) -> int:
        """Write the audit event; returns its id."""
        claims = self._claims
        detail: dict[str, int | str] = {
            "authority": self._opened.authority,
            "suite": self._opened.suite,
            "kid": self._opened.kid,
            "seq": claims.sequence,
            "jti": claims.jti,
            "new": int(is_new),
        }
        if caller is not None:
            detail["caller"] = caller.id
        event = Event(Kind.ENVELOPE_ACCEPTED, self._now, claims.account, detail)
        Ledger(self._tx, self._storage_key).record(event)
        # The transaction is alone: the newest event is this one.
        (row,) = self._tx.newest_events(1)
        return row.id

    def _receipt(self, event: int, signer: tuple[str, Ed25519PrivateKey]) -> str:
        signing_kid, key = signer
        return receipt.make(
            self._opened,
            kid=self._opened.kid,
            event=event,
            service_nonce=secrets.token_bytes(receipt.NONCE_BYTES),
            signing_kid=signing_kid,
            key=key,
            now=self._now,
        )


def _new_seed(claims: SeedClaims) -> NewSeed:
    new = NewSeed(
        claims.account,
        claims.seed,
        claims.parameters,
        claims.service_name,
        claims.label,
        counter=claims.counter,
    )
    new.check()
    return new
