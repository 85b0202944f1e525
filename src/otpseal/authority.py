"""The authority's use cases: issue a sealed seed, check a commit proof."""

import hashlib
import secrets
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal import keypolicy
from otpseal.audit import NO_ACCOUNT, Event, Kind
from otpseal.envelope import SEED_BYTES, seal
from otpseal.errors import (
    BindingConflict,
    CapacityReached,
    RequestRefused,
    StoreMismatch,
)
from otpseal.ledger import Ledger
from otpseal.ports import Clock, IssuedSeed, Keys, Store
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey

#: Longest student_id and github_repo_url, in bytes of UTF-8.
MAX_NAME_BYTES = 1024


class Authority:
    """Makes seeds, remembers whom each belongs to, and seals them.

    Args:
        store: durable state.
        keys: the authority's key pair.
        storage_key: what protects its copies of the seeds.
        clock: gives the Unix time.
        max_seeds: pairs it keeps seeds for, at most.
    """

    def __init__(
        self,
        store: Store,
        *,
        keys: Keys,
        storage_key: StorageKey,
        clock: Clock,
        max_seeds: int,
    ) -> None:
        self.store = store
        self.keys = keys
        self._storage_key = storage_key
        self._clock = clock
        self._max_seeds = max_seeds

    def issue(self, student_id: str, github_repo_url: str, public_key: bytes) -> str:
        """Return the pair's seed sealed to `public_key`; 684 characters for RSA-4096.

        The first request makes the seed and binds it to that key; the same request
        gives the same seed again. Another key is refused, else anyone could have
        anyone's seed sealed to himself.

        Args:
            student_id: the subscriber; compared byte for byte, as is the next.
            github_repo_url: the repository.
            public_key: PEM.

        Raises:
            RequestRefused: a name that is too long or no text.
            KeyRefused: a key that the policy does not accept.
            BindingConflict: the pair is bound to another key; that is counted.
            CapacityReached: no room for a new pair; that is counted.
            SeedUnreadable: the stored seed is damaged, or was bound by a stranger.
            StoreUnavailable: nothing was made.
        """
        pair = pair_id(student_id, github_repo_url)
        key = keypolicy.parse_public_key(public_key)
        seed = self._seed_for(pair, student_id, github_repo_url, key)
        return seal(seed, key)

    def _seed_for(
        self, pair: bytes, student_id: str, github_repo_url: str, key: RSAPublicKey
    ) -> Secret:
        kid = keypolicy.key_id(key)
        refusal: RequestRefused
        with self.store.transaction() as tx:
            now = self._clock()
            ledger = Ledger(tx, self._storage_key)
            issued = tx.issued(pair)
            if issued is not None and issued.kid == kid:
                seed = self._open(issued)
                # One count for all pairs: a stranger can make pairs at will.
                ledger.count(Kind.SEED_REISSUED, NO_ACCOUNT, now)
                return seed
            if issued is not None:
                refusal = BindingConflict(
                    "this student_id and github_repo_url are bound to another public"
                    " key; if that key is lost, an administrator can run `otpseal"
                    " authority rebind`"
                )
            elif tx.issued_count() >= self._max_seeds:
                refusal = CapacityReached(
                    "this authority holds as many seeds as it is allowed to"
                    " (OTPSEAL_AUTHORITY_MAX_SEEDS)"
                )
            else:
                seed = Secret(secrets.token_bytes(SEED_BYTES))
                sealed = self._storage_key.seal_seed(seed, _place(pair, kid))
                tx.put_issued(
                    IssuedSeed(pair, student_id, github_repo_url, kid, sealed, now)
                )
                detail = {"pair": pair.hex(), "kid": kid}
                ledger.record(Event(Kind.SEED_ISSUED, now, detail=detail))
                return seed
            ledger.count(Kind.REQUEST_REFUSED, NO_ACCOUNT, now)
        # Raised only here: an exception inside would undo the count.
        raise refusal

    def rebind(self, student_id: str, github_repo_url: str, public_key: bytes) -> str:
        """Bind a pair to another key and keep its seed; returns the new kid.

        An administrator's decision, for a subscriber who lost his key.

        Raises:
            RequestRefused: the authority has no seed for this pair.
            KeyRefused: a key that the policy does not accept.
            SeedUnreadable, StoreUnavailable: nothing was changed.
        """
        pair = pair_id(student_id, github_repo_url)
        kid = keypolicy.key_id(keypolicy.parse_public_key(public_key))
        with self.store.transaction() as tx:
            issued = tx.issued(pair)
            if issued is None:
                raise RequestRefused(
                    "there is no seed for this student_id and github_repo_url: both"
                    " are compared byte for byte"
                )
            now = self._clock()
            sealed = self._storage_key.seal_seed(self._open(issued), _place(pair, kid))
            tx.put_issued(replace(issued, kid=kid, sealed_seed=sealed))
            detail = {"pair": pair.hex(), "kid": kid}
            event = Event(Kind.REBOUND, now, detail=detail)
            Ledger(tx, self._storage_key).record(event)
        return kid

    def _open(self, issued: IssuedSeed) -> Secret:
        place = _place(issued.pair, issued.kid)
        return self._storage_key.open_seed(issued.sealed_seed, place)

    def check_store(self) -> None:
        """Tell by returning that seeds can be issued.

        Raises:
            StoreUnavailable: they cannot; says why.
        """
        with self.store.transaction() as tx:
            if tx.storage_key_record() is None:
                raise StoreMismatch(
                    "the store was emptied while the authority ran: restore the"
                    " database from a backup and restart"
                )

    def settle(self) -> None:
        """Write the events about what was only counted; called every minute.

        Raises:
            StoreUnavailable: nothing was written; the next call may succeed.
        """
        with self.store.transaction() as tx:
            Ledger(tx, self._storage_key).flush(self._clock())


def _place(pair: bytes, kid: str) -> str:
    # With the kid in it, whoever can write the database cannot rebind a pair to
    # himself: the seed does not open in its new place.
    return f"{pair.hex()} {kid}"


def pair_id(student_id: str, github_repo_url: str) -> bytes:
    """Return SHA-256 over both names, each with its length (4 bytes, big endian).

    Raises:
        RequestRefused: a name is empty, too long, or has lone surrogates.
    """
    digest = hashlib.sha256(b"otpseal pair v1")
    for field, name in (
        ("student_id", student_id),
        ("github_repo_url", github_repo_url),
    ):
        try:
            raw = name.encode("utf-8")
        except UnicodeEncodeError:
            raise RequestRefused(f"{field} is not valid text") from None
        if not raw or len(raw) > MAX_NAME_BYTES or b"\0" in raw:
            raise RequestRefused(
                f"{field} must have 1 to {MAX_NAME_BYTES} bytes and no NUL"
            )
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return digest.digest()
