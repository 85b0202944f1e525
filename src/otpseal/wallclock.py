"""The store's high-water mark of wall time, as pure rules.

A clock that is set back would open steps again that are spent. So the store
remembers the latest time that was seen, and a process whose clock is behind it does
not verify. The mark itself must not be poisoned: a wall clock that leaps forward
while the monotonic clock does not (a bad time server, a hand) moves it only as far
as time really passed.

Leaves out: where the mark rests, and what a refusal looks like.
"""

from dataclasses import dataclass
from typing import Final

#: A clock that is further behind than this, in seconds, verifies nothing.
MAX_BEHIND_S: Final = 5.0

#: The mark moves at most this often, in seconds: each move is a write.
ADVANCE_EVERY_S: Final = 1.0

#: How far wall and monotonic clock may part within one observation, in seconds.
MAX_PARTING_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Watch:
    """What a process knows of its two clocks.

    Attributes:
        offset: the farthest that the wall clock was believed to be ahead of the
            monotonic clock, in seconds.
        wall: the wall time it believes in, in Unix seconds.
    """

    offset: float
    wall: float

    @classmethod
    def started(cls, wall: float, monotonic: float) -> "Watch":
        """Begin to watch; the first reading is believed."""
        return cls(wall - monotonic, wall)

    def observe(self, wall: float, monotonic: float) -> "Watch":
        """Return the watch after both clocks were read, one after the other.

        Follows the wall clock while it is no farther ahead of the monotonic clock
        than it was; beyond, goes on by the monotonic clock alone. A wall clock that
        goes back is followed, which harms nothing: the mark never goes back. Nor does
        a pause between the two readings harm: the farthest offset is remembered.
        """
        ahead = wall - monotonic
        if ahead <= self.offset + MAX_PARTING_S:
            return Watch(max(self.offset, ahead), wall)
        return Watch(self.offset, monotonic + self.offset)


def is_behind(now: float, reference: float) -> bool:
    """Tell whether a clock that shows `now` is too far behind `reference`."""
    return now < reference - MAX_BEHIND_S


def advanced(mark_ms: int | None, watch: Watch) -> int | None:
    """Return the mark's next value in ms, or None if it stays where it is."""
    believed_ms = round(watch.wall * 1000)
    if mark_ms is None or believed_ms >= mark_ms + ADVANCE_EVERY_S * 1000:
        return believed_ms
    return None
