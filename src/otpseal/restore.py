"""Restores: a backup's content in the place of a store's.

What a restore must not do is open spent codes again. So it raises every TOTP
account's last step past everything that can be shown now; what the store that is
replaced knows better, it keeps; and what nobody knows, it takes for spent
(`otpseal.backup_merge`).

A restore never changes the storage key of a store that has one: a process that has
this store open holds its storage key in memory, and would go on with the wrong one.
A store without a storage key is open nowhere: no service starts on it without making
one first, under the same lock.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Final

from otpseal import backup_format
from otpseal.audit import Detail, Event, Kind
from otpseal.backup import CHUNK, Archive, Layout, Place, Progress, is_readable
from otpseal.backup_format import Header, Row
from otpseal.backup_merge import Known, Merge
from otpseal.errors import BackupRefused
from otpseal.ledger import Ledger, rfc3339
from otpseal.ports import Clock, Keys
from otpseal.storage_key import StorageKey
from otpseal.timekeeper import CLOCK_MARK
from otpseal.wallclock import is_behind

#: What takes its place whole, after what it held was looked at; all other tables keep
#: what they have and gain what is new.
_REPLACED: Final = (
    "accounts",
    "callers",
    "recovery_codes",
    "tombstones",
    "envelope_sequences",
)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did.

    Attributes:
        taken_at: of the backup, Unix seconds.
        accounts: how many there are now.
        raised: accounts whose last step was raised to now and the window.
        unreadable: accounts whose seeds did not decrypt before the backup, either.
        counters_unknown: HOTP accounts that were disabled, since nobody knows which
            of their codes were used after the backup.
        recovery_void: accounts that lost recovery codes, since these may be used.
        tickets_void: tickets for enrolment that expired, since they may be used.
        callers: callers that may call now.
        clock_behind: whether this machine's clock is behind what the store has seen.
    """

    taken_at: float
    accounts: int
    raised: int
    unreadable: list[str]
    counters_unknown: list[str]
    recovery_void: list[str]
    tickets_void: int
    callers: int
    clock_behind: bool


