"""May this process verify by its clock? Asked in every batch, under the store's lock.

Holds what one process knows of its clocks between batches; the rules are those of
`otpseal.wallclock`. A database server has a clock of its own: each replica compares
itself with it, either way, and refuses only itself.
"""

from typing import Final

from otpseal.ports import Clock, Transaction
from otpseal.wallclock import MAX_BEHIND_S, Watch, advanced, is_behind

#: Name of the store's mark that holds the latest time that was seen, in ms.
CLOCK_MARK: Final = "clock-ms"

#: How long a service may have been off before old events are pruned by its clock at
#: once, in seconds; after a longer time they are kept until it is restarted.
MAX_OFF_S: Final = 2 * 86_400.0


class Timekeeper:
    """Compares this process's clock with the store's.

    Args:
        monotonic: seconds that only ever rise; None believes the wall clock.
    """

    def __init__(self, monotonic: Clock | None = None) -> None:
        self._monotonic = monotonic
        self._watch: Watch | None = None
        self._mark_ms: int | None = None
        # The mark before this process moved it, and the monotonic time of that look.
        self._found: tuple[float, float] | None = None

    def may_verify(self, tx: Transaction, now: float) -> bool:
        """Look at all clocks; False if `now` must not be trusted.

        Args:
            tx: the transaction that the answer is for.
            now: this process's wall clock.
        """
        monotonic = self._read(now)
        if self._watch is None:
            self._watch = Watch.started(now, monotonic)
        else:
            self._watch = self._watch.observe(now, monotonic)
        self._mark_ms = tx.mark(CLOCK_MARK)
        if self._found is None:
            seen = now if self._mark_ms is None else self._mark_ms / 1000
            self._found = seen, monotonic
        database = tx.database_time
        if database is not None and abs(now - database) > MAX_BEHIND_S:
            return False
        return self._mark_ms is None or not is_behind(now, self._mark_ms / 1000)

    @property
    def believed(self) -> float:
        """The time that this process believes in, after `may_verify`, in seconds."""
        assert self._watch is not None
        return self._watch.wall

    def latest_credible(self, now: float) -> float:
        """Return `now`, or what it may be at most: for what cannot be taken back.

        A process whose clock was ahead when it started believes it. What the store
        had seen before, the time since, and two days for a service that was off, are
        a bound that such a clock has not moved. After `may_verify`.
        """
        assert self._found is not None
        seen, monotonic = self._found
        return min(now, seen + self._read(now) - monotonic + MAX_OFF_S)

    def advance(self, tx: Transaction) -> None:
        """Move the mark on, if its time has come; after `may_verify` said yes."""
        assert self._watch is not None
        value = advanced(self._mark_ms, self._watch)
        if value is not None:
            tx.raise_mark(CLOCK_MARK, value)

    def accept(self, tx: Transaction, now: float) -> float | None:
        """Set the mark to `now`, whatever it was; returns what it was.

        An administrator's decision, for a mark from a clock that ran ahead.
        """
        before = tx.mark(CLOCK_MARK)
        tx.set_mark(CLOCK_MARK, round(now * 1000))
        self._watch = Watch.started(now, self._read(now))
        return None if before is None else before / 1000

    def _read(self, now: float) -> float:
        return now if self._monotonic is None else self._monotonic()
