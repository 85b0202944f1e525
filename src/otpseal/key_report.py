"""Which keys a store has, where each is in its life, and what depends on it."""

from dataclasses import dataclass
from typing import Final

from otpseal.key_lifecycle import KeyTable
from otpseal.key_records import KeyState
from otpseal.ledger import rfc3339
from otpseal.ports import Clock, Store, Transaction
from otpseal.service_keys import PQ, RECEIPTS
from otpseal.storage_key import StorageKey

#: What the service's own keys are for, by use.
_OWN: Final = {
    RECEIPTS.name: "receipts to authorities",
    PQ.name: "envelopes of the suite pq that are sealed to it",
}

#: The state of a row that this program did not write: worth nothing.
ALTERED = "altered"


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A key as it is listed.

    Attributes:
        kid: RFC 7638 thumbprint; empty for the storage key, which has no name.
        use: import, storage, or what a key of the service's own is for.
        state: next, active, retiring, retired or altered.
        made_at: Unix seconds, or None where nobody wrote it down.
        until: when it stops to open, in Unix seconds; None for never.
        needed_by: what would be lost with it, in words.
    """

    kid: str
    use: str
    state: str
    made_at: float | None
    until: float | None
    needed_by: tuple[str, ...]


def list_keys(store: Store, storage_key: StorageKey, clock: Clock) -> list[KeyFacts]:
    """Return the import keys, the storage key and the service's own keys.

    Raises:
        StoreUnavailable: they cannot be read.
    """
    with store.transaction() as tx:
        now = clock()
        found = _import_keys(KeyTable(tx, storage_key), now)
        found.append(_storage_key(tx))
        for row in tx.service_keys():
            needed = (_OWN.get(row.use, "nothing known"),)
            state = KeyState.ACTIVE
            found.append(KeyFacts(row.kid, row.use, state, row.made_at, None, needed))
    return found


def _import_keys(table: KeyTable, now: float) -> list[KeyFacts]:
    lives = table.lives
    found = []
    for state in KeyState:
        for kid in lives.in_state(now, state):
            row = lives.rows.get(kid)
            made_at, until = (None, None) if row is None else (row.made_at, row.until)
            if state is KeyState.ACTIVE:
                until = None
            needed = _needed_by(state, until)
            found.append(KeyFacts(kid, "import", state, made_at, until, needed))
    found += [
        KeyFacts(kid, "import", ALTERED, None, None, ("nothing: the row is ignored",))
        for kid in table.altered
        if kid != lives.active
    ]
    return found


def _needed_by(state: KeyState, until: float | None) -> tuple[str, ...]:
    if state is KeyState.ACTIVE:
        return "the storage key's record", "what is sealed to it", "new backups"
    if state is KeyState.NEXT:
        return ("what is sealed to it already",)
    if state is KeyState.RETIRING and until is not None:
        return f"what is sealed to it, until {rfc3339(until)}", "backups of its time"
    return ("backups of its time",)


def _storage_key(tx: Transaction) -> KeyFacts:
    needed = [f"the seeds of {len(tx.account_ids())} accounts", "the audit events"]
    if issued := tx.issued_count():
        needed.append(f"{issued} issued seeds")
    if own := len(tx.service_keys()):
        needed.append(f"{own} of the service's own keys")
    if pinned := len(tx.pinned_authorities()):
        needed.append(f"{pinned} pinned authorities")
    return KeyFacts("", "storage", KeyState.ACTIVE, None, None, tuple(needed))
