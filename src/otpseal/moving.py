"""Accounts move in from a file: the whole file, or nothing of it.

Everything that costs is done before the store is touched: seeds are sealed and
events authenticated first, so that the store's lock is held for the bulk insert
alone, and verification goes on. What the file clashes with is looked for twice, the
second time under the lock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from otpseal import totp, travel
from otpseal.account_id import is_account_id, propose
from otpseal.account_state import NEVER, Status
from otpseal.audit import Event, Kind
from otpseal.errors import ParametersRefused, UnsealFailed
from otpseal.formats.row import Entry, Fault, names_fault
from otpseal.ledger import event_row
from otpseal.ports import AccountRow, Clock, EventRow, Keys, Store, Transaction
from otpseal.seed_keeping import NewSeed, sealed_row
from otpseal.storage_key import StorageKey
from otpseal.totp import OtpType, Parameters

#: The account of the classic API has its parameters fixed.
_CLASSIC: Final = "default"
_CHUNK: Final = 1000

#: Told how many rows were worked on so far.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Arrival:
    """An account as a file brings it.

    Attributes:
        line: where it stands.
        new: what is made of it; its id is empty where the file gives none.
        last_step: the highest step or counter that was spent elsewhere, or `NEVER`.
        drift: steps by which its device is ahead.
    """

    line: int
    new: NewSeed
    last_step: int = NEVER
    drift: int = 0


@dataclass(frozen=True, slots=True)
class RowReport:
    """What became of a row, or what would.

    Attributes:
        line: where it stands.
        account: the account's id, if it has one.
        reason: why it cannot be an account; None if it is, or would be.
    """

    line: int
    account: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Moved:
    """What an import did.

    Attributes:
        rows: a report for each row of the file.
        stored: whether the accounts are there now.
    """

    rows: list[RowReport]
    stored: bool

    @property
    def refused(self) -> list[RowReport]:
        """The rows that keep the file out."""
        return [row for row in self.rows if row.reason is not None]


def arrival(entry: Entry) -> Arrival:
    """Return what a parsed row of any format brings."""
    parameters = _parameters(
        entry.algorithm, entry.digits, entry.period, entry.type, entry.window
    )
    return Arrival(
        entry.line,
        NewSeed(
            entry.account or "",
            entry.seed,
            parameters,
            entry.issuer,
            entry.label,
            counter=entry.counter,
        ),
        drift=entry.drift,
    )


# Of a hundred thousand accounts nearly all have the same; once is enough.
@cache
def _parameters(
    algorithm: str, digits: int, period: int, kind: str, window: int | None
) -> Parameters:
    if window is None:
        window = totp.CLASSIC.window
    return Parameters(algorithm, digits, period, OtpType(kind), window)


def open_travellers(
    content: bytes, keys: Keys, *, told: Progress = lambda _n: None
) -> list[Arrival | Fault]:
    """Open the accounts that another otpseal sealed to `keys`; about 6 ms each."""

    def decrypt(sealed: bytes) -> bytes:
        return keys.oaep_decrypt(sealed, label=travel.LABEL)

    found: list[Arrival | Fault] = []
    for line, one in travel.parse(content, keys.kid):
        if isinstance(one, str):
            found.append(Fault(line, one))
            continue
        try:
            seed = travel.open_sealed(one, decrypt)
        except UnsealFailed:
            found.append(Fault(line, "the sealed seed does not open"))
            continue
        new = NewSeed(
            one.account,
            seed,
            one.parameters,
            one.issuer,
            one.label,
            Status(one.status),
        )
        found.append(Arrival(line, new, one.last_step, one.drift))
        told(len(found))
    return found


class Mover:
    """Makes accounts of what files bring.

    Args:
        store: durable state.
        storage_key: what protects the store's seeds.
        clock: gives the Unix time.
    """

    def __init__(self, store: Store, storage_key: StorageKey, clock: Clock) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock

    def bring(
        self,
        arrivals: Sequence[Arrival | Fault],
        *,
        prefix: str = "",
        dry_run: bool = False,
        told: Progress = lambda _n: None,
    ) -> Moved:
        """Make accounts of all rows, or of none if one of them cannot be.

        Args:
            arrivals: the rows of a file.
            prefix: put in front of every id; ends in "/", or "".
            dry_run: only look.
            told: about the progress.

        Raises:
            StoreUnavailable: nothing was stored.
        """
        now = self._clock()
        load = _Load(self._storage_key, now)
        for count, one in enumerate(arrivals, start=1):
            load.take(one, prefix)
            if count % _CHUNK == 0:
                told(count)
        with self._store.transaction(shared=True) as tx:
            load.compare(tx)
        if load.is_refused or dry_run or not load.rows:
            return Moved(load.reports(), stored=False)
        events = load.events(now)
        with self._store.transaction() as tx:
            # Somebody may have made one of them meanwhile.
            load.compare(tx)
            if load.is_refused:
                return Moved(load.reports(), stored=False)
            buried = tx.all_buried()
            tx.add_accounts([_with_spent(row, buried) for row in load.rows.values()])
            tx.append_events(events)
        return Moved(load.reports(), stored=True)


class _Load:
    """The rows of one file, sealed and ready to be stored."""

    def __init__(self, storage_key: StorageKey, now: float) -> None:
        self._storage_key = storage_key
        self._now = now
        self._ids: dict[str, int] = {}
        self._seeds: dict[bytes, int] = {}
        self._names: list[tuple[int, str | None]] = []
        self._reasons: dict[int, str] = {}
        #: By their place in the file.
        self.rows: dict[int, AccountRow] = {}

    @property
    def is_refused(self) -> bool:
        return bool(self._reasons)

    def take(self, one: Arrival | Fault, prefix: str) -> None:
        place = len(self._names)
        if isinstance(one, Fault):
            self._names.append((one.line, None))
            self._reasons[place] = one.reason
            return
        name = one.new.account or propose(one.new.issuer, one.new.label)
        self._names.append((one.line, name and prefix + name))
        if name is None:
            self._reasons[place] = (
                "no id, and none can be made of issuer and label: give one"
            )
            return
        new = replace(one.new, account=prefix + name)
        reason = _unfit(new)
        if reason is None:
            row = sealed_row(new, self._storage_key, self._now)
            reason = self._clash(row, one.line)
        if reason is not None:
            self._reasons[place] = reason
            return
        spent = max(row.state.last_step, one.last_step)
        state = replace(row.state, last_step=spent, drift=one.drift)
        self.rows[place] = replace(row, state=state)

    def _clash(self, row: AccountRow, line: int) -> str | None:
        earlier = self._ids.setdefault(row.id, line)
        if earlier != line:
            return f"line {earlier} has the same id"
        earlier = self._seeds.setdefault(row.fingerprint, line)
        if earlier != line:
            return f"line {earlier} has the same seed"
        return None

    def compare(self, tx: Transaction) -> None:
        """Look which of them the store has."""
        ids, seeds = tx.existing(self._ids.keys(), self._seeds.keys())
        if not ids and not seeds:
            return
        for place, row in self.rows.items():
            if row.id in ids:
                self._reasons[place] = "there is an account of this id"
            elif row.fingerprint in seeds:
                self._reasons[place] = "another account has this seed"

    def reports(self) -> list[RowReport]:
        return [
            RowReport(line, name, self._reasons.get(place))
            for place, (line, name) in enumerate(self._names)
        ]

    def events(self, now: float) -> list[EventRow]:
        made = [
            Event(
                Kind.ACCOUNT_CREATED,
                now,
                row.id,
                {"type": row.parameters.type.value, "source": "file"},
            )
            for row in self.rows.values()
        ]
        made.append(Event(Kind.ACCOUNTS_IMPORTED, now, detail={"count": len(made)}))
        return [event_row(event, self._storage_key) for event in made]


def _unfit(new: NewSeed) -> str | None:
    """Return why this can be no account, or None."""
    if not is_account_id(new.account):
        return "the id, with the prefix, breaks the rule for account ids"
    if new.account == _CLASSIC and new.parameters != totp.CLASSIC:
        return "the account `default` is TOTP, SHA1, 6 digits, 30 s, window 1"
    if fault := names_fault(new.issuer, new.label):
        return fault
    try:
        new.check()
    except ParametersRefused as error:
        return str(error)
    return None


def _with_spent(row: AccountRow, buried: dict[bytes, int]) -> AccountRow:
    spent = buried.get(row.fingerprint, NEVER)
    if spent <= row.state.last_step:
        return row
    return replace(row, state=replace(row.state, last_step=spent))
