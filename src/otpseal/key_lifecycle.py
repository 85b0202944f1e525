"""The life of import keys: the next is prepared, becomes active, retires.

`rotate` re-wraps the storage key with the next key in one transaction, then lets the
files follow; a token is left as it is, and the settings follow by hand. The store's
record says which key is the active one; the files are where it is looked for. So a
process that is killed between the two leaves a store that opens (with the next key,
where it lies), and a second `rotate` lets the files follow.

A re-wrapped storage key is the same key: what an old backup holds, the old private
key still opens. `otpseal.storage_rotation` makes another.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

from otpseal.audit import Detail, Event, Kind
from otpseal.errors import (
    ConfigurationError,
    KeyRefused,
    KeyUnavailable,
    StoreMismatch,
)
from otpseal.key_records import ImportKeyRow, KeyLives, KeyState, rsa_jwk
from otpseal.ledger import Ledger, rfc3339
from otpseal.ports import Clock, Keys, Store, Transaction
from otpseal.ports_key_files import KeyFiles, Seam, Step, unseen
from otpseal.storage_key import StorageKey

#: How long a key opens after another took its place, in seconds, unless told.
OVERLAP_S: Final = 86_400.0

#: The longest overlap, in seconds: a year.
MAX_OVERLAP_S: Final = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` did.

    Attributes:
        kid: of the next key.
        made: whether the key was made, and did not lie there.
        published: whether it was not published before.
    """

    kid: str
    made: bool
    published: bool


@dataclass(frozen=True, slots=True)
class Rotated:
    """What `rotate` did.

    Attributes:
        kid: of the active key.
        before: of the key whose place it took; None if only an interrupted rotation
            was finished.
        until: when that one stops to open, in Unix seconds.
        setting: what OTPSEAL_KEY must say from now on; None if it is right.
    """

    kid: str
    before: str | None = None
    until: float = -math.inf
    setting: str | None = None


class KeyLifecycle:
    """An administrator's dealings with import keys.

    Args:
        store: where the storage key rests.
        storage_key: the storage key.
        files: the private keys.
        clock: gives the Unix time.
        reached: told of each step.
    """

    def __init__(
        self,
        store: Store,
        storage_key: StorageKey,
        files: KeyFiles,
        clock: Clock,
        *,
        reached: Seam = unseen,
    ) -> None:
        self._store = store
        self._storage_key = storage_key
        self._files = files
        self._clock = clock
        self._reached = reached

    def prepare(self, named: Keys | None = None) -> Prepared:
        """Make the next key, if none lies ready, and publish it.

        It opens what is sealed to it from now on, wherever its file is.

        Args:
            named: the next key itself, in a token; it is not made then.

        Raises:
            ConfigurationError: the setting of the active key is to be changed first.
            KeyRefused: the key that lies ready had its time already.
            KeyUnavailable, StoreUnavailable: nothing was published.
        """
        with self._files.held():
            active = self._active_kid()
            self._files.promote(active, self._reached)
            ready, made = self._laid_ready(active) if named is None else (named, False)
            if named is not None and self._files.load(named.kid) is None:
                raise KeyUnavailable(
                    f"the key {named.kid} is not where a service looks for it: in the"
                    " token of OTPSEAL_KEY, or of OTPSEAL_OTHER_KEY"
                )
            with self._store.transaction() as tx:
                now = self._clock()
                table = KeyTable(tx, self._storage_key)
                known = table.lives.rows.get(ready.kid)
                self._expect_fresh(known, ready.kid, table.lives.active)
                # The one that was prepared last is the next.
                if known is None or known.kid != table.lives.next_kids()[-1]:
                    table.put(_next_row(ready, table.lives, now))
                if known is None:
                    detail = {"kid": ready.kid}
                    event = Event(Kind.IMPORT_KEY_PREPARED, now, detail=detail)
                    Ledger(tx, self._storage_key).record(event)
        return Prepared(ready.kid, made, known is None)

    def rotate(self, *, overlap_s: float = OVERLAP_S) -> Rotated:
        """Put the next key in the place of the active one; or finish doing so.

        Args:
            overlap_s: how long the key before still opens, 0 to `MAX_OVERLAP_S`.

        Raises:
            ValueError: the overlap is out of range.
            KeyRefused: the key that lies ready had its time already.
            StoreMismatch: another machine rotated meanwhile.
            KeyUnavailable, StoreUnavailable: say what to do; safe to repeat.
        """
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise ValueError("an overlap has 0 seconds to 366 days")
        with self._files.held():
            kid = self._active_kid()
            if self._files.promote(kid, self._reached):
                return Rotated(kid)
            before = self._files.load(kid)
            assert before is not None  # or `promote` had raised
            ready = self._prepared()
            if ready is None:
                # The settings follow a rotation last, and by hand: until then it is
                # one that was interrupted, perhaps. Another key is not made for it.
                if (setting := self._files.setting_for(kid)) is not None:
                    return Rotated(kid, setting=setting)
                ready, _ = self._laid_ready(kid)
            self._reached(Step.MADE)
            until = self._replace(before, ready, overlap_s)
            self._reached(Step.COMMITTED)
            self._files.promote(ready.kid, self._reached)
            setting = self._files.setting_for(ready.kid)
        return Rotated(ready.kid, before.kid, until, setting)

    def _active_kid(self) -> str:
        with self._store.transaction() as tx:
            return KeyTable(tx, self._storage_key).lives.active

    def _prepared(self) -> Keys | None:
        """Return the key that was prepared last, of those that are still here."""
        with self._store.transaction() as tx:
            lives = KeyTable(tx, self._storage_key).lives
        for kid in reversed(lives.next_kids()):
            if (found := self._files.load(kid)) is not None:
                return found
        return None

    def _laid_ready(self, active: str) -> tuple[Keys, bool]:
        if (setting := self._files.setting_for(active)) is not None:
            # Else a key file would take over from a token because nobody had
            # told the settings of the token.
            raise ConfigurationError(outdated(active, setting))
        ready = self._files.load_next()
        if ready is not None:
            return ready, False
        return self._files.make_next(), True

    def _replace(self, before: Keys, ready: Keys, overlap_s: float) -> float:
        with self._store.transaction() as tx:
            # Within it: the storage key may be replaced at any time before.
            record = self._storage_key.wrap(ready)
            now = self._clock()
            until = now + overlap_s
            table = KeyTable(tx, self._storage_key)
            if table.lives.active != before.kid:
                raise StoreMismatch(
                    "another machine replaced the import key meanwhile: copy its key"
                    " file here, then run this again if you still mean it"
                )
            known = table.lives.rows.get(ready.kid)
            self._expect_fresh(known, ready.kid, table.lives.active)
            old = table.lives.rows.get(before.kid) or _row(before, KeyState.ACTIVE, now)
            new = known or _next_row(ready, table.lives, now)
            rows = {row.kid: row for row in table.lives.rows.values()}
            for row in (old, *_passed_over(table.lives, new)):
                rows[row.kid] = replace(row, state=KeyState.RETIRING, until=until)
            rows = {row.kid: _aged(row, now) for row in rows.values()}
            rows[new.kid] = replace(new, state=KeyState.ACTIVE)
            tx.replace_storage_key_record(record)
            # By the new record: no row of before it is one any more.
            for row in rows.values():
                tx.put_import_key(row.signed(self._storage_key, record))
            detail: Detail = {
                "kid": ready.kid,
                "before": before.kid,
                "until": rfc3339(until),
            }
            event = Event(Kind.IMPORT_KEY_ROTATED, now, detail=detail)
            Ledger(tx, self._storage_key).record(event)
            self._reached(Step.WRITTEN)
        return until

    def _expect_fresh(self, row: ImportKeyRow | None, kid: str, active: str) -> None:
        if kid == active or (row is not None and row.state is not KeyState.NEXT):
            raise KeyRefused(
                f"the key that lies ready, {kid}, was the active one before, or another"
                " was made active in its place, and a key that had its time does not"
                " come back: move its file away, or name another one in the token"
            )


