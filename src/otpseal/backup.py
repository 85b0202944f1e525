"""Backups: all that rests in a store, in one file; `otpseal.restore` is the way back.

A backup holds what the database holds: seeds under the storage key, which only the
private key opens. The use cases are the same for every database; what differs is
behind `Archive`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

from otpseal import backup_format
from otpseal.account_state import State
from otpseal.audit import Event, Kind
from otpseal.backup_format import Header, Row
from otpseal.errors import BackupRefused, SeedUnreadable
from otpseal.ledger import Ledger
from otpseal.ports import AccountRow, Clock, Keys, Store, Transaction
from otpseal.storage_key import StorageKey
from otpseal.totp import OtpType, Parameters

#: Told how many rows were worked on so far.
Progress = Callable[[int], None]

#: Rows between two reports of progress.
CHUNK: Final = 1000


class Snapshot(Protocol):
    """Everything that rested in the store at one instant."""

    @property
    def taken_at(self) -> float:
        """Unix time; all that was acknowledged before is in it."""

    @property
    def record(self) -> bytes | None:
        """The storage-key record."""

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Give every other row with its table."""


class Place(Protocol):
    """A store in one exclusive transaction, table by table."""

    @property
    def tx(self) -> Transaction:
        """The same transaction, as use cases know it."""

    def rows(self, table: str) -> Iterator[Row]:
        """Give every row of a table."""

    def clear(self, table: str) -> None:
        """Delete every row of a table."""

    def insert(self, table: str, rows: Iterable[Row]) -> None:
        """Insert rows, but for those whose key is there."""


class Archive(Protocol):
    """A store as backups see it."""

    def snapshot(self, clock: Clock) -> AbstractContextManager[Snapshot]:
        """Hold on to what rests at this instant; others go on meanwhile.

        Raises:
            StoreUnavailable: it cannot be read, or there is no room.
        """

    def replacing(self) -> AbstractContextManager[Place]:
        """Open an exclusive transaction; all of it is stored at its end, or nothing.

        Raises:
            StoreUnavailable: nothing of it is stored.
        """


@dataclass(frozen=True, slots=True)
class Layout:
    """What this program's tables look like.

    Attributes:
        schema: their revision.
        columns: of each table.
    """

    schema: str
    columns: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Written:
    """What a backup holds.

    Attributes:
        taken_at: Unix seconds.
        accounts: how many.
        unreadable: accounts whose seeds do not decrypt, here or after a restore.
    """

    taken_at: float
    accounts: int
    unreadable: list[str]


class Archivist:
    """Writes backups of an open store.

    Args:
        archive: the store, as backups see it.
        store: the same store.
        keys: the private key; a backup names its id.
        storage_key: authenticates the backup.
        layout: of the tables.
        clock: gives the Unix time.
    """

    def __init__(
        self,
        archive: Archive,
        store: Store,
        *,
        keys: Keys,
        storage_key: StorageKey,
        layout: Layout,
        clock: Clock,
    ) -> None:
        self._archive = archive
        self._store = store
        self._keys = keys
        self._storage_key = storage_key
        self._layout = layout
        self._clock = clock

    def write(self, stream: BinaryIO, *, told: Progress = lambda _n: None) -> Written:
        """Write a backup; verification goes on meanwhile.

        The audit event is durable before the last line is written: no audit, no
        backup, for without its last line it is refused.

        Raises:
            StoreUnavailable: what was written is no backup.
            OSError: of `stream`.
        """
        accounts, unreadable = 0, []
        with self._archive.snapshot(self._clock) as snapshot:
            if snapshot.record is None:
                raise BackupRefused("there is nothing to back up: the store is empty")
            writer = backup_format.Writer(stream, self._storage_key.backup_mac())
            writer.header(
                Header(
                    schema=self._layout.schema,
                    kid=self._keys.kid,
                    record=snapshot.record,
                    taken_at=snapshot.taken_at,
                )
            )
            for count, (table, row) in enumerate(snapshot.rows(), start=1):
                writer.row(table, row)
                if table == "accounts":
                    accounts += 1
                    if not is_readable(row, self._storage_key):
                        unreadable.append(str(row["id"]))
                if count % CHUNK == 0:
                    told(count)
        detail = {"accounts": accounts}
        with self._store.transaction() as tx:
            event = Event(Kind.BACKUP_WRITTEN, self._clock(), detail=detail)
            Ledger(tx, self._storage_key).record(event)
        writer.end()
        return Written(snapshot.taken_at, accounts, unreadable)


def is_readable(row: Row, storage_key: StorageKey) -> bool:
    """Tell whether an account's seed decrypts, and is the one of its fingerprint."""
    try:
        account = _account(row)
        seed = account.open_seed(storage_key)
    except (SeedUnreadable, TypeError, ValueError):
        return False
    return storage_key.fingerprint(seed) == account.fingerprint


def _account(row: Row) -> AccountRow:
    # Of any type: SQLite keeps in a column what it is told to.
    kept: Mapping[str, object] = row
    sealed, fingerprint = kept["sealed_seed"], kept["fingerprint"]
    if not isinstance(sealed, bytes) or not isinstance(fingerprint, bytes):
        raise TypeError
    return AccountRow(
        id=str(kept["id"]),
        sealed_seed=sealed,
        fingerprint=fingerprint,
        parameters=Parameters(
            str(kept["algorithm"]),
            int(str(kept["digits"])),
            int(str(kept["period"])),
            OtpType(str(kept["type"])),
            int(str(kept["window_steps"])),
        ),
        imported_at=0.0,
        state=State(drift=int(str(kept["drift"]))),
    )
