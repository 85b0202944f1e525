"""The closed vocabulary of audit events, and their canonical bytes.

What is not listed in `Kind` cannot be recorded. An event never holds a seed, a code
or anything a stranger typed; what strangers do in bulk is counted, not listed, so
that nobody fills the disk with events.

How the vocabulary grows: kinds and details may be added, never renamed or given
another meaning; a change of the canonical form takes a new version byte.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

CANONICAL_VERSION: Final = b"\x01"

#: The account of events that concern the store or the service as a whole.
NO_ACCOUNT: Final = ""


class Kind(StrEnum):
    """Everything that is ever recorded."""

    STORE_CREATED = "store.created"
    """A storage key was made for an empty store; `kid`."""

    SEED_IMPORTED = "seed.imported"
    """The classic account got its first seed; `source`: sealed, plaintext-file;
    `sender`: not authenticated."""

    SEED_REPLACED = "seed.replaced"
    """An administrator, or a `caller`, replaced the seed."""

    SEED_REPEATED = "seed.repeated"
    """The stored seed was sent again, `count` times."""

    SEED_REFUSED = "seed.refused"
    """Imports refused since the last such event, `count` of them."""

    ENVELOPE_ACCEPTED = "envelope.accepted"
    """A pinned `authority`'s envelope brought a seed; `suite`, `kid`, `seq`, `jti`,
    `new` (0 if it replaced a seed of the same authority)."""

    ENVELOPE_REFUSED = "envelope.refused"
    """Envelopes that did not open, or not by a pinned authority; `count`."""

    ENVELOPE_MISDIRECTED = "envelope.misdirected"
    """Envelopes of an authority for another service, or beyond its fence; `count`."""

    ENVELOPE_EXPIRED = "envelope.expired"
    """Envelopes of an authority that are no longer, or not yet, valid; `count`."""

    ENVELOPE_REPLAYED = "envelope.replayed"
    """Envelopes that were accepted before; `count`."""

    ENVELOPE_STALE = "envelope.stale"
    """Envelopes older than one that was accepted for the account; `count`."""

    KEY_MADE = "key.made"
    """A key of the service's own was made; `use`, `kid`."""

    IMPORT_KEY_PREPARED = "import-key.prepared"
    """The next import key is published, and opens what is sealed to it; `kid`."""

    IMPORT_KEY_ROTATED = "import-key.rotated"
    """The import key `kid` took the place of `before`, which opens `until` then."""

    IMPORT_KEY_REFUSED = "import-key.refused"
    """Envelopes for a retired import key, `count` of them."""

    STORAGE_KEY_REPLACED = "storage-key.replaced"
    """Everything that rests was encrypted anew: `accounts`, `events`; `altered`
    events and seeds stay recognisable as such."""

    SEED_FILE_REMOVED = "seed.file-removed"
    """A plaintext seed.txt was overwritten and removed."""

    CODE_SHOWN = "code.shown"
    """Somebody asked for the current code: an operator on the command line, or a
    `caller` of the v1 API."""

    ATTEMPT_ACCEPTED = "attempt.accepted"
    """A right code; spends `step`. Here and below: from which `caller`, if any."""

    ATTEMPT_WRONG = "attempt.wrong"
    """A wrong code; `failures` in a row, `wait_s` if it starts a wait."""

    ATTEMPT_UNKNOWN = "attempt.unknown"
    """A code for an account that does not exist, or that is not the caller's."""

    ATTEMPT_REPLAYED = "attempt.replayed"
    """A code of a spent step, `count` times."""

    ATTEMPT_THROTTLED = "attempt.throttled"
    """Attempts refused unseen during one wait, `count` of them."""

    ATTEMPT_DISABLED = "attempt.disabled"
    """Attempts on a disabled account, `count` of them."""

    ACCOUNT_DISABLED = "account.disabled"
    """Too many consecutive wrong codes, or an administrator's decision."""

    ACCOUNT_ENABLED = "account.enabled"
    """An administrator enabled the account and reset its throttle."""

    ACCOUNT_CREATED = "account.created"
    """An account was made; `type`, `source`: generated, sealed, file."""

    ACCOUNT_CONFIRMED = "account.confirmed"
    """A first code made a pending account active; spends `step`."""

    ACCOUNT_RESYNCED = "account.resynced"
    """Two consecutive codes set the drift; spends `step` and the one before."""

    ACCOUNT_DELETED = "account.deleted"
    """An account and its seed were deleted; its spent steps stay spent for a day."""

    ACCOUNTS_IMPORTED = "accounts.imported"
    """A file brought `count` accounts; one account.created each stands beside it."""

    ACCOUNTS_EXPORTED = "accounts.exported"
    """Seeds of `count` accounts were written out, sealed to `kid` (`form` pskc: in
    a container of RFC 6030), or in `form` plaintext."""

    RECOVERY_CODES_MADE = "recovery.made"
    """New recovery codes took the place of all earlier ones; `count`."""

    RECOVERY_CODE_USED = "recovery.used"
    """A recovery code was accepted; it spends the current and the next step."""

    CALLER_CREATED = "caller.created"
    """A token or a certificate's name was admitted; `caller`, `scopes`, `prefix`."""

    CALLER_REVOKED = "caller.revoked"
    """A token or a certificate's name was revoked; `caller`."""

    FAILURE_RATE = "alarm.failure-rate"
    """So many attempts of all accounts together were wrong: `wrong`, `accepted`."""

    CLOCK_BEHIND = "clock.behind"
    """Attempts were refused because a clock contradicts the store; `count`."""

    CLOCK_ACCEPTED = "clock.accepted"
    """An administrator reset the time mark; `from`, `to`, `raised` accounts."""

    BACKUP_WRITTEN = "backup.written"
    """A backup was written; `accounts`."""

    BACKUP_RESTORED = "backup.restored"
    """The store was restored from a backup; `taken_at`, `accounts`."""

    CODE_LOGGED = "code-log.written"
    """The minute's line was appended to the code log."""

    CODE_LOG_GAP = "code-log.gap"
    """No line was written `from` .. `to` (RFC 3339, both inclusive)."""

    CODE_LOG_REPAIRED = "code-log.repaired"
    """A torn last line of `bytes` was cut off before the next append."""

    AUDIT_PRUNED = "audit.pruned"
    """Events `before` a time were deleted, `count` of them."""

    AUTHORITY_PINNED = "authority.pinned"
    """An administrator pinned an `authority`; `prefix`, `keys`, `replaced` (1 if one
    of that name was pinned before)."""

    AUTHORITY_UNPINNED = "authority.unpinned"
    """An administrator removed a pinned `authority`."""

    CERTIFICATE_RENEWED = "authority.certificate-renewed"
    """The CA issued a certificate that takes the place of the signing certificate;
    `kid` of the signing key, `new_key` (1 if it was made for it), `serial`, `until`.
    Recorded before the files are replaced."""

    SEED_ISSUED = "authority.seed-issued"
    """The authority made a seed for a new pair; `pair`, `kid`."""

    SEED_REISSUED = "authority.seed-reissued"
    """The same seed was sealed again for the same request, `count` times."""

    REQUEST_REFUSED = "authority.request-refused"
    """Seed requests refused since the last such event, `count` of them."""

    REBOUND = "authority.rebound"
    """An administrator bound a pair to another public key; `pair`, `kid`."""

    SUBSCRIBER_ADDED = "authority.subscriber-added"
    """An administrator admitted a `subscriber`."""

    SUBSCRIBER_REVOKED = "authority.subscriber-revoked"
    """A `subscriber` was revoked, and with it all its tickets."""

    TICKET_MADE = "authority.ticket-made"
    """A ticket was made for a `subscriber` and the event's account."""

    ENVELOPE_ISSUED = "authority.envelope-issued"
    """A `subscriber` enrolled with its ticket; `kid`, `jti`, `seq`."""

    ENVELOPE_REPEATED = "authority.envelope-repeated"
    """The same ticket and key had the same answer again, `count` times."""

    ENROLMENT_REFUSED = "authority.enrolment-refused"
    """Enrolments refused since the last such event, `count` of them."""

    RECEIPT_STORED = "authority.receipt-stored"
    """A `subscriber` confirmed an envelope; `jti`, its audit `event`."""

    RECEIPT_REFUSED = "authority.receipt-refused"
    """Receipts refused since the last such event, `count` of them."""


