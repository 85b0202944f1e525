"""What becomes of a backup's rows beside what the replaced store knows: pure rules.

1. A spent step or counter stays spent: the greater of both last steps, found by the
   seed's fingerprint, whatever account has it now. A seed that goes is remembered for
   a day as if it had been deleted.
2. For a seed that both know, the replaced store's state is the later one (drift,
   throttle); an account that either has disabled is disabled.
3. A HOTP account that the replaced store does not know is disabled: codes may have
   been used after the backup, and unlike steps of time they never run out.
4. A recovery code is kept only where the replaced store has it unused, too.
5. A caller that was revoked stays revoked.
6. An authority that the replaced store does not have pinned stays removed: where there
   is such a store, its own pinned authorities stand, and the backup's count for
   nothing.
7. The sequence of an account's envelopes is never lowered: the greater of both. Whose
   account it is, the backup says, since its seed is the backup's; where the backup
   has no envelope of it, nobody.
8. A ticket that the backup has unused, and no store is there to say so, has expired:
   it may have been used, and whoever saw the request could use it again.
9. Marks are never lowered; tombstones, events, counts and budgets are united.

An administrator may say that nothing happened after the backup; then rules 3, 4 and 8
take the backup's word for what the replaced store does not know.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from otpseal.account_state import TOMBSTONE_S, Status
from otpseal.totp import OtpType

Row = Mapping[str, Any]

#: Stands for the authority of an account that none may replace the seed of.
NOBODY: Final = ""

_STATE: Final = (
    "status",
    "drift",
    "failures_in_all",
    "failures",
    "wait_until",
    "refused",
)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept of an account of the replaced store."""

    last_step: int
    state: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Buried:
    """A tombstone."""

    last_step: int
    until: float

    def joined(self, other: "_Buried | None") -> "_Buried":
        if other is None:
            return self
        return _Buried(
            max(self.last_step, other.last_step), max(self.until, other.until)
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What a store that is replaced knows; nothing, if it was empty.

    Attributes:
        accounts: by fingerprint.
        ids: of its accounts.
        buried: tombstones by fingerprint.
        revoked: when callers were revoked, by id.
        strangers: of callers, by id.
        recovery: unused recovery codes, as (account, digest).
        sequences: rows of the newest envelopes, by account.
        is_store: whether there was a store at all.
    """

    TABLES: ClassVar = (
        "accounts",
        "tombstones",
        "callers",
        "recovery_codes",
        "envelope_sequences",
    )

    accounts: dict[bytes, _Kept] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    buried: dict[bytes, _Buried] = field(default_factory=dict)
    revoked: dict[str, float] = field(default_factory=dict)
    strangers: dict[str, int] = field(default_factory=dict)
    recovery: set[tuple[str, bytes]] = field(default_factory=set)
    sequences: dict[str, Row] = field(default_factory=dict)
    is_store: bool = False

    @classmethod
    def of(cls, tables: Mapping[str, Iterable[Row]]) -> "Known":
        """Take from the rows of `TABLES` what is kept."""
        known = cls(is_store=True)
        for row in tables["accounts"]:
            state = tuple(row[name] for name in _STATE)
            known.accounts[row["fingerprint"]] = _Kept(row["last_step"], state)
            known.ids.add(row["id"])
        for row in tables["tombstones"]:
            known.buried[row["fingerprint"]] = _Buried(row["last_step"], row["until"])
        for row in tables["callers"]:
            known.strangers[row["id"]] = row["strangers"]
            if row["revoked_at"] is not None:
                known.revoked[row["id"]] = row["revoked_at"]
        for row in tables["recovery_codes"]:
            known.recovery.add((row["account"], row["digest"]))
        for row in tables["envelope_sequences"]:
            known.sequences[row["account"]] = row
        return known


class Merge:
    """Takes a backup's rows one by one, and gives what is to be stored.

    Args:
        known: what the replaced store knows.
        now: Unix seconds.
        unused_since: whether nothing happened after the backup.

    Attributes:
        counters_unknown: HOTP accounts that were disabled by rule 3.
        recovery_void: accounts that lost recovery codes by rule 4.
        tickets_void: tickets that expired by rule 8.
        callers: callers that are not revoked.
        marks: the backup's marks.
    """

    def __init__(self, known: Known, *, now: float, unused_since: bool) -> None:
        self._known = known
        self._now = now
        self._unused_since = unused_since
        self._gone = dict(known.accounts)
        self._buried = dict(known.buried)
        self._sequences = {
            account: {**row, "authority": NOBODY}
            for account, row in known.sequences.items()
        }
        self.counters_unknown: list[str] = []
        self.recovery_void: set[str] = set()
        self.tickets_void = 0
        self.callers = 0
        self.marks: dict[str, int] = {}
        self._rules: dict[str, Callable[[Row], Row | None]] = {
            "accounts": self._account,
            "callers": self._caller,
            "recovery_codes": self._recovery_code,
            "tombstones": self._tombstone,
            "pinned_authorities": self._pinned_authority,
            "envelope_sequences": self._envelope_sequence,
            "enrolment_tickets": self._ticket,
            "marks": self._mark,
        }

    def row(self, table: str, row: Row) -> Row | None:
        """Return what is stored for a row of the backup, now; None for nothing."""
        rule = self._rules.get(table)
        return row if rule is None else rule(row)

    def tombstones(self) -> list[Row]:
        """Return the tombstones, those of seeds that went by this restore too."""
        buried = dict(self._buried)
        for fingerprint, kept in self._gone.items():
            stone = _Buried(kept.last_step, self._now + TOMBSTONE_S)
            buried[fingerprint] = stone.joined(buried.get(fingerprint))
        return [
            {"fingerprint": key, "last_step": stone.last_step, "until": stone.until}
            for key, stone in buried.items()
        ]

    def sequences(self) -> list[Row]:
        """Return the newest envelopes of accounts."""
        return list(self._sequences.values())

    def _tombstone(self, row: Row) -> None:
        fingerprint = row["fingerprint"]
        stone = _Buried(row["last_step"], row["until"])
        self._buried[fingerprint] = stone.joined(self._buried.get(fingerprint))

    def _mark(self, row: Row) -> None:
        self.marks[row["name"]] = row["value"]

    def _pinned_authority(self, row: Row) -> Row | None:
        return None if self._known.is_store else row

    def _envelope_sequence(self, row: Row) -> None:
        known = self._sequences.get(row["account"], row)
        greater = max(known["sequence"], row["sequence"])
        self._sequences[row["account"]] = {**row, "sequence": greater}

    def _ticket(self, row: Row) -> Row:
        is_known = self._known.is_store or self._unused_since
        if is_known or row["kid"] is not None or row["expires_at"] <= self._now:
            return row
        self.tickets_void += 1
        return {**row, "expires_at": self._now}

    def _recovery_code(self, row: Row) -> Row | None:
        return row if self._is_unused(row["account"], row["digest"]) else None

    def _account(self, row: Row) -> Row:
        merged = dict(row)
        kept = self._gone.pop(row["fingerprint"], None)
        stone = self._known.buried.get(row["fingerprint"])
        if kept is not None:
            merged |= zip(_STATE, kept.state, strict=True)
            merged["last_step"] = max(merged["last_step"], kept.last_step)
            if row["status"] == Status.DISABLED.value:
                merged["status"] = row["status"]
        if stone is not None:
            merged["last_step"] = max(merged["last_step"], stone.last_step)
        is_known = kept is not None or stone is not None or self._unused_since
        counts = row["type"] == OtpType.HOTP.value
        if counts and not is_known and merged["status"] != Status.DISABLED.value:
            merged["status"] = Status.DISABLED.value
            self.counters_unknown.append(row["id"])
        return merged

    def _caller(self, row: Row) -> Row:
        merged = dict(row)
        revoked = self._known.revoked.get(row["id"])
        if revoked is not None:
            merged["revoked_at"] = revoked
        strangers = self._known.strangers.get(row["id"], 0)
        merged["strangers"] = max(merged["strangers"], strangers)
        self.callers += merged["revoked_at"] is None
        return merged

    def _is_unused(self, account: str, digest: bytes) -> bool:
        if account in self._known.ids:
            unused = (account, digest) in self._known.recovery
        else:
            unused = self._unused_since
        if not unused:
            self.recovery_void.add(account)
        return unused
