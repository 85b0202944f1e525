"""Import keys as they rest in the store: their rows, without private halves.

A row is authenticated: who can write the database must not bring a
key back that was retired. Its MAC covers the storage key record, too, which every
rotation replaces, so that a copy of an older row is worth nothing::

    canonical = version (1) || SHA-256(storage key record) || lp16(kid) || lp16(state)
                || lp16(public JWK) || made_at (8) || until (8, or none)

Times are IEEE 754 doubles, big endian.
"""

import hashlib
import hmac
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from otpseal import public_jwk
from otpseal.storage_key import StorageKey

_VERSION: Final = b"\x01"


class KeyState(StrEnum):
    """Where an import key is in its life."""

    NEXT = "next"
    """Made and published; opens what is sealed to it, but nobody is told to."""

    ACTIVE = "active"
    """Wraps the storage key; clients send its public half."""

    RETIRING = "retiring"
    """Was active; opens until a time."""

    RETIRED = "retired"
    """Opens nothing any more."""


@dataclass(frozen=True, slots=True)
class ImportKeyRow:
    """An import key as it rests; the private half is elsewhere.

    Attributes:
        kid: RFC 7638 thumbprint.
        state: as it was written; a retiring key is retired when its time is over.
        public: the public half as a JWK.
        made_at: Unix seconds.
        until: when a retiring key stops to open, in Unix seconds; else None.
        mac: over all of this and the storage key record.
    """

    kid: str
    state: KeyState
    public: str
    made_at: float
    until: float | None = None
    mac: bytes = field(default=b"", repr=False)

    def signed(self, storage_key: StorageKey, record: bytes) -> "ImportKeyRow":
        """Return the row with its MAC, for a store of that record."""
        return replace(self, mac=storage_key.import_key_mac(self._canonical(record)))

    def is_genuine(self, storage_key: StorageKey, record: bytes) -> bool:
        """Tell whether this program wrote the row since the record was made."""
        expected = storage_key.import_key_mac(self._canonical(record))
        return hmac.compare_digest(expected, self.mac)

    def state_at(self, now: float) -> KeyState:
        """Return where the key is in its life at `now`."""
        if self.state is KeyState.RETIRING and (
            self.until is None or now >= self.until
        ):
            return KeyState.RETIRED
        return self.state

    def _canonical(self, record: bytes) -> bytes:
        parts = [_VERSION, hashlib.sha256(record).digest()]
        for text in (self.kid, self.state.value, self.public):
            raw = text.encode("utf-8")
            parts += (len(raw).to_bytes(2, "big"), raw)
        parts.append(struct.pack(">d", self.made_at))
        if self.until is not None:
            parts.append(struct.pack(">d", self.until))
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class KeyLives:
    """Where a store's import keys are in their lives, as it said at one instant.

    Attributes:
        active: kid of the key that the storage key's record names; it alone says so.
        rows: the genuine rows by kid. That of the active key may be missing, in a
            store whose key was never replaced.
    """

    active: str
    rows: Mapping[str, ImportKeyRow] = field(default_factory=dict)

    def state_of(self, kid: str, now: float) -> KeyState | None:
        """Return where a key is in its life at `now`; None if it is not known."""
        if kid == self.active:
            return KeyState.ACTIVE
        row = self.rows.get(kid)
        if row is None:
            return None
        state = row.state_at(now)
        return KeyState.RETIRED if state is KeyState.ACTIVE else state

    def succeeded(self, kid: str) -> bool:
        """Tell whether the active key, or one before it, took a key's place.

        Who writes the database can put an older record back, with the rows that it
        had: they do not know what came after them.
        """
        row = self.rows.get(kid)
        return row is not None and row.state in {KeyState.RETIRING, KeyState.RETIRED}

    def next_kids(self) -> list[str]:
        """Return the kids of the keys that lie ready, the one prepared last at last."""
        rows = (row for row in self.rows.values() if row.state is KeyState.NEXT)
        return [row.kid for row in sorted(rows, key=lambda row: row.made_at)]

    def in_state(self, now: float, *states: KeyState) -> list[str]:
        """Return the kids that are in one of these states at `now`, sorted."""
        kids = {self.active, *self.rows}
        return sorted(kid for kid in kids if self.state_of(kid, now) in states)


def rsa_jwk(key: RSAPublicKey) -> str:
    """Return the members of RFC 7638 of an RSA key as canonical JSON."""
    canonical = public_jwk.canonical(key)
    return json.dumps(canonical, sort_keys=True, separators=(",", ":"))
