"""Which authorities are pinned: added, listed and removed; on this machine only.

Whoever can write the database could plant an authority of his own, and with it any
seed. So each row carries a MAC under a subkey of the storage key, over
(integers big endian, `lp32(x)` = four bytes of length, then x)::

    version (1) || lp32(name) || lp32(prefix) || lp32(material) || added_at (8)

with `added_at` as an IEEE 754 double. A row whose MAC is wrong is no authority, and
as long as there is one, none is believed: nobody knows what else was changed.

A whole row of an earlier time, with its MAC, can be put back; `TrustBook.put_back`
tells by the audit log.
"""

import hashlib
import hmac
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from otpseal.audit import NO_ACCOUNT, Detail, Event, Kind
from otpseal.errors import KeyRefused, PinForged, PinMissing, PinRefused
from otpseal.ledger import Ledger
from otpseal.ledger import is_genuine as is_genuine_event
from otpseal.ports import Clock, Store
from otpseal.ports_trust import PinnedRow, TrustTransaction
from otpseal.seed_claims import is_authority_name
from otpseal.storage_key import StorageKey
from otpseal.trust import PinnedAuthority, pin

#: Most authorities of one service.
MAX_AUTHORITIES: Final = 64

_VERSION: Final = b"\x01"
#: So many of the newest events of each kind are compared with what is pinned.
_EVENTS: Final = 1000
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Pin:
    """A pinned authority as it is listed.

    Attributes:
        authority: name, prefix and keys as stored.
        added_at: Unix seconds.
        genuine: whether this service pinned it.
    """

    authority: PinnedAuthority
    added_at: float
    genuine: bool

    def days_left(self, now: float) -> float | None:
        """Return how long its CA is valid from `now` on; None if it has none."""
        if not self.genuine or self.authority.ca is None:
            return None
        ends = self.authority.ca.not_valid_after_utc.timestamp()
        return (ends - now) / _DAY_S


def pinned_authorities(
    tx: TrustTransaction, storage_key: StorageKey
) -> list[PinnedAuthority]:
    """Return the authorities that are trusted.

    Raises:
        PinForged: a row was not written by this service; then none is.
    """
    rows = tx.pinned_authorities()
    if not all(is_genuine(row, storage_key) for row in rows):
        raise PinForged
    return [PinnedAuthority(row.name, row.prefix, row.material) for row in rows]


def pinned_row(
    authority: PinnedAuthority, added_at: float, storage_key: StorageKey
) -> PinnedRow:
    """Return an authority as it rests under a storage key."""
    name, prefix, material = authority.name, authority.prefix, authority.material
    mac = storage_key.trust_mac(_canonical(name, prefix, material, added_at))
    return PinnedRow(name, prefix, material, float(added_at), mac)


def is_genuine(row: PinnedRow, storage_key: StorageKey) -> bool:
    """Tell whether a row is as this service wrote it, under this storage key."""
    # Of any type: SQLite keeps in a column what it is told to.
    texts: tuple[object, ...] = row.name, row.prefix, row.material
    others: tuple[object, object] = row.added_at, row.mac
    if not all(isinstance(text, str) for text in texts):
        return False
    if not isinstance(others[0], float) or not isinstance(others[1], bytes):
        return False
    canonical = _canonical(row.name, row.prefix, row.material, row.added_at)
    return hmac.compare_digest(storage_key.trust_mac(canonical), row.mac)