Detail = Mapping[str, int | str]

# Made once: json.dumps with arguments makes an encoder a call.
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the audit log.

    Attributes:
        kind: what happened.
        at: when, in Unix seconds; kept to the millisecond.
        account: whose, or `NO_ACCOUNT`.
        detail: the numbers and words that `kind` names.
    """

    kind: Kind
    at: float
    account: str = NO_ACCOUNT
    detail: Detail = field(default_factory=dict)

    @property
    def at_ms(self) -> int:
        """When, in milliseconds since the Unix epoch."""
        return round(self.at * 1000)

    @property
    def detail_json(self) -> str:
        """The detail as canonical JSON: sorted keys, no blanks, ASCII."""
        if not self.detail:
            return "{}"
        return _ENCODER.encode(self.detail)


#: Events that a stranger can cause at will are written at most this often, with a
#: count, in seconds.
TALLY_PERIOD_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something happened that is counted rather than listed.

    Attributes:
        kind: what is counted.
        account: whose.
        pending: occurrences not yet in any event.
        since: when the last event about them was written, in Unix seconds.
    """

    kind: Kind
    account: str
    pending: int = 0
    since: float = float("-inf")

    def add(self, now: float, count: int = 1) -> tuple["Tally", tuple[Event, ...]]:
        """Count `count` more; gives the event that is due now, if one is.

        The first occurrence is an event at once, the rest of the minute is one.
        """
        return Tally(self.kind, self.account, self.pending + count, self.since).flush(
            now
        )

    def is_due(self, now: float) -> bool:
        """Tell whether an event about what is counted may be written."""
        # abs(): a clock that was set back must not silence the log.
        return abs(now - self.since) >= TALLY_PERIOD_S

    def flush(self, now: float) -> tuple["Tally", tuple[Event, ...]]:
        """Give the event about what is pending, if its time has come."""
        if not self.pending or not self.is_due(now):
            return self, ()
        event = Event(self.kind, now, self.account, {"count": self.pending})
        return Tally(self.kind, self.account, since=now), (event,)


def canonical_bytes(*, kind: str, at_ms: int, account: str, detail: str) -> bytes:
    """Return the bytes an event is authenticated by.

    version (1) || at_ms (8, big endian) || for kind, account and detail each:
    length (4, big endian) || UTF-8. Takes the stored columns, so that writing and
    checking cannot disagree.
    """
    parts = [CANONICAL_VERSION, at_ms.to_bytes(8, "big", signed=True)]
    for text in (kind, account, detail):
        raw = text.encode("utf-8")
        parts += (len(raw).to_bytes(4, "big"), raw)
    return b"".join(parts)