def outdated(active: str, setting: str) -> str:
    """Return what to do about an OTPSEAL_KEY that names the key before."""
    return (
        f"the import key was replaced, and OTPSEAL_KEY names the one before: the store"
        f" belongs to {active} now. Set OTPSEAL_KEY='{setting}'"
    )


class KeyTable:
    """The genuine rows of import keys, within one transaction.

    Attributes:
        lives: of the keys with genuine rows, and of the active one.
        altered: kids of rows that this program did not write since then; worth
            nothing.

    Raises:
        StoreMismatch: the store has no record.
    """

    def __init__(self, tx: Transaction, storage_key: StorageKey) -> None:
        record = tx.storage_key_record()
        if record is None:
            raise StoreMismatch("the store has lost its key record")
        self._tx = tx
        self._storage_key = storage_key
        self._record = record
        rows: dict[str, ImportKeyRow] = {}
        self.altered: list[str] = []
        for row in tx.import_keys():
            if row.is_genuine(storage_key, record):
                rows[row.kid] = row
            else:
                self.altered.append(row.kid)
        self.lives = KeyLives(StorageKey.record_kid(record), rows)

    def put(self, row: ImportKeyRow) -> None:
        """Write a row, authenticated."""
        self._tx.put_import_key(row.signed(self._storage_key, self._record))


def _row(keys: Keys, state: KeyState, now: float) -> ImportKeyRow:
    return ImportKeyRow(keys.kid, state, rsa_jwk(keys.public_key), now)


def _next_row(keys: Keys, lives: KeyLives, now: float) -> ImportKeyRow:
    # Which was prepared last must not depend on a clock that was set back.
    newest = max((row.made_at for row in lives.rows.values()), default=-math.inf)
    return _row(keys, KeyState.NEXT, max(now, math.nextafter(newest, math.inf)))


def _passed_over(lives: KeyLives, new: ImportKeyRow) -> list[ImportKeyRow]:
    """Return the keys that lay ready before the one that becomes active.

    Left to be the next, one in a file would take over again from one in a token.
    """
    ready = (lives.rows[kid] for kid in lives.next_kids())
    return [row for row in ready if row.made_at < new.made_at]


def _aged(row: ImportKeyRow, now: float) -> ImportKeyRow:
    return replace(row, state=row.state_at(now))
