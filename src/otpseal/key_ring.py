"""The import keys that open what arrives: the active one, the next, those retiring.

A running service picks a rotation up by itself: at most once a second it reads which
keys the store has and where they are in their lives, and loads the files that it
lacks. A key whose time is over opens nothing from that second on, in any process.

The classic form names no key. It is tried with the active one, and while another is
retiring always with all of them: which of them opened it shows in no time.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal.audit import NO_ACCOUNT, Kind
from otpseal.errors import (
    KeyRefused,
    KeyUnavailable,
    StoreMismatch,
    UnsealFailed,
)
from otpseal.key_lifecycle import KeyTable
from otpseal.key_records import KeyLives, KeyState, rsa_jwk
from otpseal.ledger import Ledger
from otpseal.ports import Clock, Keys, Store
from otpseal.storage_key import StorageKey

#: How often the store is asked at most, in seconds.
REFRESH_S: Final = 1.0

#: How often the file of a key is looked for that was not there, in seconds.
MISSING_S: Final = 10.0

_log = logging.getLogger("otpseal")

#: The OAEP decryption of one import key; raises `UnsealFailed`.
Unwrap = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """An import key that may be sealed to.

    Attributes:
        kid: RFC 7638 thumbprint.
        state: active or next.
        jwk: its public half, a JWK in JSON.
    """

    kid: str
    state: KeyState
    jwk: str


class KeyRing:
    """`otpseal.ports.Keys` that are the active key, and opens for the others too.

    Args:
        keys: the active key when the process started.
        store: says where keys are in their lives.
        storage_key: authenticates what it says.
        load: gives the private key of a kid, None if it is not on this machine.
        clock: gives the Unix time.
        monotonic: seconds that only ever rise.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        store: Store,
        storage_key: StorageKey,
        load: Callable[[str], Keys | None],
        clock: Clock,
        monotonic: Clock,
    ) -> None:
        self._active = keys
        self._store = store
        self._storage_key = storage_key
        self._load = load
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._view = KeyLives(keys.kid)
        self._read_at = float("-inf")
        self._loaded: dict[str, Keys] = {keys.kid: keys}
        self._missing_since: dict[str, float] = {}

    # As `otpseal.ports.Keys`: the active key.

    @property
    def kid(self) -> str:
        """See `otpseal.ports.Keys`."""
        return self._active.kid

    @property
    def public_key(self) -> RSAPublicKey:
        """See `otpseal.ports.Keys`."""
        return self._active.public_key

    def pss_sign(self, message: bytes, *, salt_length: int) -> bytes:
        """See `otpseal.ports.Keys`."""
        return self._active.pss_sign(message, salt_length=salt_length)

    def oaep_decrypt(self, ciphertext: bytes, *, label: bytes | None = None) -> bytes:
        """Open what names no key; see `otpseal.ports.Keys`.

        Raises:
            UnsealFailed: none of the keys opens it, for every cause alike.
            StoreUnavailable: nobody knows which keys may be tried.
            StoreMismatch: an older state of the keys was put back.
        """
        self._refresh()
        opened = None
        opening = KeyState.ACTIVE, KeyState.RETIRING
        for kid in self._view.in_state(self._clock(), *opening):
            keys = self._get(kid)
            if keys is None:
                continue
            try:
                opened = keys.oaep_decrypt(ciphertext, label=label)
            except UnsealFailed:
                continue
        if opened is None:
            raise UnsealFailed
        return opened

    # By kid.

    def unwrap(self, kid: str) -> Unwrap | None:
        """Return the decryption of the key of that kid; None if it must not open.

        That a retired one was asked for is counted in the audit log.

        Raises:
            StoreUnavailable: nobody knows where the key is in its life.
        """
        self._refresh()
        now = self._clock()
        state = self._view.state_of(kid, now)
        if state is KeyState.RETIRED:
            with self._store.transaction() as tx:
                ledger = Ledger(tx, self._storage_key)
                ledger.count(Kind.IMPORT_KEY_REFUSED, NO_ACCOUNT, now)
            return None
        keys = None if state is None else self._get(kid)
        return None if keys is None else keys.oaep_decrypt

    def published(self) -> list[PublishedKey]:
        """Return the keys that may be sealed to: the active one, then the next.

        Raises:
            StoreUnavailable: nobody knows.
        """
        self._refresh()
        view, now = self._view, self._clock()
        found = []
        for state in (KeyState.ACTIVE, KeyState.NEXT):
            for kid in view.in_state(now, state):
                row = view.rows.get(kid)
                jwk = row.public if row is not None else self._own_jwk(kid)
                if jwk is not None:
                    found.append(PublishedKey(kid, state, jwk))
        return found

    def _own_jwk(self, kid: str) -> str | None:
        keys = self._get(kid)
        return None if keys is None else rsa_jwk(keys.public_key)

    def _refresh(self) -> None:
        with self._lock:
            at = self._monotonic()
            if at - self._read_at < REFRESH_S:
                return
            with self._store.transaction(shared=True) as tx:
                view = KeyTable(tx, self._storage_key).lives
            known = self._view.active
            # As at a start: an older record is genuine, and brings a key back.
            if view.active != known and not view.succeeded(known):
                raise StoreMismatch(
                    f"the store names the import key {view.active}, which never took"
                    f" the place of {known}: somebody put an older state of it back"
                )
            self._read_at = at
            self._view = view
            now = self._clock()
            for kid in list(self._loaded):
                if view.state_of(kid, now) in {None, KeyState.RETIRED}:
                    # What is not in memory any more cannot leak from it.
                    self._loaded.pop(kid)
        if self._active.kid != view.active:
            found = self._get(view.active)
            if found is not None:
                self._active = found

    def _get(self, kid: str) -> Keys | None:
        """Return a key that may open, loaded; None if its file is not here."""
        with self._lock:
            if kid in self._loaded:
                return self._loaded[kid]
            at = self._monotonic()
            if at - self._missing_since.get(kid, float("-inf")) < MISSING_S:
                return None
            found = self._found(kid)
            if found is None:
                self._missing_since[kid] = at
            else:
                self._loaded[kid] = found
            return found

    def _found(self, kid: str) -> Keys | None:
        try:
            found = self._load(kid)
        except (KeyRefused, KeyUnavailable) as error:
            _log.warning("an import key cannot be loaded: %s", error)
            return None
        if found is None:
            _log.warning(
                "the store has the import key %s, but it is not where OTPSEAL_KEY"
                " looks on this machine: what is sealed to it is refused here; copy"
                " its file, or name its place by OTPSEAL_OTHER_KEY",
                kid,
            )
        return found
