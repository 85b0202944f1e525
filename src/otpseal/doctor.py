"""What `otpseal doctor` looks at; each check gives findings and changes nothing.

A finding is ok, a warning (it works, but not as it should) or a failure (the service
does not start, does not work, or does not protect), with what to do about it. What
one check raises is its finding: no check hides another.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from otpseal.adapters.file_code_log import FileCodeLog
from otpseal.config import Access, Settings, is_loopback, unknown_variables
from otpseal.errors import ConfigurationError, OtpsealError, SeedUnreadable
from otpseal.file_checks import check_cron, check_directory, check_files, check_space
from otpseal.findings import Finding, Verdict, failure, ok, warning
from otpseal.health import MAX_CODE_LOG_AGE_S
from otpseal.key_source import token_pin
from otpseal.ledger import rfc3339
from otpseal.ports import Clock
from otpseal.seed_claims import is_authority_name
from otpseal.service import DEFAULT_ACCOUNT
from otpseal.store_inspection import inspect_store
from otpseal.trust_book import TrustBook
from otpseal.unlocking import Opened

#: Events whose MACs are checked, the newest.
EVENTS_CHECKED: Final = 1000

#: A CA that is valid for fewer days is told of.
MIN_CA_DAYS: Final = 30

#: A clock before that has never been set: this program is younger.
OLDEST_YEAR: Final = 2025

#: How far the clock may be behind the newest event, in seconds.
TOLERANCE_S: Final = 5.0

#: Where the container has its job and cron's table of it.
CONTAINER_JOB: Final = Path("/app/scripts/log_2fa_cron.py")
CRON_TABLE: Final = Path("/etc/cron.d/2fa-cron")


def examine(settings: Settings, *, clock: Clock) -> Iterator[Finding]:
    """Yield everything that is to be said about a service."""
    yield from check_configuration(settings)
    files = [*check_directory(settings), *check_files(settings)]
    yield from files
    # As another user we would make lock files that the service cannot open.
    if all(finding.verdict is not Verdict.FAILURE for finding in files):
        yield from check_store(settings, clock=clock)
    else:
        yield warning(
            "store", "not looked into", "mend the files first, then ask again"
        )
    yield from check_clock(clock())
    yield from check_space(settings)
    if settings.code_log is not None and CONTAINER_JOB.exists():
        yield from check_cron(CRON_TABLE)


def check_configuration(settings: Settings) -> Iterator[Finding]:
    """The settings, as far as they need no store."""
    check = "configuration"
    for name in unknown_variables():
        yield warning(check, f"{name} is no setting", "correct its name or unset it")
    try:
        access = settings.resolved_access()
        if access is Access.TOKEN:
            settings.classic_token()
        settings.metrics_token()
        settings.key_passphrase()
        token_pin(settings)
    except ConfigurationError as error:
        yield failure(check, str(error), "`otpseal serve` refuses to start so")
        return
    if access is Access.OPEN and not is_loopback(settings.host):
        yield warning(
            check,
            f"open access on {settings.host}: whoever reaches the port may ask for"
            " codes",
            "set OTPSEAL_CLASSIC_ACCESS=token unless something else guards it",
        )
        return
    yield ok(check, f"{access.value} access on {settings.host}")


def check_store(settings: Settings, *, clock: Clock) -> Iterator[Finding]:
    """Key and store together, and what is in the store."""
    check = "key and store"
    try:
        with inspect_store(settings, clock=clock) as opened:
            if opened.outdated is None:
                yield ok(check, f"belong together, key id {opened.keys.kid}")
            else:
                yield warning(check, opened.outdated, "restart the service afterwards")
            seeded_at = None
            for finding, at in _check_seed(opened):
                yield finding
                seeded_at = at
            yield from check_audit(opened, clock())
            yield from check_pins(opened, clock())
    except OtpsealError as error:
        yield failure(check, str(error), "the service does not start or work so")
        return
    yield from check_code_log(settings, clock(), seeded_at=seeded_at)


def _check_seed(opened: Opened) -> Iterator[tuple[Finding, float | None]]:
    check = "seed"
    with opened.store.transaction() as tx:
        row = tx.accounts([DEFAULT_ACCOUNT]).get(DEFAULT_ACCOUNT)
    if row is None:
        yield ok(check, f"the account {DEFAULT_ACCOUNT} has none yet"), None
        return
    try:
        row.open_seed(opened.storage_key)
    except SeedUnreadable:
        yield (
            failure(
                check,
                "the stored seed does not decrypt",
                "restore the database from a backup, or `otpseal seed replace`",
            ),
            None,
        )
    else:
        yield ok(check, f"imported {rfc3339(row.imported_at)}"), row.imported_at


def check_audit(opened: Opened, now: float) -> Iterator[Finding]:
    """The newest events: written by us, and not in the future."""
    check = "audit log"
    records = opened.audit.newest(EVENTS_CHECKED)
    altered = [record.row.id for record in records if not record.genuine]
    if altered:
        yield failure(
            check,
            f"{len(altered)} of the newest {len(records)} events were altered, the"
            f" newest of them is {altered[-1]}",
            "`otpseal audit list` marks them; find out who can write the database",
        )
    else:
        yield ok(check, f"the newest {len(records)} events are genuine")
    genuine = [record.row.at_ms / 1000 for record in records if record.genuine]
    ahead = max(genuine, default=now) - now
    if ahead > TOLERANCE_S:
        yield failure(
            "clock and events",
            f"{ahead:.0f} s behind the newest event: it was set back, or ran ahead",
            "synchronise it; codes are wrong by as much as it is",
        )


def check_pins(opened: Opened, now: float) -> Iterator[Finding]:
    """Pinned authorities: pinned by us, still, and by a CA that is valid."""
    check = "pinned authorities"
    book = TrustBook(opened.store, opened.storage_key, lambda: now)
    pins = book.all()
    planted = [pin.authority.name for pin in pins if not pin.genuine]
    # A name that somebody wrote into the database may hold anything.
    names = [name if is_authority_name(name) else "(no name)" for name in planted]
    if names:
        yield failure(
            check,
            f"not pinned by this service: {', '.join(names)}; none is believed",
            "find out who can write the database; `otpseal authority trust remove`",
        )
        return
    if back := book.put_back():
        yield failure(
            check,
            f"the audit log knows otherwise of {', '.join(back)}",
            "a removed or older row was put back; find out who can write the database",
        )
    for pin in pins:
        if (days := pin.days_left(now)) is not None and days < MIN_CA_DAYS:
            yield warning(
                check,
                f"the CA of {pin.authority.name} ends in {days:.0f} days",
                "pin the next one: `otpseal authority trust add --replace`",
            )
    yield ok(check, f"{len(pins)} pinned")


def check_clock(now: float) -> Iterator[Finding]:
    """The system clock, as far as it can be judged without another."""
    at = datetime.fromtimestamp(now, UTC)
    if at.year < OLDEST_YEAR:
        yield failure("clock", f"it is not {at.year}", "synchronise it (NTP)")
    else:
        yield ok("clock", rfc3339(now))


def check_code_log(
    settings: Settings, now: float, *, seeded_at: float | None
) -> Iterator[Finding]:
    """The code log: has a line of this minute, and nothing else in it."""
    check, path = "code log", settings.code_log
    if path is None:
        yield ok(check, "none is configured")
        return
    code_log = FileCodeLog(path, max_bytes=settings.code_log_max_bytes)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        yield failure(
            check, f"{path.parent} is missing or not writable", "make it writable"
        )
    elif not code_log.ends_well():
        yield warning(
            check,
            f"{path} does not end with a line of its form",
            "the next run repairs a torn line; nothing else should write there",
        )
    newest = code_log.newest_line_at()
    if seeded_at is None:
        yield ok(check, "no line is due without a seed")
        return
    age = now - max(seeded_at, newest or 0.0)
    if age > MAX_CODE_LOG_AGE_S:
        yield failure(
            check,
            f"no line for {age:.0f} s",
            "is cron running? Run scripts/log_2fa_cron.py by hand: it says what is"
            " wrong",
        )
    else:
        yield ok(check, f"{path}, newest line {rfc3339(newest) if newest else 'none'}")