class Restorer:
    """Restores backups.

    Args:
        opened: opens the store that is restored into; made if it is not there.
        keys: the private key that the backup was made under.
        layout: of the tables.
        clock: gives the Unix time.
    """

    def __init__(
        self,
        opened: Callable[[], AbstractContextManager[Archive]],
        *,
        keys: Keys,
        layout: Layout,
        clock: Clock,
    ) -> None:
        self._opened = opened
        self._keys = keys
        self._layout = layout
        self._clock = clock

    def restore(
        self,
        file: BinaryIO,
        *,
        replace_existing: bool = False,
        unused_since: bool = False,
        told: Progress = lambda _n: None,
    ) -> Restored:
        """Put a backup's content in the place of a store's.

        Everything is verified before anything is changed; then it happens in one
        transaction.

        Args:
            file: the backup; can be rewound, and is read several times.
            replace_existing: whether a store with content is replaced.
            unused_since: an administrator's word that no service ran after the
                backup was taken, so that its counters and recovery codes are current.
            told: about the progress.

        Raises:
            BackupRefused: it is not ours, not whole, or not for this store.
            StoreMismatch: it was made under another private key.
            StoreUnavailable: nothing was changed.
        """
        header = backup_format.read_header(file)
        self._expect_readable(header)
        storage_key = StorageKey.unwrap(header.record, self._keys)
        backup_format.authenticate(file, storage_key.backup_mac())
        unreadable = self._examine(file, storage_key, told)
        with self._opened() as archive, archive.replacing() as place:
            now = self._clock()
            known = self._look(place, storage_key, replace_existing=replace_existing)
            if known is None:
                place.tx.set_storage_key_record(header.record)
            merge = Merge(known or Known(), now=now, unused_since=unused_since)
            rows = backup_format.read_rows(file, storage_key.backup_mac())
            accounts = _fill(place, merge, rows, told)
            raised = place.tx.raise_last_steps(now)
            disabled = [
                Event(Kind.ACCOUNT_DISABLED, now, name, {"by": "restore"})
                for name in merge.counters_unknown
            ]
            detail: Detail = {
                "taken_at": rfc3339(header.taken_at),
                "accounts": accounts,
            }
            event = Event(Kind.BACKUP_RESTORED, now, detail=detail)
            Ledger(place.tx, storage_key).record(event, *disabled)
            mark_ms = place.tx.mark(CLOCK_MARK)
        return Restored(
            taken_at=header.taken_at,
            accounts=accounts,
            raised=raised,
            unreadable=unreadable,
            counters_unknown=merge.counters_unknown,
            recovery_void=sorted(merge.recovery_void),
            tickets_void=merge.tickets_void,
            callers=merge.callers,
            clock_behind=mark_ms is not None and is_behind(now, mark_ms / 1000),
        )

    def _expect_readable(self, header: Header) -> None:
        ours = self._layout.schema
        if header.kid != self._keys.kid:
            raise BackupRefused(
                f"this backup belongs to the private key {header.kid}, not to the one"
                f" given, {self._keys.kid}: point OTPSEAL_KEY_FILE at it; no other key"
                " opens the backup"
            )
        if header.schema > ours:
            raise BackupRefused(
                f"this backup has schema {header.schema}, this program knows {ours}: it"
                " was written by a newer otpseal; upgrade the program first"
            )
        if header.schema != ours:
            raise BackupRefused(
                f"this backup has schema {header.schema}, this program {ours}: restore"
                " it with the otpseal that wrote it, then upgrade that store"
            )

    def _examine(
        self, file: BinaryIO, storage_key: StorageKey, told: Progress
    ) -> list[str]:
        """Look at every row; returns the accounts whose seeds do not decrypt."""
        unreadable = []
        rows = backup_format.read_rows(file, storage_key.backup_mac())
        for count, (table, row) in enumerate(rows, start=1):
            if self._layout.columns.get(table) != row.keys():
                raise BackupRefused(f"the backup has a row that is not of {table}")
            if table == "accounts" and not is_readable(row, storage_key):
                unreadable.append(str(row["id"]))
            if count % CHUNK == 0:
                told(count)
        return unreadable

    def _look(
        self, place: Place, storage_key: StorageKey, *, replace_existing: bool
    ) -> Known | None:
        """Return what the store knows, and take it out; None if it is empty."""
        record = place.tx.storage_key_record()
        if record is None:
            return None
        if not replace_existing:
            raise BackupRefused(
                "this store has content already: restore into another, empty directory"
                " or database, or put the backup in its place with --replace"
            )
        ours = StorageKey.unwrap(record, self._keys).backup_mac().digest()
        if ours != storage_key.backup_mac().digest():
            raise BackupRefused(
                "this store has another storage key than the backup, and a running"
                " service may hold it: stop the service, move the store away (its"
                " otpseal.db, or the database), and restore into an empty one"
            )
        known = Known.of({table: place.rows(table) for table in Known.TABLES})
        for table in _REPLACED:
            place.clear(table)
        return known


def _fill(
    place: Place,
    merge: Merge,
    rows: Iterable[tuple[str, dict[str, object]]],
    told: Progress,
) -> int:
    """Insert what `merge` makes of the rows; returns how many accounts."""
    accounts = count = 0
    waiting: list[Row] = []
    table = ""
    for count, (name, row) in enumerate(rows, start=1):
        if name != table or len(waiting) >= CHUNK:
            place.insert(table, waiting)
            told(count)
            table, waiting = name, []
        merged = merge.row(name, row)
        if merged is not None:
            waiting.append(merged)
            accounts += name == "accounts"
    place.insert(table, waiting)
    place.insert("tombstones", merge.tombstones())
    place.insert("envelope_sequences", merge.sequences())
    for name, value in merge.marks.items():
        place.tx.raise_mark(name, value)
    return accounts