class TrustBook:
    """Pins, lists and unpins authorities.

    Args:
        store: durable state.
        storage_key: authenticates the rows and the audit events.
        clock: gives the Unix time.
    """

    def __init__(self, store: Store, storage_key: StorageKey, clock: Clock) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock

    def add(
        self, name: str, file: bytes, *, prefix: str = "", replace: bool = False
    ) -> PinnedAuthority:
        """Trust an authority.

        Args:
            name: what it calls itself in what it signs.
            file: a JWKS or JWK, or a public key or a CA certificate in PEM form.
            prefix: only accounts that begin so are its own; ends in "/", or "".
            replace: whether one of that name is replaced, as for new keys.

        Raises:
            PinRefused: the name is taken, a key is another authority's, or it
                cannot be pinned like this.
            KeyRefused: a key or certificate that is not accepted.
            PinForged: one that is pinned is not genuine; that is counted.
            StoreUnavailable: nothing was pinned.
        """
        made = pin(name, prefix, file, now=self._clock())
        with self._store.transaction() as tx:
            now = self._clock()
            ledger = Ledger(tx, self._storage_key)
            try:
                known = pinned_authorities(tx, self._storage_key)
            except PinForged:
                ledger.count(Kind.PIN_FORGED, NO_ACCOUNT, now)
            else:
                is_known = any(other.name == name for other in known)
                if is_known and not replace:
                    raise PinRefused(
                        "an authority of this name is pinned already: remove it first,"
                        " or give --replace"
                    )
                _expect_own(made, [other for other in known if other.name != name])
                tx.pin_authority(pinned_row(made, now, self._storage_key))
                ledger.record(_pinned(made, now, is_replaced=is_known))
                return made
        # Raised only here: an exception inside would undo the count.
        raise PinForged

    def all(self) -> list[Pin]:
        """Return every row, those that were planted too."""
        with self._store.transaction(shared=True) as tx:
            rows = tx.pinned_authorities()
        key = self._storage_key
        return [
            Pin(
                PinnedAuthority(row.name, row.prefix, row.material),
                row.added_at,
                is_genuine(row, key),
            )
            for row in rows
        ]

    def put_back(self) -> list[str]:
        """Return the authorities that the audit log knows otherwise, by name.

        Removed, or pinned with other keys: whoever can write the database has put an
        earlier row in the place of today's. Of what was pruned, the log says nothing.
        """
        with self._store.transaction(shared=True) as tx:
            rows = tx.pinned_authorities()
            events = [
                event
                for kind in (Kind.AUTHORITY_PINNED, Kind.AUTHORITY_UNPINNED)
                for event in tx.newest_events(_EVENTS, kind=kind.value)
            ]
        told: dict[str, object] = {}
        for event in sorted(events, key=lambda event: event.id):
            if is_genuine_event(self._storage_key, event):
                detail = json.loads(event.detail)
                told[detail["authority"]] = detail.get("prefix"), detail.get("keys")
        found = [PinnedAuthority(row.name, row.prefix, row.material) for row in rows]
        return [
            pin.name for pin in found if told.get(pin.name, _told(pin)) != _told(pin)
        ]

    def remove(self, name: str) -> None:
        """Trust an authority no longer; its next envelope is refused.

        What it brought stays, and so do the sequences of its envelopes.

        Raises:
            PinMissing: there is none of that name.
        """
        with self._store.transaction() as tx:
            now = self._clock()
            if not tx.unpin_authority(name):
                raise PinMissing(
                    "no authority of this name is pinned: `otpseal authority trust"
                    " list` shows them"
                )
            # A planted row may have any name; only our own go into the log.
            told = name if is_authority_name(name) else ""
            event = Event(Kind.AUTHORITY_UNPINNED, now, detail={"authority": told})
            Ledger(tx, self._storage_key).record(event)


def fingerprints(authority: PinnedAuthority) -> list[str]:
    """Return what an authority's keys are compared by with what its operator says.

    Thumbprints of keys; `sha256:` and the certificate's hash in hex for a CA. Nothing
    for a row that was not written by us.
    """
    try:
        ca = authority.ca
        kids = list(authority.keys)
    except KeyRefused:
        return []
    return kids if ca is None else [ca_fingerprint(ca)]


def ca_fingerprint(certificate: x509.Certificate) -> str:
    """Return what a CA is compared by: `sha256:` and its certificate's hash in hex."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def _pinned(made: PinnedAuthority, now: float, *, is_replaced: bool) -> Event:
    detail: Detail = {
        "authority": made.name,
        "prefix": made.prefix,
        "keys": _told(made)[1],
        "replaced": int(is_replaced),
    }
    return Event(Kind.AUTHORITY_PINNED, now, detail=detail)


def _told(authority: PinnedAuthority) -> tuple[str, str]:
    """Return what the audit log says of an authority that is pinned."""
    return authority.prefix, " ".join(fingerprints(authority))


def _expect_own(made: PinnedAuthority, others: Sequence[PinnedAuthority]) -> None:
    if len(others) >= MAX_AUTHORITIES:
        raise PinRefused(f"{MAX_AUTHORITIES} authorities are pinned: remove one first")
    taken = {kid for other in others for kid in other.keys}
    if not taken.isdisjoint(made.keys):
        raise PinRefused(
            "a key of this authority is pinned for another one, which could then speak"
            " for it"
        )


def _canonical(name: str, prefix: str, material: str, added_at: float) -> bytes:
    parts = [_VERSION]
    for text in (name, prefix, material):
        raw = text.encode("utf-8")
        parts += (len(raw).to_bytes(4, "big"), raw)
    return b"".join([*parts, struct.pack(">d", added_at)])
