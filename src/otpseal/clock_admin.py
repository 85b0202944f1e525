"""An administrator's dealings with the store's time mark.

A clock that ran ahead leaves a mark in the future, and then nobody verifies. Setting
the mark back would open steps again that are spent, so accepting this machine's time
spends every step up to it.
"""

from dataclasses import dataclass

from otpseal.audit import Detail, Event, Kind
from otpseal.ledger import Ledger, rfc3339
from otpseal.ports import Clock, Store
from otpseal.storage_key import StorageKey
from otpseal.timekeeper import CLOCK_MARK, Timekeeper


@dataclass(frozen=True, slots=True)
class Times:
    """What the clocks say, in Unix seconds.

    Attributes:
        now: this machine's.
        mark: the latest time that the store has seen, or None.
        database: the database server's, if it has a clock of its own.
        may_verify: whether this machine verifies by its clock.
    """

    now: float
    mark: float | None
    database: float | None
    may_verify: bool


@dataclass(frozen=True, slots=True)
class Accepted:
    """What accepting this machine's time did.

    Attributes:
        before: the mark as it was, or None.
        now: the mark as it is.
        raised: accounts whose last step was raised to now and the window.
        ahead: accounts whose last step is still later: they refuse every code until
            that time, or until they get another seed.
    """

    before: float | None
    now: float
    raised: int
    ahead: int


def show(store: Store, timekeeper: Timekeeper, clock: Clock) -> Times:
    """Return what the clocks say."""
    with store.transaction(shared=True) as tx:
        now = clock()
        mark = tx.mark(CLOCK_MARK)
        return Times(
            now,
            None if mark is None else mark / 1000,
            tx.database_time,
            timekeeper.may_verify(tx, now),
        )


def accept(
    store: Store, storage_key: StorageKey, timekeeper: Timekeeper, clock: Clock
) -> Accepted:
    """Set the mark to this machine's time, and spend every step up to it.

    Raises:
        StoreUnavailable: nothing was changed.
    """
    with store.transaction() as tx:
        now = clock()
        before = timekeeper.accept(tx, now)
        raised = tx.raise_last_steps(now)
        ahead = tx.count_ahead(now)
        detail: Detail = {"to": rfc3339(now), "raised": raised}
        if before is not None:
            detail = {**detail, "from": in_words(before)}
        event = Event(Kind.CLOCK_ACCEPTED, now, detail=detail)
        Ledger(tx, storage_key).record(event)
    return Accepted(before, now, raised, ahead)


def in_words(at: float) -> str:
    """Return a time as RFC 3339, or as seconds if it is beyond that."""
    try:
        return rfc3339(at)
    except (OverflowError, ValueError, OSError):
        return f"{at:.0f} s"  # the mark may be of any size: that is why we are here
